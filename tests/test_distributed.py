"""Losses and diagnostics over several processes equal those of one process."""

import copy
import pickle
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

import lossgauge as lg
from lossgauge.diagnostics.moments import moments
from lossgauge.diagnostics.variance import Geometry
from lossgauge.errors import InputError
from lossgauge.losses.registry import LOSSES
from tests.support import rank_cases
from tests.support.rank_cases import OneStep, Trained, batch_of
from tests.support.ranks import Ranks, ranks


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Ranks]:
    with ranks(2, tmp_path) as group:
        yield group


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Ranks]:
    with ranks(3, tmp_path) as group:
        yield group


def assert_equals_one_process(
    group: Ranks,
    name: str,
    sizes: tuple[int, ...],
    step: Callable[..., tuple[Tensor, list[Tensor]]] = rank_cases.ddp_step,
    **settings: Any,
) -> None:
    """On every rank, value and all averaged gradients are those of one process with the whole batch."""
    model = OneStep(name, over_all_ranks=False, **settings)
    wanted = model(*batch_of(sizes))
    gradients = model.gradients(wanted)
    for value, of_rank in group.call(step, name, sizes, settings):
        torch.testing.assert_close(value, wanted.detach(), rtol=1e-12, atol=1e-12)
        for found, expected in zip(of_rank, gradients, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def assert_probed_like_one_process(group: Ranks) -> None:
    """Rows of the probe: gradients at a rank's own embeddings, and terms of the batches of all ranks."""
    batches = ((8, 5), (1, 6), (0, 7))
    model = OneStep("triplet", over_all_ranks=False)
    evaluations, norms, tangents = [], ([], []), ([], [])
    for sizes in batches:
        features, labels = batch_of(sizes)
        rows = model.embed(features)
        rows.retain_grad()
        evaluations.append(model.loss.evaluate(rows, labels))
        (evaluations[-1].value / len(batches)).backward()
        for rank, (own, gradient) in enumerate(
            zip(rows.split(sizes), rows.grad.split(sizes), strict=True)
        ):
            for row, pull in zip(own.detach(), gradient * len(batches), strict=True):
                norms[rank].append(float(pull.norm()))
                tangents[rank].append(float((pull - (pull @ row) * row).norm()))
    total = sum(map(sum, batches))
    terms = sum(e.term_count for e in evaluations)
    active = sum(e.active_count for e in evaluations)
    by_rows = [(e, sum(sizes) / total) for e, sizes in zip(evaluations, batches, strict=True)]
    weights = torch.cat([e.anchor_weight for e in evaluations])
    shared = {
        "loss_value": sum(float(e.value.detach()) for e in evaluations) / len(batches),
        "loss_factor": 1,
        "micro_batch_count": len(batches),
        "term_count": terms,
        "active_count": active,
        "term_active_ratio": active / terms,
        "skipped_anchor_ratio": sum(e.skipped_anchors for e in evaluations) / total,
        "mean_weight": float(weights.nanmean()),
        "effective_share": sum(share * e.effective_share for e, share in by_rows),
        "pull": sum(share * float(e.pull) for e, share in by_rows),
        "push": sum(share * float(e.push) for e, share in by_rows),
        "clipped_head_gradient": float(
            torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
        ),
    }
    assert shared["skipped_anchor_ratio"] > 0
    for rank, row in enumerate(group.call(rank_cases.probed, "triplet", batches)):
        own = torch.tensor(norms[rank], dtype=torch.float64)
        mean = float(own.mean())
        wanted = {
            **shared,
            "batch_size": sum(sizes[rank] for sizes in batches),
            "embedding_gradient": mean,
            "embedding_gradient_p90": float(own.quantile(0.9)),
            "tangent_gradient": sum(tangents[rank]) / len(own),
            "gradient_per_active": mean / shared["term_active_ratio"],
        }
        assert {name: row[name] for name in wanted} == pytest.approx(wanted, rel=1e-12)


def assert_same_geometry(found: Geometry, wanted: Geometry) -> None:
    for name, value in vars(wanted).items():
        if name != "per_class":
            assert getattr(found, name) == pytest.approx(value, rel=1e-12, abs=1e-12), name
    for column, values in vars(wanted.per_class).items():
        torch.testing.assert_close(
            getattr(found.per_class, column), values, rtol=1e-12, atol=1e-12, equal_nan=True
        )


@pytest.mark.process
def test_two_ranks_equal_one_process(two):
    for name in LOSSES:
        assert_equals_one_process(two, name, (8, 5), rank_cases.averaged_step)
    assert_equals_one_process(two, "triplet", (12, 0), rank_cases.averaged_step)
    ids = [
        torch.tensor([0, 2, 4, 6, 8]),
        torch.tensor([1, 3, 5, 7, 0]),
    ]  # the sampler repeats row 0
    embeddings, labels = batch_of((9,))
    wanted = lg.geometry(embeddings, labels)
    for geometry, rows in two.call(rank_cases.measured, ids, embeddings, labels):
        assert_same_geometry(geometry, wanted)
        assert torch.equal(rows[0], embeddings)
        assert torch.equal(rows[1], labels)
    assert_probed_like_one_process(two)
    errors = two.call(rank_cases.refused, "NaN")
    assert "got NaN in row 0" in errors[1]
    assert errors[0] == "the batch of rank 1 breaks a rule; the error of that rank says which one"


def test_without_a_process_group_it_is_the_loss_itself():
    features, labels = batch_of((12,))
    for name in ("triplet", "arcface"):
        alone, gathered = (OneStep(name, over_all_ranks=over) for over in (False, True))
        values = [model(features, labels) for model in (alone, gathered)]
        assert values[0] == values[1]
        for one, other in zip(
            alone.gradients(values[0]), gathered.gradients(values[1]), strict=True
        ):
            assert torch.equal(one, other)
    value = lg.distributed.gathered(lambda z, y: (z * y[:, None]).sum())(features, labels)
    assert value == (features * labels[:, None]).sum()


def test_one_process_without_a_group_drops_repeated_rows_too():
    embeddings, labels = batch_of((9,))
    ids = [3, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0]
    geometry = lg.distributed.geometry(embeddings[ids], labels[ids], ids=ids)
    assert_same_geometry(geometry, lg.geometry(embeddings, labels))
    rows, numbers = lg.distributed.all_rows(embeddings[ids], labels[ids], ids=ids)
    assert torch.equal(rows, embeddings)
    assert torch.equal(numbers, labels)
    assert lg.distributed.own_rows([5, 5, 7, 5]).tolist() == [True, False, True, False]


def test_ids_that_are_no_row_numbers_are_refused():
    embeddings, labels = batch_of((9,))
    for ids, what in (
        ([0.5] * 9, "whole number"),
        (["a"] * 9, "whole number"),
        ([1, 2], "2 ids and 9 rows"),
    ):
        with pytest.raises(InputError, match=what):
            lg.distributed.geometry(embeddings, labels, ids=ids)
    with pytest.raises(InputError, match=r"id 0 has the labels .*; give the index of each row"):
        lg.distributed.all_rows(embeddings, labels, ids=[0] * 9)
    with pytest.raises(InputError, match="no rank has rows"):
        lg.distributed.merged_moments(None)


@pytest.mark.slow
def test_three_ranks_equal_one_process(three):
    every_size = ((4, 4, 4), (1, 9, 5), (0, 7, 6), (0, 0, 11), (3, 0, 0))
    for name, reduction, sizes in product(LOSSES, ("mean", "active"), every_size):
        assert_equals_one_process(three, name, sizes, reduction=reduction)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch.compile looks at it
@pytest.mark.parametrize("step", [rank_cases.fsdp_step, rank_cases.compiled_step])
def test_it_is_exact_in_shards_and_when_compiled(step, two):
    for name in ("triplet", "n_pair", "arcface"):
        assert_equals_one_process(two, name, (7, 5), step)


@pytest.mark.slow
def test_the_evaluation_on_each_rank_is_that_of_the_whole_batch(three):
    features, labels = batch_of((5, 2, 8))
    for name in LOSSES:
        model = Trained(name, over_all_ranks=False)
        with torch.no_grad():
            wanted = model.loss.evaluate(model.embed(features), labels)
        for found in three.call(rank_cases.evaluation, name, (5, 2, 8)):
            for field, value in wanted._asdict().items():
                torch.testing.assert_close(
                    getattr(found, field), value, rtol=1e-12, atol=1e-12, equal_nan=True
                )


@pytest.mark.slow
def test_plain_ddp_trains_another_loss(three):
    """So the tests above can fail: without `gathered`, the gradient has another direction."""
    for name in LOSSES:
        model = OneStep(name, over_all_ranks=False)
        wanted = model.gradients(model(*batch_of((8, 8, 8))))[0]
        ((_, found), *_) = three.call(rank_cases.ddp_step, name, (8, 8, 8), {}, False)
        cosine = cosine_similarity(found[0].flatten(), wanted.flatten(), dim=0)
        # the terms of ArcFace and CCL are samples: their mean is the mean of equal parts
        assert (cosine > 1 - 1e-12) == (name in rank_cases.OWN_ROWS), (name, float(cosine))


@pytest.mark.slow
def test_a_function_and_unequal_factors_have_the_exact_gradient_too(three):
    """Each rank multiplies its value by 1 + rank: the sum of the gradients is that of 6 × the loss."""
    sizes = (4, 6, 3)
    found = three.call(rank_cases.function_loss, sizes)
    model = OneStep("triplet", over_all_ranks=False)
    features, labels = batch_of(sizes)
    rows = model.embed(features)
    value = ((rows @ rows.T) ** 3)[labels[:, None] == labels].mean()
    wanted = model.gradients(value * 6)
    for rank, (of_rank, gradients) in enumerate(found):
        torch.testing.assert_close(of_rank, value.detach() * (1 + rank), rtol=1e-12, atol=1e-12)
        for one, other in zip(gradients, wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_half_precision_is_exchanged_as_it_is(two):
    value, gradient = two.call(rank_cases.half_precision, "scl", (6, 6))[0]
    model = OneStep("scl", over_all_ranks=False)
    features, labels = batch_of((6, 6))
    wanted = model.loss(model.embed(features).bfloat16(), labels)
    torch.testing.assert_close(value, wanted.detach(), rtol=1e-5, atol=0)
    assert gradient.dtype == torch.float64


FAULTS = {
    "NaN": ("got NaN in row 0", "the batch of rank 1 breaks a rule"),
    "labels": ("3 embeddings and 2 labels", "the batch of rank 1 breaks a rule"),
    "no rows": ("a rank without rows has no labels, got 3", "the batch of rank 1"),
    "width": ("got the widths [6, 2]",) * 2,
    "type": ("one type, got torch.float64, torch.float32; use autocast",) * 2,
    "ids": ("id 1 has the labels 0 and 1",) * 2,
    "geometry": ("rank 1: moments hold squares in float64",) * 2,
    "parameters": ("those of rank 1 differ from rank 0; put the loss into",) * 2,
}
"""What rank 1 does wrong → its error, and that of rank 0."""


@pytest.mark.slow
def test_what_one_rank_does_wrong_is_an_error_on_every_rank(two):
    for fault, (on_rank_1, on_rank_0) in FAULTS.items():
        first, second = two.call(rank_cases.refused, fault)
        assert on_rank_1 in second
        assert on_rank_0 in first


@pytest.mark.slow
def test_merged_geometry_and_rows_are_those_of_one_process(three):
    for sizes in ((20, 20, 20), (1, 40, 7), (0, 30, 5)):
        batch = batch_of(sizes)
        wanted, recall = lg.geometry(*batch), lg.retrieval(*batch).recall_at
        for geometry, rows in three.call(rank_cases.measured_without_ids, sizes, *batch):
            assert_same_geometry(geometry, wanted)
            assert lg.retrieval(*rows).recall_at == recall


def test_a_mean_over_ranks_is_another_number():
    """So the test above can fail: averaged, the variance inside classes is too small."""
    embeddings, labels = batch_of((20, 20, 20))
    parts = zip(embeddings.split(20), labels.split(20), strict=True)
    mean = sum(lg.geometry(*part).intra for part in parts) / 3
    assert mean < 0.95 * lg.geometry(embeddings, labels).intra


@pytest.mark.slow
def test_the_padding_of_the_usual_sampler_is_dropped(three):
    from torch.utils.data import DistributedSampler

    embeddings, labels = batch_of((100,))
    ids = [
        torch.tensor(list(DistributedSampler(range(100), 3, rank, shuffle=True)))
        for rank in range(3)
    ]
    assert sum(map(len, ids)) == 102
    wanted = lg.geometry(embeddings, labels)
    for geometry, (rows, numbers) in three.call(rank_cases.measured, ids, embeddings, labels):
        assert geometry.sample_count == 100
        assert_same_geometry(geometry, wanted)
        assert torch.equal(rows, embeddings)
        assert torch.equal(numbers, labels)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["info_nce", "relaxed"])
def test_evaluations_of_the_own_losses_are_merged(three, name):
    """Pull and push are compared with the gradients of the mean of three losses; counts are added up."""
    sizes = (6, 9, 5)
    found = three.call(rank_cases.own_evaluations_merged, name, sizes)
    model = Trained(name, over_all_ranks=False)
    features, labels = batch_of(sizes)
    rows = model.embed(features).detach()
    parts = [
        model.loss.evaluate(*part)
        for part in zip(rows.split(sizes), labels.split(sizes), strict=True)
    ]
    for merged in found:
        torch.testing.assert_close(merged.value, sum(part.value for part in parts) / 3)
        for count in ("term_count", "active_count", "skipped_anchors"):
            assert getattr(merged, count) == sum(getattr(part, count) for part in parts)
        for anchors in ("anchor_value", "anchor_weight"):
            joined = torch.cat([getattr(part, anchors) for part in parts])
            torch.testing.assert_close(getattr(merged, anchors), joined, equal_nan=True)
        for force in ("pull", "push"):
            by_row = [
                getattr(part, force) / 3 * size for part, size in zip(parts, sizes, strict=True)
            ]
            torch.testing.assert_close(getattr(merged, force), sum(by_row) / 20)
        assert merged.effective_share is None
        anchors = [int((~part.anchor_value.isnan()).sum()) for part in parts]
        for column in parts[0].columns:
            counts = [
                part.columns[column] * count for part, count in zip(parts, anchors, strict=True)
            ]
            assert merged.columns[column] == pytest.approx(sum(counts) / sum(anchors))
        assert merged.columns.keys() == parts[0].columns.keys()


@pytest.mark.parametrize("name", ["info_nce", "relaxed"])
def test_an_evaluation_can_be_copied_and_sent(name):
    found = lg.load_loss(name).evaluate(*batch_of((9,)))
    for same in (copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
        assert same.columns == found.columns
        torch.testing.assert_close(same.anchor_value, found.anchor_value, equal_nan=True)


def test_moments_of_one_process_are_their_own_merge():
    of = moments(*batch_of((9,)))
    merged = lg.distributed.merged_moments(of)
    assert all(torch.equal(one, other) for one, other in zip(of, merged, strict=True))

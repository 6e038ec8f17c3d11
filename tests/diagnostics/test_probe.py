"""The probe in a training loop of somebody's own."""

import pytest
import torch

from lossgauge.diagnostics.probe import Probe
from lossgauge.errors import InputError
from lossgauge.losses.registry import load_loss
from lossgauge.types import Evaluation, Step


def run_steps(probe, loss, *, steps, first=0, scale=1.0):
    for number in range(first, steps):
        generator = torch.Generator().manual_seed(number)
        rows = torch.nn.functional.normalize(torch.randn(12, 4, generator=generator)) * 1.0
        rows.requires_grad_()
        embeddings = rows * 1.0
        embeddings.retain_grad()
        labels = torch.arange(12) % 3
        evaluation = (
            loss.evaluate(embeddings, labels)
            if hasattr(loss, "evaluate")
            else Evaluation(loss(embeddings, labels))
        )
        (evaluation.value * scale).backward()
        own = tuple(loss.parameters()) if hasattr(loss, "parameters") else ()
        probe(Step(number, 1, evaluation, embeddings, (), own))
        yield embeddings.grad.norm(dim=1)


def test_a_row_holds_what_the_step_shows():
    torch.manual_seed(0)
    probe, loss = Probe(), load_loss("arcface", class_count=3, embedding_size=4)
    norms = next(run_steps(probe, loss, steps=1))
    row = probe.rows[0]
    assert row["embedding_gradient"] == pytest.approx(float(norms.mean()))
    assert row["embedding_gradient_p50"] == pytest.approx(float(norms.quantile(0.5)))
    assert row["loss_gradient"] == pytest.approx(float(loss.proxies.grad.norm()))
    assert row["head_gradient"] is None
    assert row["term_count"] == 12
    assert row["gradient_per_active"] == pytest.approx(
        row["embedding_gradient"] / row["term_active_ratio"]
    )


def test_gradient_active_ratios_of_the_first_ten_steps_are_filled_in_when_the_start_is_known():
    probe, loss = Probe(), load_loss("triplet")
    norms = list(run_steps(probe, loss, steps=12))
    start = torch.cat(norms[:10])
    start = start[start > 0].median()
    for row, of_step in zip(probe.rows, norms, strict=True):
        assert row["gradient_active_ratio_high"] == float((of_step > 0.1 * start).double().mean())


def test_a_run_of_fewer_than_ten_steps_gets_its_ratios_at_the_end():
    probe = Probe()
    list(run_steps(probe, load_loss("triplet"), steps=3))
    assert "gradient_active_ratio" not in probe.rows[0]
    probe.finish()
    assert probe.rows[0]["gradient_active_ratio"] is not None


@pytest.mark.parametrize("at", [4, 11, 13])
def test_a_probe_put_down_and_taken_up_again_gives_the_same_rows(at):
    whole, loss = Probe(), load_loss("info_nce")
    list(run_steps(whole, loss, steps=14))
    first = Probe()
    for _ in run_steps(first, loss, steps=at):
        assert first.rows  # asked for at each step, or many steps together: the same bits
    second = Probe()
    second.resume(first.rows, first.state())
    list(run_steps(second, loss, steps=14, first=at))
    assert second.rows == whole.rows


def test_of_a_black_box_the_gradient_side_is_known_and_the_rest_is_none():
    probe = Probe()
    list(run_steps(probe, lambda z, y: z.square().sum(), steps=10))
    row = probe.rows[0]
    assert row["gradient_active_ratio"] == 1
    assert row["embedding_gradient"] == pytest.approx(2)
    assert row["tangent_gradient"] == pytest.approx(0, abs=1e-6)
    for name in ("term_count", "term_active_ratio", "mean_weight", "pull", "skipped_anchor_ratio"):
        assert row[name] is None


def test_half_precision_gradients_are_taken():
    probe = Probe()
    rows = torch.nn.functional.normalize(torch.randn(6, 4)).bfloat16().requires_grad_()
    embeddings = rows * 1
    embeddings.retain_grad()
    evaluation = load_loss("triplet").evaluate(embeddings, torch.arange(6) % 2)
    evaluation.value.backward()
    probe(Step(0, 1, evaluation, embeddings, (), ()))
    assert probe.rows[0]["embedding_gradient"] > 0


def lone_sample_batch():
    """Seven samples of three classes and one that is alone in its class."""
    generator = torch.Generator().manual_seed(3)
    rows = torch.nn.functional.normalize(torch.randn(8, 4, generator=generator))
    return rows, torch.tensor([0, 1, 2, 0, 1, 2, 0, 3])


def observed(loss, rows, labels, *, probe=None, parameters=()):
    probe = probe or Probe()
    embeddings = rows.clone().requires_grad_()
    evaluation = loss.evaluate(embeddings, labels)
    evaluation.value.backward()
    probe(Step(len(probe.rows), 1, evaluation, embeddings, parameters, ()))
    return probe.rows[-1], evaluation


@pytest.mark.parametrize("name", ["scl", "info_nce", "triplet"])
def test_a_lone_sample_is_one_skipped_anchor_of_the_batch_and_has_no_weight(name):
    rows, labels = lone_sample_batch()
    row, evaluation = observed(load_loss(name), rows, labels)
    assert row["skipped_anchor_ratio"] == 1 / 8
    weights = [float(w) for w in evaluation.anchor_weight if not w.isnan()]
    assert len(weights) == 7
    assert row["mean_weight"] == pytest.approx(sum(weights) / 7)


def test_the_gradient_of_a_head_is_the_norm_of_all_its_parameters_together():
    probe, (rows, labels) = Probe(), lone_sample_batch()
    weight, bias, unused = torch.zeros(2, 3), torch.zeros(3), torch.zeros(5)
    weight.grad, bias.grad = torch.full((2, 3), 2.0), torch.tensor([0.0, 5.0, 0.0])
    row, _ = observed(
        load_loss("scl"), rows, labels, probe=probe, parameters=(weight, bias, unused)
    )
    assert row["head_gradient"] == pytest.approx((6 * 4 + 25) ** 0.5)
    assert row["loss_gradient"] is None


def test_batches_of_several_sizes_are_taken_one_after_the_other():
    rows, labels = lone_sample_batch()
    probe = Probe()
    for size in (8, 8, 5, 8, 3):
        embeddings = rows[:size].clone().requires_grad_()
        evaluation = load_loss("scl").evaluate(embeddings, labels[:size])
        evaluation.value.backward()
        probe(Step(0, 1, evaluation, embeddings, (), ()))
    alone = [observed(load_loss("scl"), rows[:size], labels[:size])[0] for size in (8, 8, 5, 8, 3)]
    names = ("loss_value", "embedding_gradient", "embedding_gradient_p90", "skipped_anchor_ratio")
    for row, wanted in zip(probe.rows, alone, strict=True):
        assert {name: row[name] for name in names} == {name: wanted[name] for name in names}


def test_the_start_gradient_is_taken_over_ten_steps_and_no_other_number():
    probe = Probe()
    sizes = [1.0] * 4 + [1000.0] * 5 + [2.0] + [1000.0]
    for number, size in enumerate(sizes):
        embeddings = torch.ones(4, 2).requires_grad_()
        embeddings.grad = torch.full((4, 2), size)
        probe(Step(number, 1, Evaluation(torch.tensor(1.0)), embeddings, (), ()))
    probe.finish()
    # the lower median of ten steps is 2, of nine and of eleven 1,000
    assert probe.start == pytest.approx(2 * 2**0.5)


@pytest.mark.parametrize("size", [9, 10, 11])
def test_ratios_wait_for_the_tenth_step(size):
    probe, loss = Probe(), load_loss("triplet")
    list(run_steps(probe, loss, steps=size))
    assert ("gradient_active_ratio" in probe.rows[0]) == (size >= 10)


@pytest.mark.parametrize(
    "embeddings",
    [
        torch.ones(4, requires_grad=True),
        torch.ones(0, 3, requires_grad=True),
        torch.ones(4, 3, dtype=torch.int64),
        torch.ones(4, 3).to_sparse(),
        torch.ones(4, 3, device="meta"),
        [[1.0, 2.0]],
    ],
)
def test_embeddings_of_a_step_that_are_no_rows_of_floats_are_refused(embeddings):
    with pytest.raises(InputError, match="embeddings of a step must be"):
        Probe()(Step(0, 1, Evaluation(torch.tensor(1.0)), embeddings, (), ()))

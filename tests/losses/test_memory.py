"""Pair losses with a memory: against loops, against queries × documents, and against pytorch-metric-learning's CrossBatchMemory."""

import pytest
import torch
from pytorch_metric_learning.distances import DotProductSimilarity, LpDistance
from pytorch_metric_learning.losses import (
    CrossBatchMemory,
    MultiSimilarityLoss,
    NTXentLoss,
    SupConLoss,
    TripletMarginLoss,
)
from pytorch_metric_learning.reducers import MeanReducer

from lossgauge.errors import InputError
from lossgauge.losses.pairs import PairLoss, memory_masks
from lossgauge.losses.registry import ALL_LOSSES, load_loss, loss_class
from lossgauge.memory import Memory
from tests.losses.cases import BATCHES, make_batch
from tests.losses.test_pairs import SLOW

TAKING = [
    name
    for name in ALL_LOSSES
    if issubclass(loss_class(name), PairLoss) and loss_class(name).square_form
]


def make_remembered(*, unit=True, seed=0, labels="two classes"):
    """A batch with the numbers of its rows, and a memory of 8 rows: three of them are earlier embeddings of rows of the batch."""
    embeddings, classes = make_batch(BATCHES[labels], seed=seed, unit=unit)
    stored, stored_classes = make_batch([0, 1, 0, 2, 1, 0, 2, 1], seed=seed + 1, unit=unit)
    rows = torch.arange(len(classes))
    stored_rows = torch.arange(100, 108)
    stored_rows[:3] = torch.tensor([4, 0, 6])
    stored_classes[:3] = classes[stored_rows[:3]]
    return embeddings, classes, rows, Memory(stored, stored_classes, stored_rows)


def slow_masks(classes, rows, memory):
    """A sample is not compared with itself, and not with its own earlier embedding."""
    names = [*zip(range(len(rows)), rows.tolist(), strict=True)]
    every = [(place, row, c) for (place, row), c in zip(names, classes.tolist(), strict=True)]
    stored = [
        (None, *one) for one in zip(memory.rows.tolist(), memory.labels.tolist(), strict=True)
    ]
    masks = torch.zeros(2, len(every), len(every) + len(stored), dtype=torch.bool)
    for i, (place, row, own) in enumerate(every):
        for j, (other_place, other_row, other) in enumerate(every + stored):
            itself = place == other_place if other_place is not None else row == other_row
            masks[0, i, j] = own == other and not itself
            masks[1, i, j] = own != other
    return masks


@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("name", SLOW)
def test_value_gradient_and_counts_are_those_of_the_loop(name, unit):
    loss = load_loss(name)
    embeddings, classes, rows, memory = make_remembered(unit=unit)
    leaf = embeddings.clone().requires_grad_()
    masks = slow_masks(classes, rows, memory)
    terms = torch.stack(SLOW[name](leaf, torch.cat((leaf, memory.embeddings)), *masks))
    active = int((terms > loss.tolerance).sum())
    for reduction, count in (("mean", len(terms)), ("active", active)):
        loss.reduction = reduction
        wanted = terms.sum() / count
        (wanted_gradient,) = torch.autograd.grad(wanted, leaf, retain_graph=True)
        given = embeddings.clone().requires_grad_()
        found = loss.evaluate_with_memory(given, classes, rows, memory)
        torch.testing.assert_close(found.value, wanted, rtol=1e-10, atol=1e-12)
        (gradient,) = torch.autograd.grad(found.value, given)
        torch.testing.assert_close(gradient, wanted_gradient, rtol=1e-8, atol=1e-11)
        assert (found.term_count, found.active_count) == (len(terms), active)
        assert len(found.anchor_value) == len(found.anchor_weight) == len(embeddings)


def test_pull_and_push_are_the_forces_at_the_rows_of_the_batch():
    embeddings, classes, rows, memory = make_remembered()
    leaf = embeddings.clone().requires_grad_()
    positive, negative = slow_masks(classes, rows, memory)
    columns = torch.cat((leaf, memory.embeddings))
    none = torch.zeros_like(positive)
    count = int((positive | negative).sum())
    found = load_loss("contrastive").evaluate_with_memory(embeddings, classes, rows, memory)
    for part, masks in ((found.pull, (positive, none)), (found.push, (none, negative))):
        total = torch.stack(SLOW["contrastive"](leaf, columns, *masks)).sum() / count
        (force,) = torch.autograd.grad(total, leaf, retain_graph=True)
        torch.testing.assert_close(part, force.norm(dim=1).mean())


@pytest.mark.parametrize("name", TAKING)
def test_it_is_the_loss_of_queries_and_documents_with_constant_documents_behind_the_batch(name):
    loss = load_loss(name).double()
    embeddings, classes, rows, memory = make_remembered()
    left, right = (embeddings.clone().requires_grad_() for _ in range(2))
    documents = torch.cat((right, memory.embeddings))
    pairs = loss.evaluate_pairs(left, documents, *slow_masks(classes, rows, memory))
    parameters = list(loss.parameters())
    wanted = torch.autograd.grad(pairs.value, [left, right, *parameters])
    given = embeddings.clone().requires_grad_()
    found = loss.evaluate_with_memory(given, classes, rows, memory)
    got = torch.autograd.grad(found.value, [given, *parameters])
    torch.testing.assert_close(found.value, pairs.value)
    torch.testing.assert_close(got[0], wanted[0] + wanted[1], rtol=1e-8, atol=1e-11)
    torch.testing.assert_close(got[1:], wanted[2:])
    for field in ("anchor_value", "anchor_weight"):
        torch.testing.assert_close(getattr(found, field), getattr(pairs, field), equal_nan=True)
    for field in ("term_count", "active_count", "skipped_anchors", "effective_share", "columns"):
        assert getattr(found, field) == pytest.approx(getattr(pairs, field), nan_ok=True)


@pytest.mark.parametrize("name", TAKING)
def test_with_an_empty_memory_it_is_the_loss_of_the_batch(name):
    embeddings, classes = make_batch(BATCHES["with lone samples"])
    loss = load_loss(name).double()
    found, wanted = [], []
    for part, evaluate in (
        (wanted, loss.evaluate),
        (
            found,
            lambda z, y: loss.evaluate_with_memory(
                z, y, torch.arange(len(y)), Memory.without_rows(z)
            ),
        ),
    ):
        leaf = embeddings.clone().requires_grad_()
        evaluation = evaluate(leaf, classes)
        part += [evaluation.value, *torch.autograd.grad(evaluation.value, leaf)]
        part += [evaluation.pull, evaluation.push, evaluation.anchor_value.nan_to_num()]
    torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-11)


DOT = DotProductSimilarity(normalize_embeddings=False)
PEERS = {
    "info_nce": lambda: NTXentLoss(0.1, distance=DOT),
    "scl": lambda: SupConLoss(0.1, distance=DOT, reducer=MeanReducer()),
    "triplet": lambda: TripletMarginLoss(
        0.2, distance=LpDistance(power=2, normalize_embeddings=False), reducer=MeanReducer()
    ),
    "multi_similarity": lambda: MultiSimilarityLoss(distance=DOT, reducer=MeanReducer()),
}


@pytest.mark.parametrize("name", PEERS)
def test_value_and_gradient_are_those_of_pytorch_metric_learning(name):
    """Its memory has the batch too, so it holds that many rows more; it also gives no gradient to the batch's own columns."""
    size, stored = 8, 16
    loss, memory = load_loss(name), None
    theirs = CrossBatchMemory(PEERS[name](), 6, memory_size=stored + size)
    for step in range(5):
        embeddings, classes = make_batch([0, 0, 1, 1, 1, 2, 2, 2], seed=step)
        rows = torch.arange(size) + size * step
        memory = memory or Memory.without_rows(embeddings)
        leaf, at_rows, both, ours = (embeddings.clone().requires_grad_() for _ in range(4))
        wanted = theirs(leaf, classes)
        found = loss.evaluate_with_memory(ours, classes, rows, memory)
        torch.testing.assert_close(found.value, wanted)
        # their gradient is the part of ours at the rows
        masks = memory_masks(classes, rows, memory)
        columns = torch.cat((embeddings, memory.embeddings))
        of_rows = loss.evaluate_pairs(at_rows, columns, *masks).value
        torch.testing.assert_close(
            *(
                torch.autograd.grad(value, at)[0]
                for value, at in ((of_rows, at_rows), (wanted, leaf))
            )
        )
        # and the whole is that of their loss where the batch's columns have a gradient
        wanted = PEERS[name]()(
            both,
            classes,
            indices(masks),
            torch.cat((both, memory.embeddings)),
            torch.cat((classes, memory.labels)),
        )
        torch.testing.assert_close(
            *(
                torch.autograd.grad(value, at)[0]
                for value, at in ((found.value, ours), (wanted, both))
            )
        )
        memory = memory.after(embeddings, classes, rows, size=stored)
    assert len(memory.rows) == stored


def indices(masks):
    """The pairs of two masks, as that library names them."""
    return tuple(place for mask in masks for place in mask.nonzero(as_tuple=True))


@pytest.mark.parametrize(
    "loss", [load_loss("gist"), load_loss("smooth_ap", include_self=True)], ids=["gist", "self"]
)
def test_a_loss_that_cannot_use_a_memory_says_what_it_would_need(loss):
    embeddings, classes, rows, memory = make_remembered()
    with pytest.raises(InputError, match="cannot use a memory: it needs a loss that weights pairs"):
        loss.evaluate_with_memory(embeddings, classes, rows, memory)

"""Drawn terms: one pair or triplet for each anchor, where the other losses take all terms of the batch."""

import pytest
import torch

from lossgauge.errors import InputError
from lossgauge.losses.contrastive import Contrastive
from lossgauge.losses.registry import LOSSES, drawn_terms
from lossgauge.losses.triplet import Triplet
from tests.losses.cases import make_batch

PARTS = {"pair": 2, "triplet": 3}


def make_terms(kind, *, anchors=24, seed=0, unit=True):
    """Embeddings part after part, and their labels, a column for each term."""
    parts = PARTS[kind]
    rows, _ = make_batch([0] * (parts * anchors), seed=seed, unit=unit)
    first = torch.arange(anchors) % 3
    if kind == "pair":
        return rows, torch.stack([first, (first + torch.arange(anchors) // 3 % 2) % 3])
    return rows, torch.stack([first, first, (first + 1) % 3])


def slow_pairs(rows, labels, margin):
    terms = []
    for left, right, a, b in zip(*rows.unflatten(0, (2, -1)), *labels, strict=True):
        squared = (left - right).square().sum()
        terms.append(squared if a == b else (margin - squared.sqrt()).clamp(min=0).square())
    return terms


def slow_triplets(rows, labels, margin, power):
    terms = []
    for anchor, positive, negative in zip(*rows.unflatten(0, (3, -1)), strict=True):
        near, far = (anchor - positive).norm(), (anchor - negative).norm()
        terms.append((near**power - far**power + margin).clamp(min=0))
    return terms


@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize(
    ("kind", "loss", "slow"),
    [
        ("pair", Contrastive(margin=1.2), lambda r, y: slow_pairs(r, y, 1.2)),
        ("triplet", Triplet(margin=0.2), lambda r, y: slow_triplets(r, y, 0.2, 2)),
        ("triplet", Triplet(margin=0.2, power=1), lambda r, y: slow_triplets(r, y, 0.2, 1)),
    ],
)
@pytest.mark.parametrize("reduction", ["mean", "active"])
def test_the_loss_of_drawn_terms_is_that_of_a_loop_over_them(kind, loss, slow, reduction, unit):
    rows, labels = make_terms(kind, unit=unit)
    loss.reduction = reduction
    leaf = rows.clone().requires_grad_()
    terms = torch.stack(slow(leaf, labels))
    active = int((terms > loss.tolerance).sum())
    assert 0 < active < len(terms)
    wanted = terms.sum() / (len(terms) if reduction == "mean" else active)
    (wanted_gradient,) = torch.autograd.grad(wanted, leaf)
    given = rows.clone().requires_grad_()
    evaluation = loss.evaluate_drawn(given, labels)
    (gradient,) = torch.autograd.grad(evaluation.value, given)
    torch.testing.assert_close(evaluation.value, wanted)
    torch.testing.assert_close(gradient, wanted_gradient)
    assert (evaluation.term_count, evaluation.active_count) == (len(terms), active)
    assert evaluation.skipped_anchors == 0
    anchors = evaluation.anchor_value[: labels.shape[1]]
    torch.testing.assert_close(anchors, terms.detach())
    assert evaluation.anchor_value[labels.shape[1] :].isnan().all()


def test_weights_of_drawn_terms_are_those_of_the_terms():
    rows, labels = make_terms("triplet")
    terms = torch.stack(slow_triplets(rows, labels, 0.2, 2))
    weight = Triplet(margin=0.2).evaluate_drawn(rows, labels).anchor_weight
    torch.testing.assert_close(weight[: len(terms)], (terms > 0).double())
    rows, labels = make_terms("pair")
    distances = (rows[:24] - rows[24:]).norm(dim=1)
    weight = Contrastive(margin=1.2).evaluate_drawn(rows, labels).anchor_weight
    wanted = torch.where(
        labels[0] == labels[1], distances / 2, (1.2 - distances).clamp(min=0) / 1.2
    )
    torch.testing.assert_close(weight[:24], wanted)


@pytest.mark.parametrize("kind", PARTS)
def test_pull_and_push_of_drawn_terms_are_the_parts_of_their_gradient(kind):
    """With the distances to negatives held the gradient is the pull, with those to positives held the push."""
    rows, labels = make_terms(kind)
    loss = Contrastive(margin=1.2) if kind == "pair" else Triplet(margin=0.2)
    parts = []
    for held in ("negative", "positive"):
        leaf = rows.clone().requires_grad_()
        split = leaf.unflatten(0, (PARTS[kind], -1))
        terms = []
        for column in range(labels.shape[1]):
            anchor = split[0, column]
            others = {
                "positive" if labels[part, column] == labels[0, column] else "negative": (
                    anchor - split[part, column]
                )
                .square()
                .sum()
                for part in range(1, len(labels))
            }
            squared = {k: v.detach() if k == held else v for k, v in others.items()}
            if kind == "triplet":
                terms.append((squared["positive"] - squared["negative"] + 0.2).clamp(min=0))
            elif "positive" in squared:
                terms.append(squared["positive"])
            else:
                terms.append((1.2 - squared["negative"].sqrt()).clamp(min=0).square())
        (part,) = torch.autograd.grad(torch.stack(terms).mean(), leaf)
        parts.append(part.norm(dim=1).mean().item())
    evaluation = loss.evaluate_drawn(rows, labels)
    assert [evaluation.pull.item(), evaluation.push.item()] == pytest.approx(parts)


def test_the_effective_share_is_of_the_drawn_pairs():
    rows, labels = make_terms("triplet")
    active = int((torch.stack(slow_triplets(rows, labels, 0.2, 2)) > 0).sum())
    evaluation = Triplet(margin=0.2).evaluate_drawn(rows, labels)
    # squared, every active triplet has weight 1 on its two pairs
    assert evaluation.effective_share == pytest.approx(active / labels.shape[1])


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_that_needs_a_whole_batch_is_refused_with_those_that_do_not(name):
    kinds = {"contrastive": "pair", "triplet": "triplet"}
    if name in kinds:
        assert drawn_terms(name) == kinds[name]
        return
    with pytest.raises(
        InputError, match=rf"{name} needs a whole batch; use contrastive or triplet"
    ):
        drawn_terms(name)

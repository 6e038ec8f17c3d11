"""NSCL, DCL, relaxed contrastive learning and SigLIP: loops over every term, of labels and of queries × documents, and peers."""

import math

import pytest
import torch
import torch.nn.functional as F

from lossgauge.losses.dcl import DCL
from lossgauge.losses.info_nce import InfoNCE
from lossgauge.losses.nscl import NSCL
from lossgauge.losses.pairs import pair_masks
from lossgauge.losses.relaxed import PENALTY, Relaxed
from lossgauge.losses.siglip import SigLIP
from tests.losses.cases import BATCHES, assert_agrees, make_batch
from tests.losses.test_pairs import assert_pairs_agree, make_pairs

TAU = 0.2


def of_labels(slow):
    """A loop over queries × documents as a loop over a batch: its rows are both, without the diagonal."""
    return lambda rows, labels: slow(rows, rows, *pair_masks(labels))


def chosen(mask):
    return mask.nonzero().flatten().tolist()


def slow_nscl(q, d, positive, negative):
    terms = []
    for i in range(len(q)):
        rest = [(q[i] @ d[n] / TAU).exp() for n in chosen(negative[i])]
        if rest:
            terms += [sum(rest).log() - q[i] @ d[p] / TAU for p in chosen(positive[i])]
    return terms


def slow_dcl(q, d, positive, negative):
    terms = []
    for i in range(len(q)):
        for p in chosen(positive[i]):
            others = [a for a in chosen(positive[i] | negative[i]) if a != p]
            if others:
                rest = sum((q[i] @ d[a] / TAU).exp() for a in others)
                terms.append(rest.log() - q[i] @ d[p] / TAU)
    return terms


def slow_siglip(q, d, positive, negative, log_scale, offset):
    terms = []
    for i in range(len(q)):
        for j in chosen(positive[i] | negative[i]):
            y = 1 if positive[i, j] else -1
            terms.append((1 + (-y * (log_scale.exp() * (q[i] @ d[j]) + offset)).exp()).log())
    return terms


# their terms may be negative, and all of them count as active
@pytest.mark.parametrize(
    ("loss", "slow"),
    [(NSCL(temperature=TAU), slow_nscl), (DCL(temperature=TAU), slow_dcl)],
    ids=["nscl", "dcl"],
)
def test_losses_with_full_weight_are_their_loops(loss, slow):
    loss.tolerance = -math.inf  # for the loop's count of active terms
    for labels in BATCHES.values():
        assert_agrees(loss, of_labels(slow), make_batch(labels))
    assert_pairs_agree(loss, slow, make_pairs())
    weights = loss.evaluate(*make_batch(BATCHES["balanced"])).anchor_weight
    assert (weights == 1).all()


def test_info_nce_has_the_gradient_of_nscl_times_its_weight_for_each_pair():
    embeddings, labels = make_batch(BATCHES["unbalanced"])
    masks = pair_masks(labels)
    matrix = embeddings @ embeddings.T
    for i, p in masks[0].nonzero().tolist():
        one = torch.zeros_like(masks[0])
        one[i, p] = True
        info_nce, nscl = (
            made(temperature=TAU).terms(matrix, one, masks[1]) for made in (InfoNCE, NSCL)
        )
        torch.testing.assert_close(info_nce.gradient, nscl.gradient * info_nce.weight[i])


def test_dcl_is_nscl_with_one_positive_for_each_anchor_and_above_it_with_more():
    embeddings, labels = make_batch([0, 0, 1, 1, 2, 2])
    nscl, dcl = NSCL(temperature=TAU), DCL(temperature=TAU)
    torch.testing.assert_close(dcl(embeddings, labels), nscl(embeddings, labels))
    embeddings, labels = make_batch(BATCHES["balanced"])
    assert dcl(embeddings, labels) > nscl(embeddings, labels)


def test_dcl_keeps_its_digits_where_one_positive_has_nearly_all_of_the_sum():
    generator = torch.Generator().manual_seed(0)
    rows = F.normalize(torch.randn(12, 8, dtype=torch.float64, generator=generator))
    labels = torch.tensor([0, 0, 0, 1, 1, 1] * 2)
    rows[1] = rows[0]  # at τ = 0.0002 its share of the sum rounds to 1
    found = DCL(temperature=0.0002).evaluate(rows.float(), labels)
    wanted = DCL(temperature=0.0002).evaluate(rows, labels)
    torch.testing.assert_close(found.value.double(), wanted.value, rtol=1e-5, atol=0)


@pytest.mark.parametrize("made", [NSCL, DCL])
def test_no_batch_of_unit_vectors_is_below_the_floor(made):
    _, labels = make_batch(BATCHES["unbalanced"])
    loss = made(temperature=TAU)
    corners = F.normalize(torch.eye(4, dtype=torch.float64) - 0.25)[labels]
    assert loss.floor(labels) <= loss(corners, labels)
    assert NSCL(temperature=TAU).floor(torch.zeros(3, dtype=torch.long)) == 0


def slow_relaxed(q, d, positive, negative, *, threshold, beta=0.5, hardest=False):
    """The terms of InfoNCE, scaled so that their mean is the whole value, penalty included."""
    terms, penalties = [], []
    for i in range(len(q)):
        right, wrong = chosen(positive[i]), chosen(negative[i])
        if not right:
            continue
        least = min(right, key=lambda p: (q[i] @ d[p]).item())
        if hardest:
            right = [least]
            wrong = sorted(wrong, key=lambda n: -(q[i] @ d[n]).item())[:2]
        rest = sum((q[i] @ d[n] / TAU).exp() for n in wrong)
        terms += [torch.log(1 + rest / (q[i] @ d[p] / TAU).exp()) for p in right]
        s = q[i] @ d[least]
        penalties.append(torch.log(1 + ((s - 1) / TAU).exp()) * (s >= threshold))
    mean = torch.stack(terms).mean() + beta * torch.stack(penalties).mean()
    return mean, sum(p > 0 for p in penalties) / len(penalties)


@pytest.mark.parametrize("mining", ["all", "hardest"])
@pytest.mark.parametrize("form", ["labels", "pairs"])
def test_relaxed_is_its_loop(mining, form):
    threshold = {"labels": 0.2, "pairs": -0.5}[form]  # between the least similar positives
    loss = Relaxed(penalty_weight=0.5, threshold=threshold, temperature=TAU, mining=mining)
    if form == "pairs":
        queries, documents, *masks = make_pairs()
    else:
        queries, labels = make_batch(BATCHES["with lone samples"])
        documents, masks = queries, pair_masks(labels)
    sides = [queries.clone().requires_grad_(), documents.clone().requires_grad_()]
    wanted, share = slow_relaxed(*sides, *masks, threshold=threshold, hardest=mining == "hardest")
    wanted_gradient = torch.autograd.grad(wanted, sides)
    evaluation = loss.evaluate_pairs(*sides, *masks)
    gradient = torch.autograd.grad(evaluation.value, sides)
    torch.testing.assert_close(evaluation.value, wanted, rtol=1e-13, atol=0)
    torch.testing.assert_close(gradient, wanted_gradient, rtol=1e-11, atol=1e-14)
    assert 0 < evaluation.columns[PENALTY] < 1
    assert evaluation.columns[PENALTY] == pytest.approx(float(share))


def test_the_penalty_of_relaxed_is_zero_below_its_threshold_and_pushes_above_it():
    rows = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 1])
    plain = InfoNCE(temperature=TAU).evaluate(rows, labels)
    off = Relaxed(temperature=TAU, threshold=0.801).evaluate(rows, labels)
    on = Relaxed(temperature=TAU, threshold=0.799).evaluate(rows, labels)
    assert (off.value, off.pull, off.push) == (plain.value, plain.pull, plain.push)
    assert off.columns[PENALTY] == 0
    assert on.columns[PENALTY] == 1
    assert on.value.item() - plain.value.item() == pytest.approx(math.log1p(math.exp(-0.2 / TAU)))
    assert on.pull == plain.pull
    # both anchors push the pair apart: σ((s − 1)/τ)/τ each, over two anchors; at rows 0 and 1
    force = 1 / (1 + math.exp(0.2 / TAU)) / TAU
    away = torch.stack([force * rows[1], force * rows[0], 0 * rows[0]])
    similarity = rows @ rows.T
    positive, negative = pair_masks(labels)
    terms = InfoNCE(temperature=TAU).terms(similarity, positive, negative)
    at_negatives = terms.gradient.masked_fill(positive, 0) / 2
    push = (at_negatives + at_negatives.T) @ rows + away
    assert on.push.item() == pytest.approx(push.norm(dim=1).mean().item())


def test_siglip_is_its_loop_with_its_parameters():
    loss = SigLIP(scale=3.0, bias=-1.0).double()
    parameters = list(loss.parameters())
    slow = lambda *pairs: slow_siglip(*pairs, *parameters)  # noqa: E731
    for labels in BATCHES.values():
        assert_agrees(loss, of_labels(slow), make_batch(labels))
    assert_pairs_agree(loss, slow, make_pairs())


def test_siglip_is_that_of_transformers_which_divides_by_the_batch_size():
    generator = torch.Generator().manual_seed(0)
    texts, images = F.normalize(
        torch.randn(2, 7, 5, dtype=torch.float64, generator=generator), dim=2
    )
    loss = SigLIP().double()
    assert loss.log_scale.item() == pytest.approx(math.log(10))
    # the lines of SiglipModel.forward of transformers
    logits = texts @ images.T * loss.log_scale.exp() + loss.offset
    signs = -torch.ones_like(logits) + 2 * torch.eye(7)
    peer = -torch.sum(F.logsigmoid(signs * logits), dim=-1).mean()
    found = loss.evaluate_pairs(texts, images, torch.eye(7, dtype=torch.bool)).value
    torch.testing.assert_close(found * 7, peer)
    for ours, theirs in zip(
        torch.autograd.grad(found * 7, loss.parameters()),
        torch.autograd.grad(peer, loss.parameters()),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.slow
def test_the_penalty_raises_the_variance_inside_classes_of_free_points():
    """Ten classes of twelve points in 16 dimensions: the positive control of the variance inside classes."""
    intra = {}
    for beta, threshold in ((0.0, 0.7), (1.0, 0.9), (1.0, 0.7)):
        torch.manual_seed(0)
        rows = torch.nn.Parameter(torch.randn(120, 16, dtype=torch.float64))
        labels = torch.arange(10).repeat_interleave(12)
        loss = Relaxed(temperature=0.1, penalty_weight=beta, threshold=threshold)
        optimizer = torch.optim.Adam([rows], lr=0.05)
        steps = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3000)
        for _ in range(3000):
            optimizer.zero_grad()
            loss(F.normalize(rows), labels).backward()
            optimizer.step()
            steps.step()
        points = F.normalize(rows.detach()).reshape(10, 12, 16)
        centers = points.mean(dim=1, keepdim=True)
        intra[beta, threshold] = (points - centers).square().sum(2).mean().item()
    assert intra[0.0, 0.7] < 0.005
    assert intra[1.0, 0.9] == pytest.approx(0.032, abs=0.005)
    assert intra[1.0, 0.7] == pytest.approx(0.111, abs=0.012)

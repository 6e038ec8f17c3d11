"""Losses with several centers for each class: sub-center ArcFace and SoftTriple."""

import math

import pytest
import torch
from pytorch_metric_learning.losses import SoftTripleLoss, SubCenterArcFaceLoss

from lossgauge.errors import InputError
from lossgauge.losses.arcface import ArcFace
from lossgauge.losses.soft_triple import SoftTriple
from lossgauge.losses.subcenter_arcface import SubcenterArcFace
from tests.losses.cases import BATCHES, assert_agrees, make_batch

CLASSES, WIDTH = 5, 6


def slow(rows, labels, proxies, pool, target, scale):
    terms = []
    centers = proxies.view(CLASSES, -1, WIDTH)
    for row, label in zip(rows, labels, strict=True):
        of_classes = [
            pool([torch.nn.functional.cosine_similarity(row, center, dim=0) for center in of_class])
            for of_class in centers
        ]
        of_classes[label] = target(of_classes[label])
        logits = scale * torch.stack(of_classes)
        terms.append(logits.logsumexp(0) - logits[label])
    return terms


def largest(cosines):
    return max(cosines, key=lambda cosine: cosine.item())


def angular(cosine, margin=0.5):
    angle = cosine.acos()
    if angle > math.pi - margin:
        return cosine - margin * math.sin(margin)
    return (angle + margin).cos()


def soft(temperature):
    def pool(cosines):
        shares = [(cosine / temperature).exp() for cosine in cosines]
        weighted = [share * cosine for share, cosine in zip(shares, cosines, strict=True)]
        return sum(weighted) / sum(shares)

    return pool


def make_loss(made, **settings):
    torch.manual_seed(1)
    return made(class_count=CLASSES, embedding_size=WIDTH, **settings).double()


CASES = [
    (SubcenterArcFace, {}, largest, angular),
    (SubcenterArcFace, {"scale": 16.0, "sub_centers": 1}, largest, angular),
    (SoftTriple, {}, soft(0.1), lambda cosine: cosine - 0.01),
    (
        SoftTriple,
        {"centers_per_class": 2, "temperature": 1.0, "margin": 0.3, "scale": 8.0},
        soft(1.0),
        lambda cosine: cosine - 0.3,
    ),
]


@pytest.mark.parametrize(("made", "settings", "pool", "target"), CASES)
def test_value_and_gradient_are_those_of_the_loop(batch, made, settings, pool, target):
    loss = make_loss(made, **settings)
    assert_agrees(loss, lambda r, y: slow(r, y, loss.proxies, pool, target, loss.scale), batch)


@pytest.mark.parametrize("made", [SubcenterArcFace, SoftTriple])
def test_value_and_gradient_are_those_of_pytorch_metric_learning(batch, made):
    embeddings, labels = batch
    loss = make_loss(made)
    if made is SoftTriple:
        peer = SoftTripleLoss(CLASSES, WIDTH, centers_per_class=10).double()
        parameter = peer.fc
    else:
        peer = SubCenterArcFaceLoss(
            num_classes=CLASSES, embedding_size=WIDTH, margin=math.degrees(0.5)
        ).double()
        parameter = peer.W
    parameter.data = loss.proxies.detach().T.clone()
    results = []
    for function, trained in ((loss, loss.proxies), (peer, parameter)):
        rows = embeddings.clone().requires_grad_()
        value = function(rows, labels)
        at_rows, at_centers = torch.autograd.grad(value, [rows, trained])
        at_centers = at_centers if trained is loss.proxies else at_centers.T
        results.append((value.detach(), at_rows, at_centers))
    for found, wanted in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-9)


def test_with_one_center_sub_center_arcface_is_arcface():
    embeddings, labels = make_batch(BATCHES["unbalanced"])
    loss, other = make_loss(SubcenterArcFace, sub_centers=1), make_loss(ArcFace)
    found, wanted = loss.evaluate(embeddings, labels), other.evaluate(embeddings, labels)
    for field in ("value", "pull", "push", "anchor_weight"):
        torch.testing.assert_close(getattr(found, field), getattr(wanted, field))
    assert found.effective_share == pytest.approx(wanted.effective_share)


def test_mean_weight_is_one_minus_the_probability_of_the_own_class():
    loss = make_loss(SoftTriple)
    embeddings, labels = make_batch(BATCHES["balanced"])
    found = loss.evaluate(embeddings, labels)
    torch.testing.assert_close(found.anchor_weight, -torch.expm1(-found.anchor_value))


@pytest.mark.parametrize("settings", [{"temperature": 1e-6}, {"scale": 1e4}])
def test_soft_triple_in_float32_at_extreme_settings_is_that_of_float64(settings):
    embeddings, labels = make_batch(BATCHES["unbalanced"])
    loss = make_loss(SoftTriple, **settings)
    results = []
    for number in (torch.float64, torch.float32):
        rows = embeddings.to(number).requires_grad_()
        value = loss.to(number)(rows, labels)
        results.append((value.double(), torch.autograd.grad(value, rows)[0].double()))
    for wanted, found in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, rtol=2e-3, atol=2e-2)


@pytest.mark.parametrize("made", [SubcenterArcFace, SoftTriple])
@pytest.mark.parametrize("label", [-1, 4])
def test_a_label_without_centers_is_refused_by_its_number_of_classes(made, label):
    loss = made(class_count=4, embedding_size=3)
    with pytest.raises(InputError, match=rf"in 0 … 3 \(class_count=4\), got {label} in row 1"):
        loss(torch.randn(2, 3), torch.tensor([0, label]))

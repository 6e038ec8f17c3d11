"""The two values of a loss, against the loss itself on a space at one point and on a simplex."""

from __future__ import annotations

import math

import pytest
import torch

from lossgauge.health.loss_values import loss_values
from lossgauge.losses.registry import LOSSES, load_loss

CLASSES, ROWS = 6, 24
CASES = [
    *((name, {}) for name in LOSSES),
    ("contrastive", {"margin": 1.8}),  # beyond √(2C/(C − 1)) = 1.549
    ("contrastive", {"margin": 1.8, "reduction": "active"}),
    ("triplet", {"margin": 3.0}),
    ("triplet", {"margin": 1.7, "power": 1}),
    ("n_pair", {"temperature": 0.3, "norm_weight": 0.1}),
    ("info_nce", {"temperature": 5.0}),
    ("scl", {"temperature": 0.7}),
    ("arcface", {"margin": 0.9, "scale": 5.0}),
    ("ccl", {"margin": 0.4, "scale": 3.0}),
]


def simplex() -> torch.Tensor:
    corners = torch.eye(CLASSES, dtype=torch.float64) - 1 / CLASSES
    return torch.nn.functional.normalize(corners)


def made(name, settings):
    sizes = {"class_count": CLASSES, "embedding_size": CLASSES}
    return load_loss(name, **settings, **(sizes if name in ("arcface", "ccl") else {})).double()


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_both_values_are_those_of_the_loss(name, settings):
    labels = torch.arange(ROWS) % CLASSES
    values = loss_values(name, settings, batch_size=ROWS, class_count=CLASSES)
    loss = made(name, settings)
    for expected, corners in (
        (values.collapsed, simplex()[:1].expand(CLASSES, -1)),
        (values.perfect, simplex()),
    ):
        for rows in loss.parameters():
            rows.data = corners.clone()
        assert float(loss(corners[labels], labels).detach()) == pytest.approx(
            expected,
            # ArcFace keeps cosines off 1 by 4 eps, an angle of 4e-8
            rel=1e-6 if name == "arcface" else 1e-9,
            abs=1e-12,
        )


def test_another_loss_and_missing_numbers_have_no_values():
    assert loss_values(None) is None
    assert loss_values("my_loss.py:Pull", batch_size=32, class_count=4) is None
    assert loss_values("scl", batch_size=32) is None
    assert loss_values("scl", class_count=4) is None
    assert loss_values("triplet").collapsed == 0.2
    assert loss_values("SupConLoss", batch_size=33, class_count=4).collapsed == math.log(32)


def test_n_pair_is_compared_by_the_classes_that_are_in_the_batch():
    labels = torch.tensor([0, 0, 1, 1, 2, 2, 3, 4, 5])
    rows = simplex()[:1].expand(len(labels), -1)
    values = loss_values("n_pair", batch_size=len(labels), class_count=CLASSES, term_count=3)
    assert float(load_loss("n_pair")(rows, labels)) == pytest.approx(values.collapsed, rel=1e-9)

"""Findings of a probe about the loop itself, with the rules of `lossgauge.health` as they are."""

import numpy as np
import pytest
import torch
from torch import nn

from lossgauge.loop.probe import Probe
from lossgauge.loop.samples import first_other_class
from tests.loop.trainings import ROWS, SIZE, batch, seeded_network


def of(probe):
    return {finding.name: finding for finding in probe.findings()}


def run(*, steps=4, nan_from=None, probe_labels=None, loss_labels=None, **settings):
    """A loop on cross-entropy, whose embeddings are NaN from an update on; labels of probe and loss are made from those of the batch."""
    network, loss = seeded_network(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    probe = Probe(optimizer, loss=loss, **settings)
    for step in range(steps):
        x, y = batch(step)
        z = network(x)
        if nan_from is not None and step >= nan_from:
            z = z * torch.ones(ROWS, 1).index_fill(0, torch.tensor([5]), torch.nan)
        z = probe.embeddings(z, y if probe_labels is None else probe_labels(y))
        loss(z, y if loss_labels is None else loss_labels(y)).backward()
        optimizer.step()
        optimizer.zero_grad()
    return probe


@pytest.mark.parametrize(
    ("on_nan", "nan_from", "evidence"),
    [
        (
            "record",
            2,
            "embedding of row 5 is not finite at step 2; it is the first of 2 such updates",
        ),
        ("record", 3, "embedding of row 5 is not finite at step 3"),
        (
            "leave-out",
            2,
            "step 2; it is the first of 2 such updates, and 2 are left out of the rows",
        ),
        (
            "leave-out",
            0,
            "step 0; it is the first of 4 such updates, and 4 are left out of the rows",
        ),
    ],
)
def test_numbers_that_are_not_finite_are_a_finding_with_the_first_step(on_nan, nan_from, evidence):
    probe = run(nan_from=nan_from, on_nan=on_nan)
    found = of(probe)
    assert found["not-finite"].level == "act"
    assert found["not-finite"].evidence.endswith(evidence)
    assert "labels-unused" not in found  # a batch of NaN says nothing about labels
    assert len(probe.rows) == (4 if on_nan == "record" else nan_from)


def test_a_finite_training_has_no_such_finding():
    assert not {"not-finite", "never-stepped", "other-labels"} & set(of(run()))


def test_other_labels_than_those_of_the_loss_are_a_finding():
    found = of(run(probe_labels=lambda y: y.roll(1).index_fill(0, torch.tensor([0, 1]), 0)))
    assert found["other-labels"].level == "act"
    assert "in 4 updates" in found["other-labels"].evidence
    assert "first at step 0, row 1" in found["other-labels"].evidence


@pytest.mark.parametrize(
    "settings",
    [
        {"probe_labels": lambda y: 100 - y},
        {"probe_labels": lambda y: y.tolist()},
        {"loss_labels": lambda y: y.index_fill(0, torch.tensor([3, 4]), -100)},
    ],
    ids=["other numbers", "a list", "ignored rows"],
)
def test_the_same_classes_by_other_numbers_are_the_same_labels(settings):
    assert "other-labels" not in of(run(**settings))


def test_rows_in_another_order_than_those_of_the_probe_are_not_compared():
    network, loss = seeded_network(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    probe = Probe(optimizer, loss=loss)
    x, y = batch(0)
    order = torch.randperm(ROWS)
    loss(probe.embeddings(network(x), y)[order], y[order]).backward()
    optimizer.step()
    assert "other-labels" not in of(probe)


def test_the_first_row_of_another_class_is_that_of_a_loop():
    generator = np.random.default_rng(0)
    for _ in range(50):
        one, other = generator.integers(0, 3, (2, 6))
        expected = next(
            (
                row
                for row in range(6)
                if any((one[row] == one[i]) != (other[row] == other[i]) for i in range(row))
            ),
            None,
        )
        assert first_other_class(one, other) == expected


def stepped(second):
    """A loop with two optimisers; the second one is stepped at the updates for which `second` says so."""
    body, head, loss = nn.Linear(6, 5), nn.Linear(5, SIZE), nn.CrossEntropyLoss()
    optimizers = [
        torch.optim.SGD(body.parameters(), lr=0.1),
        torch.optim.Adam(head.parameters(), lr=0.1),
    ]
    probe = Probe(optimizers, loss=loss)
    for step in range(4):
        x, y = batch(step)
        loss(probe.embeddings(head(body(x)), y), y).backward()
        optimizers[0].step()
        if second(step):
            optimizers[1].step()
        for optimizer in optimizers:
            optimizer.zero_grad()
    return of(probe)


def test_an_optimizer_that_is_never_stepped_is_a_finding():
    found = stepped(lambda step: False)["never-stepped"]
    assert (found.level, found.subject) == ("act", "optimizer 2 (Adam)")
    assert "never-stepped" not in stepped(lambda step: step == 1)


def test_a_collapsed_space_silences_what_only_follows_from_it():
    network = nn.Linear(6, SIZE)
    with torch.no_grad():
        network.weight.zero_()
        network.bias.fill_(1.0)

    def value(z, y):  # an attraction that a collapsed space has satisfied
        return ((z[:, None] - z[None]) ** 2).sum()

    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    probe = Probe(optimizer)
    criterion = probe.loss(value)
    x, y = batch(0)
    for _ in range(12):
        criterion(probe.embeddings(nn.functional.normalize(network(x)), y), y).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert of(probe)["dead-gradient"].level == "act"
    with torch.no_grad():
        probe.epoch(nn.functional.normalize(network(x)), y)
    found = of(probe)
    assert found["collapse"].level == "act"
    assert not {"dead-gradient", "few-active"} & set(found)

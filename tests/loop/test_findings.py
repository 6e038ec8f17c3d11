"""Findings of a probe about the loop itself, with the rules of `lossgauge.health` as they are."""

import numpy as np
import pytest
import torch
from torch import nn

from lossgauge.loop.probe import Probe
from lossgauge.loop.samples import first_other_class
from lossgauge.losses.registry import load_loss
from tests.loop.trainings import ROWS, SIZE, arcface, batch, seeded_network


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


def loop(
    losses,
    *,
    steps=12,
    rate=0.1,
    size=lambda step: ROWS,
    network=None,
    labels=lambda y: y,
    before_step=lambda optimizer, step: None,
):
    """A loop whose losses are added up; `size` says how many rows the batch of a step has."""
    network = network or seeded_network()
    parameters = [*network.parameters(), *(p for loss in losses for p in loss.parameters())]
    optimizer = torch.optim.SGD(parameters, lr=rate)
    probe = Probe(optimizer, loss=losses)
    for step in range(steps):
        x, y = (of[: size(step)] for of in batch(step))
        y = labels(y)
        z = probe.embeddings(network(x), y)
        sum(loss(z, y) for loss in losses).backward()
        before_step(optimizer, step)
        optimizer.step()
        optimizer.zero_grad()
    return probe


class Flat(nn.Module):
    """One point for all inputs, which is trained on its bias."""

    def __init__(self):
        super().__init__()
        self.point = nn.Parameter(torch.ones(SIZE))

    def forward(self, x):
        return nn.functional.normalize(self.point, dim=0).expand(len(x), -1)


def test_of_a_sum_the_first_loss_alone_is_compared_with_its_own_values():
    losses = [load_loss("triplet"), nn.CrossEntropyLoss()]
    found = of(loop(losses))
    assert found["loss-at-collapse"].level == "ok"
    assert found["dead-gradient"].subject == "Triplet + CrossEntropyLoss"
    flat = of(loop(losses, network=Flat()))["loss-at-collapse"]
    assert (flat.level, flat.subject) == ("act", "Triplet")
    assert flat.evidence.startswith("the loss ends at 0.2 after 0.2")


def test_a_module_after_a_function_is_not_taken_for_the_first_loss():
    network = seeded_network()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    probe = Probe(optimizer)
    first, second = probe.loss(lambda z, y: 10 + z.square().mean()), load_loss("triplet")
    probe.loss(second)
    for step in range(12):
        x, y = batch(step)
        z = probe.embeddings(network(x), y)
        (first(z, y) + second(z, y)).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert not {"loss-at-collapse", "margin"} & set(of(probe))


@pytest.mark.parametrize(
    ("loss", "level"),
    [
        (load_loss("triplet"), "act"),
        (load_loss("contrastive"), "act"),
        (arcface(), "watch"),
        (nn.CrossEntropyLoss(), "watch"),
    ],
    ids=["triplet", "contrastive", "arcface", "cross-entropy"],
)
def test_batches_of_one_class_have_no_negatives(loss, level):
    found = of(loop([loss], labels=torch.zeros_like))
    assert found["no-negatives"].level == level
    assert found["no-negatives"].evidence.startswith("100% of the updates")
    assert not {"no-positives", "dead-gradient"} & {n for n, f in found.items() if f.level != "ok"}
    assert of(loop([loss]))["no-negatives"].level == "ok"


@pytest.mark.parametrize("set_to_none", [True, False])
@pytest.mark.parametrize(("cleared", "level"), [(12, "act"), (1, "watch"), (0, "ok")])
def test_gradients_that_are_cleared_before_the_update_are_a_finding(set_to_none, cleared, level):
    def clear(optimizer, step):
        if step < cleared:
            optimizer.zero_grad(set_to_none=set_to_none)

    probe = loop([load_loss("scl")], before_step=clear)
    assert [row["clipped_head_gradient"] == 0 for row in probe.rows] == [
        n < cleared for n in range(12)
    ]
    assert all(row["head_gradient"] > 0 for row in probe.rows)
    assert of(probe)["cleared-gradient"].level == level


def test_a_learning_rate_of_0_is_a_finding_but_not_a_warm_up_from_0():
    def warm(optimizer, step):
        optimizer.param_groups[0]["lr"] = 0.01 * step

    loss = [nn.CrossEntropyLoss()]
    assert of(loop(loss, rate=0.0))["zero-learning-rate"].level == "act"
    assert "zero-learning-rate" not in of(loop(loss, rate=0.0, steps=9))
    assert "zero-learning-rate" not in of(loop(loss, rate=0.0, before_step=warm))


@pytest.mark.parametrize("loss", [arcface(), nn.CrossEntropyLoss()], ids=["arcface", "cross"])
def test_a_last_batch_of_one_row_is_recorded(loss):
    probe = loop([loss], size=lambda step: 1 if step == 11 else ROWS)
    assert [row["batch_size"] for row in probe.rows] == [ROWS] * 11 + [1]
    assert probe.rows[-1]["embedding_gradient"] > 0
    assert probe.rows[-1]["lone_ratio"] == 1


def test_a_last_batch_of_one_row_says_nothing_about_a_loss_of_pairs():
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    probe = loop([losses.TripletMarginLoss()], size=lambda step: 1 if step == 11 else ROWS)
    assert probe.rows[-1]["embedding_gradient"] == 0
    assert {found.level for found in probe.findings()} == {"ok"}
    assert {found.subject for found in probe.findings()} == {"TripletMarginLoss"}


def test_batches_of_one_row_give_a_loss_of_pairs_nothing_to_do():
    found = of(loop([load_loss("triplet")], size=lambda step: 1))
    assert {name for name, f in found.items() if f.level != "ok"} == {"no-positives"}


@pytest.mark.parametrize(("trained", "level"), [(True, "watch"), (False, "act")])
def test_parameters_of_a_loss_may_be_trained_by_an_optimizer_that_the_probe_does_not_know(
    trained, level
):
    network, loss = seeded_network(), arcface()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    other = torch.optim.SGD(loss.parameters(), lr=0.1)
    probe = Probe(optimizer, loss=loss)
    for step in range(2):
        x, y = batch(step)
        loss(probe.embeddings(network(x), y), y).backward()
        optimizer.step()
        if trained:
            other.step()
    found = of(probe)["untrained-loss-parameters"]
    assert (found.level, found.subject) == (level, "proxies")
    assert ("lg.Probe([optimizer, other_optimizer]" in found.advice) == trained


def test_a_part_of_the_model_outside_the_optimizer_is_watched():
    def levels(parameters):
        network, loss = seeded_network(), nn.CrossEntropyLoss()
        optimizer = torch.optim.SGD(parameters(network), lr=0.1)
        probe = Probe(optimizer, loss=loss, model=network)
        x, y = batch(0)
        loss(network(x), y).backward()
        optimizer.step()
        return of(probe)["untrained-model-parameters"]

    outside = levels(lambda network: network.outer.parameters())
    assert (outside.level, outside.evidence.split(";")[1]) == (
        "watch",
        " the first is inner.weight",
    )
    assert "2 of 4 parameters" in outside.evidence
    assert levels(lambda network: network.parameters()).level == "ok"

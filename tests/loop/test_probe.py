"""The probe's numbers beside a plain float32 loop's, and the same weights with and without it."""

import copy
import math
import pickle
import subprocess
import sys

import pytest
import torch
from torch import nn

import lossgauge as lg
from lossgauge.loop import recorder
from lossgauge.loop.probe import Probe
from lossgauge.losses.registry import load_loss
from tests.loop.trainings import (
    CASES,
    CLASSES,
    SIZE,
    batch,
    digest,
    seeded_network,
    train,
    triplet,
)

GRADIENTS = (
    *("embedding_gradient", "embedding_gradient_p90", "tangent_gradient"),
    *("head_gradient", "clipped_head_gradient", "loss_gradient"),
)


def norm_of(tensors):
    return math.sqrt(sum(float(t.double().square().sum()) for t in tensors))


def plain_rows(case):
    """The same updates in a plain float32 loop without scaler, one batch at a time, number by number."""
    case = {"steps": 6, "accumulate": 1, "clip": None, "overflow_at": None, **case}
    network = case.get("network") or seeded_network()
    criterion = case.get("loss") or load_loss("scl", temperature=0.5)
    own = [p for p in criterion.parameters() if p.requires_grad]
    head = [p for p in network.parameters() if p.requires_grad]
    optimizer = case.get("make_optimizer", torch.optim.Adam)([*head, *own], lr=0.01)
    rows = []
    for step in range(case["steps"]):
        optimizer.zero_grad()
        values, kept = [], []
        for part in range(case["accumulate"]):
            x, y = batch(step * case["accumulate"] + part)
            z = network(x)
            z.retain_grad()
            value = criterion(z, y if case.get("use_labels", True) else x[:, :SIZE])
            (value / case["accumulate"]).backward()
            values.append(float(value.detach()))
            kept.append((z.detach().double(), z.grad.double() * case["accumulate"]))
        norms, tangents = [], []
        for z, gradient in kept:
            for row, pull in zip(z, gradient, strict=True):
                unit = row / row.norm()
                norms.append(float(pull.norm()))
                tangents.append(float((pull - (pull @ unit) * unit).norm()))
        row = {
            "loss_value": sum(values) / len(values),
            "embedding_gradient": sum(norms) / len(norms),
            "embedding_gradient_p90": float(torch.tensor(norms).double().quantile(0.9)),
            "tangent_gradient": sum(tangents) / len(tangents),
            "head_gradient": norm_of([p.grad for p in head]),
            "loss_gradient": norm_of([p.grad for p in own]) if own else None,
        }
        if case["clip"] is not None:
            nn.utils.clip_grad_norm_([*head, *own], case["clip"])
        row["clipped_head_gradient"] = norm_of([p.grad for p in head])
        rows.append(row)
        if step != case["overflow_at"]:
            optimizer.step()
    return rows


EXACT = [
    name
    for name in CASES
    if name not in ("bfloat16", "float16 with a scaler", "LBFGS", "compiled", "every third")
]


@pytest.mark.parametrize("name", EXACT)
def test_each_row_is_that_of_a_plain_loop_and_the_weights_are_the_same(name):
    with_probe = train(probed=True, **CASES[name]())
    without = train(probed=False, **CASES[name]())
    assert digest(with_probe.weights) == digest(without.weights)
    expected = plain_rows(CASES[name]())
    assert len(with_probe.rows) == len(expected)
    for row, wanted in zip(with_probe.rows, expected, strict=True):
        assert row["skipped"] == (row["step"] == CASES[name]().get("overflow_at"))
        if row["skipped"]:
            assert all(row[column] is None for column in GRADIENTS)
            continue
        for column, value in wanted.items():
            near = None if value is None else pytest.approx(value, rel=2e-5)
            assert row[column] == near, column
        assert row["tangent_gradient"] <= row["embedding_gradient"]


def scaled_rows(factor, *, steps=2):
    """Rows of a loop whose loss is multiplied by a factor; the updates are those of a factor of 1."""
    network, criterion = seeded_network(unit=False), load_loss("scl", temperature=0.5)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1 / factor)
    probe = Probe(optimizer, loss=criterion)
    for step in range(steps):
        x, y = batch(step)
        (criterion(probe.embeddings(network(x), y), y) * factor).backward()
        optimizer.step()
        optimizer.zero_grad()
    return probe.rows


@pytest.mark.parametrize("factor", [2.0**66, 2.0**100, 1e-20, 1e-22, 1e-30])
@pytest.mark.parametrize("on_one_thread", [0, 2**18])
def test_neither_a_large_nor_a_small_factor_changes_the_norms(monkeypatch, factor, on_one_thread):
    """The squares of such gradients are infinite or 0 in float32."""
    monkeypatch.setattr(recorder, "_ON_ONE_THREAD", on_one_thread)
    for row, plain in zip(scaled_rows(factor), scaled_rows(1.0), strict=True):
        assert row["not_finite"] is None
        for column in (*GRADIENTS, "embedding_norm"):
            expected = plain[column]
            assert row[column] == (expected and pytest.approx(expected, rel=1e-5)), column
        assert row["clipped_head_gradient"] == pytest.approx(row["head_gradient"], rel=1e-6)


@pytest.mark.parametrize("name", ["bfloat16", "float16 with a scaler"])
def test_half_precision_is_near_a_plain_loop(name):
    trained = train(probed=True, **CASES[name]())
    assert digest(trained.weights) == digest(train(probed=False, **CASES[name]()).weights)
    first = next(row for row in trained.rows if not row["skipped"])
    if name == "bfloat16":
        assert first["step"] == 0
    else:  # the first scales overflow float16
        assert first["step"] > 0
        assert all(row["not_finite"] for row in trained.rows[: first["step"]])
    # no update has been made before: the first network, on another batch
    x, y = batch(first["step"])
    network, criterion = seeded_network(), load_loss("scl", temperature=0.5)
    z = network(x)
    z.retain_grad()
    criterion(z, y).backward()
    assert first["embedding_gradient"] == pytest.approx(float(z.grad.norm(dim=1).mean()), rel=0.02)
    assert first["head_gradient"] == pytest.approx(
        norm_of([p.grad for p in network.parameters()]), rel=0.02
    )


def test_of_each_third_update_there_is_a_row():
    rows, all_rows = train(probed=True, every=3).rows, train(probed=True).rows
    assert [row["step"] for row in rows] == [0, 3]
    for row in rows:
        wanted = all_rows[row["step"]]
        assert {k: v for k, v in row.items() if "active_ratio" not in k} == {
            k: v for k, v in wanted.items() if "active_ratio" not in k
        }


def test_a_closure_that_is_called_several_times_gives_the_last_gradient():
    trained = train(probed=True, **CASES["LBFGS"]())
    assert digest(trained.weights) == digest(train(probed=False, **CASES["LBFGS"]()).weights)
    assert [(row["step"], row["micro_batch_count"]) for row in trained.rows] == [(0, 1), (1, 1)]


def compiled_loop(criterion, *, probed, whole=False):
    """With `whole`, the step of the loop itself is compiled, with the calls of the probe in it."""
    network = seeded_network()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    probe = Probe(optimizer, loss=criterion) if probed else None

    def value_of(x, y):
        z = network(x)
        if probe is not None:
            z = probe.embeddings(z, y)
        return criterion(z, y)

    forward = torch.compile(value_of, backend="eager") if whole else value_of
    for step in range(2):
        forward(*batch(step)).backward()
        optimizer.step()
        optimizer.zero_grad()
    return probe, list(network.parameters())


@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor"
)  # by dynamo, of what it traces
@pytest.mark.parametrize("make", [triplet, nn.CrossEntropyLoss], ids=["ours", "torch"])
@pytest.mark.parametrize(
    "how",
    [
        pytest.param("model", marks=pytest.mark.slow),
        pytest.param("loss", marks=pytest.mark.slow),
        "step",
    ],
)
def test_what_is_compiled_is_watched_too(make, how):
    plain, weights = compiled_loop(make(), probed=True)
    if how == "model":
        rows = train(probed=True, compiled=True, steps=2, loss=make()).rows
        plain = train(probed=True, steps=2, loss=make()).probe
    else:
        criterion = torch.compile(make(), backend="eager") if how == "loss" else make()
        probe, compiled = compiled_loop(criterion, probed=True, whole=how == "step")
        rows = probe.rows
        assert all(map(torch.equal, compiled, weights))
    assert len(rows) == 2
    for row, wanted in zip(rows, plain.rows, strict=True):
        for column in ("embedding_gradient", "head_gradient", "loss_value", "pull"):
            near = None if wanted[column] is None else pytest.approx(wanted[column], rel=1e-5)
            assert row[column] == near, column


def test_our_losses_tell_their_terms_without_a_second_computation(monkeypatch):
    loss, calls = triplet(), []
    outcome = type(loss).outcome
    monkeypatch.setattr(
        type(loss), "outcome", lambda self, *a: (calls.append(1), outcome(self, *a))[1]
    )
    row = train(probed=True, steps=1, loss=loss).rows[0]
    assert calls == [1]
    x, y = batch(0)
    evaluation = triplet().evaluate(seeded_network()(x), y)
    assert row["term_count"] == evaluation.term_count
    assert row["term_active_ratio"] == evaluation.active_count / evaluation.term_count
    assert row["pull"] == pytest.approx(float(evaluation.pull))
    assert row["push"] == pytest.approx(float(evaluation.push))
    assert row["mean_weight"] == pytest.approx(float(evaluation.anchor_weight.mean()), rel=1e-6)
    assert row["effective_share"] == evaluation.effective_share
    assert row["gradient_per_active"] == row["embedding_gradient"] / row["term_active_ratio"]


def test_terms_of_micro_batches_are_added_up():
    row = train(probed=True, steps=1, accumulate=3, loss=triplet()).rows[0]
    network = seeded_network()
    parts = [triplet().evaluate(network(batch(n)[0]), batch(n)[1]) for n in range(3)]
    assert row["micro_batch_count"] == 3
    assert row["batch_size"] == 72
    assert row["active_count"] == sum(part.active_count for part in parts)
    assert row["pull"] == pytest.approx(sum(float(part.pull) for part in parts) / 3)


def two_losses(probe_of, *, alone=False, weights=(1.0, 3.0)):
    """One update with a sum of two losses; with `alone`, backward is called for each."""
    network, losses = seeded_network(), [triplet(), nn.CrossEntropyLoss()]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    probe = probe_of(optimizer, losses)
    x, y = batch(0)
    z = network(x)
    z.retain_grad()
    if probe is not None:
        z = probe.embeddings(z, y)
    values = [loss(z, y) for loss in losses]
    parts = [weight * value for weight, value in zip(weights, values, strict=True)]
    if alone:
        parts[0].backward(retain_graph=True)
        parts[1].backward()
    else:
        sum(parts).backward()
    head = norm_of([p.grad for p in network.parameters()])
    optimizer.step()
    return probe, [float(v.detach()) for v in values], z.grad, head, list(network.parameters())


@pytest.mark.parametrize("alone", [False, True])
def test_of_several_losses_the_gradient_is_that_of_the_sum_in_units_of_the_first(alone):
    probe, values, gradient, head, weights = two_losses(
        lambda o, ls: Probe(o, loss={"a": ls[0], "b": ls[1]}), alone=alone, weights=(0.5, 1.5)
    )
    row = probe.rows[0]
    assert row["embedding_gradient"] == pytest.approx(2 * float(gradient.norm(dim=1).mean()))
    assert row["head_gradient"] == pytest.approx(2 * head)
    assert (row["loss_value_a"], row["loss_value_b"]) == pytest.approx(tuple(values))
    assert (row["loss_weight_a"], row["loss_weight_b"]) == (1, pytest.approx(3))
    assert row["loss_value"] == pytest.approx(values[0] + 3 * values[1])
    plain = two_losses(lambda *_: None, alone=alone, weights=(0.5, 1.5))[-1]
    assert all(map(torch.equal, weights, plain))


def test_a_plain_function_is_watched():
    network = seeded_network()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    probe = Probe(optimizer)

    @probe.loss
    def spread(z, *, power=2):
        return z.mean(0).norm() ** power

    x, _ = batch(0)
    z = network(x)
    z.retain_grad()
    spread(probe.embeddings(z)).backward()
    optimizer.step()
    assert probe.losses == ["spread"]
    assert probe.rows[0]["embedding_gradient"] == pytest.approx(
        float(z.grad.norm(dim=1).mean()), rel=1e-6
    )
    assert probe.rows[0]["term_count"] is None


def test_several_optimizers_each_keep_their_own_accumulation():
    """The second optimiser steps at every second update: its gradient is that of two batches."""

    def loop(probed):
        network, loss = seeded_network(), nn.CrossEntropyLoss()
        first = torch.optim.SGD(network.inner.parameters(), lr=0.1)
        second = torch.optim.SGD(network.outer.parameters(), lr=0.1)
        probe = Probe([first, second], loss=loss) if probed else None
        norms = []
        for step in range(4):
            x, y = batch(step)
            z = network(x)
            if probe is not None:
                z = probe.embeddings(z, y)
            loss(z, y).backward()
            inner = norm_of([p.grad for p in network.inner.parameters()])
            outer = norm_of([p.grad for p in network.outer.parameters()])
            norms.append(math.hypot(inner, outer / 2) if step % 2 else inner)
            first.step()
            first.zero_grad()
            if step % 2:
                second.step()
                second.zero_grad()
        return probe, norms, list(network.parameters())

    probe, norms, weights = loop(True)
    assert [row["head_gradient"] for row in probe.rows] == pytest.approx(norms, rel=1e-6)
    assert all(map(torch.equal, weights, loop(False)[2]))


def test_two_views_of_a_batch_are_one_batch():
    network, loss = seeded_network(), nn.CosineEmbeddingLoss()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    probe = Probe(optimizer, loss=loss)
    (x, y), (other, _) = batch(0), batch(1)
    one, two = network(x), network(other)
    one.retain_grad(), two.retain_grad()
    value = loss(probe.embeddings(one, y), probe.embeddings(two, y), torch.ones(len(y)))
    value.backward()
    optimizer.step()
    row = probe.rows[0]
    both = torch.cat([one.grad, two.grad]).norm(dim=1)
    assert row["embedding_gradient"] == pytest.approx(float(both.mean()), rel=1e-6)
    assert (row["batch_size"], row["micro_batch_count"]) == (48, 1)
    assert row["loss_factor"] == 1


def test_the_loss_is_called_for_each_of_two_embeddings():
    network, loss = seeded_network(), triplet()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    probe = Probe(optimizer, loss=loss)
    (x, y), (other, _) = batch(0), batch(1)
    one, two = (probe.embeddings(network(rows), y) for rows in (x, other))
    one.retain_grad(), two.retain_grad()
    ((loss(one, y) + loss(two, y)) / 2).backward()
    optimizer.step()
    both = 2 * torch.cat([one.grad, two.grad]).norm(dim=1)
    assert probe.rows[0]["embedding_gradient"] == pytest.approx(float(both.mean()), rel=1e-6)
    assert probe.rows[0]["micro_batch_count"] == 2


def test_a_gradient_penalty_is_not_a_second_backward_pass():
    network, loss = seeded_network(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    probe = Probe(optimizer, loss=loss)
    x, y = batch(0)
    z = probe.embeddings(network(x), y)
    z.retain_grad()
    value = loss(z, y)
    (gradient,) = torch.autograd.grad(value, z, create_graph=True)
    z.grad = None
    (value + gradient.square().sum()).backward()
    optimizer.step()
    row = probe.rows[0]
    assert (row["loss_factor"], row["micro_batch_count"]) == (1, 1)
    assert row["embedding_gradient"] == pytest.approx(float(z.grad.norm(dim=1).mean()), rel=1e-6)


class Text(nn.Module):
    """Calls its model inside itself, as the losses of sentence-transformers do."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, batches, labels):
        one, two = (self.model(x)["sentence_embedding"] for x in batches)
        return (1 - nn.functional.cosine_similarity(one, two)).mean()


class Sentence(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = seeded_network(unit=False)

    def forward(self, x):
        return {"input": x, "sentence_embedding": self.network(x)}


def test_a_loss_that_calls_its_model_is_watched_through_the_model():
    model = Sentence()
    loss = Text(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    probe = Probe(optimizer, loss=loss, model=model)
    loss([batch(0)[0], batch(1)[0]], None).backward()
    optimizer.step()
    reference = Sentence()
    one, two = (reference(batch(n)[0])["sentence_embedding"] for n in range(2))
    one.retain_grad(), two.retain_grad()
    (1 - nn.functional.cosine_similarity(one, two)).mean().backward()
    row = probe.rows[0]
    both = torch.cat([one.grad, two.grad]).norm(dim=1)
    assert row["embedding_gradient"] == pytest.approx(float(both.mean()), rel=1e-5)
    assert row["loss_gradient"] is None  # its parameters are those of the model
    with torch.no_grad():
        model(batch(0)[0])  # an evaluation
    assert len(probe.rows) == 1


def test_evaluations_between_updates_are_no_rows():
    network, loss = seeded_network(), triplet()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    probe = Probe(optimizer, loss=loss)
    for step in range(3):
        x, y = batch(step)
        loss(probe.embeddings(network(x), y), y).backward()
        optimizer.step()
        optimizer.zero_grad()
        loss(network(x), y)
        with torch.no_grad():
            loss(network(x), y)
    assert [row["micro_batch_count"] for row in probe.rows] == [1, 1, 1]


def test_a_copy_of_a_watched_loss_is_not_watched():
    network, loss = seeded_network(), triplet()
    other = nn.CrossEntropyLoss()
    Probe(torch.optim.SGD(network.parameters(), lr=0.1), loss=[loss, other])
    x, y = batch(0)
    for copied in (
        copy.deepcopy(loss),
        pickle.loads(pickle.dumps(loss)),
        copy.deepcopy(other),
        pickle.loads(pickle.dumps(other)),
    ):
        value = copied(network(x), y)
        plain = triplet() if "Triplet" in type(copied).__name__ else nn.CrossEntropyLoss()
        assert torch.equal(value, plain(network(x), y))
        assert not any(isinstance(hook, Probe) for hook in copied._forward_hooks.values())


def test_a_closed_probe_leaves_nothing_behind():
    network, loss = seeded_network(), triplet()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    other = nn.CrossEntropyLoss()
    probe = Probe(optimizer, loss=[loss, other], model=network)
    probe.close()
    assert "_evaluate" not in vars(loss)
    assert not other._forward_hooks
    assert not network._forward_hooks
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_an_epoch_is_a_row_of_geometry_and_retrieval():
    trained = train(probed=True, steps=3)
    x, y = batch(9)
    z = nn.functional.normalize(x)
    probe = trained.probe
    row = probe.epoch(z, y)
    assert (row["epoch"], row["step"]) == (1, 3)
    assert row["intra"] == lg.geometry(z, y).intra
    assert row["recall_at_1"] == lg.retrieval(z, y, similarity="cosine").recall_at[1]
    assert probe.epochs == [row]
    before = Probe(torch.optim.SGD(seeded_network().parameters(), lr=0.1), loss=triplet())
    assert before.epoch(z, y)["epoch"] == 0


def test_epochs_are_counted():
    network, loss = seeded_network(), triplet()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    probe = Probe(optimizer, loss=loss)
    x, y = batch(0)
    probe.epoch(x, y)
    for _ in range(2):
        loss(probe.embeddings(network(x), y), y).backward()
        optimizer.step()
        probe.epoch(x, y)
    assert [row["epoch"] for row in probe.rows] == [1, 2]
    assert [row["epoch"] for row in probe.epochs] == [0, 1, 2]


def test_ratios_to_the_start_are_those_of_the_first_ten_updates():
    rows = train(probed=True, steps=12, loss=triplet()).rows
    network, norms = seeded_network(), []
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for step in range(12):
        x, y = batch(step)
        z = network(x)
        z.retain_grad()
        optimizer.zero_grad()
        triplet()(z, y).backward()
        optimizer.step()
        norms.append(z.grad.norm(dim=1))
    start = torch.cat(norms[:10])
    start = start[start > 0].median()
    for row, of in zip(rows, norms, strict=True):
        assert row["gradient_active_ratio_high"] == float((of > 0.1 * start).double().mean())


def test_fewer_than_ten_updates_have_ratios_too():
    assert all(row["gradient_active_ratio"] is not None for row in train(probed=True, steps=2).rows)


def test_the_batch_is_described():
    network, loss = seeded_network(unit=False), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    probe = Probe(optimizer, loss=loss)
    x, _ = batch(0)
    y = torch.tensor([0, 0, 1, 2] * 6)
    y[-1] = 3
    z = probe.embeddings(network(x), y)
    loss(z, y).backward()
    optimizer.step()
    row = probe.rows[0]
    assert row["batch_class_count"] == SIZE == CLASSES + 1
    assert row["lone_ratio"] == 1 / 24
    norms = z.detach().norm(dim=1)
    names = ("embedding_norm", "embedding_norm_min", "embedding_norm_max")
    wanted = (float(norms.mean()), float(norms.min()), float(norms.max()))
    assert [row[name] for name in names] == pytest.approx(wanted)


def test_a_probe_is_also_called_with_steps():
    probe = lg.Probe()
    z = torch.nn.functional.normalize(batch(0)[0][:, :SIZE]).requires_grad_()
    evaluation = triplet().evaluate(z, batch(0)[1])
    evaluation.value.backward()
    probe(lg.Step(0, 1, evaluation, z, (), ()))
    probe.finish()
    assert probe.rows[0]["embedding_gradient"] == pytest.approx(float(z.grad.norm(dim=1).mean()))


def test_rows_are_a_frame():
    frame = train(probed=True, steps=3).probe.frame
    assert list(frame["step"]) == [0, 1, 2]
    assert frame["loss_gradient"].isna().all()


@pytest.mark.slow
@pytest.mark.process
def test_trained_weights_are_the_same_in_fresh_processes():
    printed = [
        subprocess.run(
            [sys.executable, "-m", "tests.loop.trainings", how],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for how in ("with", "without")
    ]
    assert len(printed[0].splitlines()) == len(CASES)
    assert printed[0] == printed[1]

import math
import random

import numpy as np
import pytest
import torch

from lossgauge.data.samplers import random_batches
from lossgauge.errors import InputError, RunError
from lossgauge.heads import LinearHead, MLPHead
from lossgauge.losses.registry import LOSSES, load_loss
from lossgauge.training import (
    embed,
    evaluate,
    restore_training,
    scheduled,
    seeded,
    start_training,
    train_epoch,
    training_state,
)
from lossgauge.types import Evaluation


def make_data():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 4
    return torch.randn(60, 8, generator=generator) + labels[:, None], labels


def make_training(name="ccl", seed=3):
    sizes = {"class_count": 4, "embedding_size": 5} if name in ("arcface", "ccl") else {}
    return start_training(
        seed=seed,
        make_head=lambda: LinearHead(8, 5),
        schedule=scheduled("constant", learning_rate=0.01, epochs=5),
        make_loss=lambda: load_loss(name, **sizes),
    )


def run_epochs(training, epochs, *, on_step=lambda step: None):
    features, labels = make_data()
    while training.epoch < epochs:
        batches = random_batches(torch.arange(60), batch_size=20, seed=1, epoch=training.epoch + 1)
        train_epoch(training, features, labels, batches, on_step=on_step)


def hand_over(first, second):
    """The state of one run into another that was just started."""
    state = training_state(first)
    restore_training(second, state, epoch=first.epoch, step=first.step)


def states(training):
    return [p.detach().clone() for p in (*training.head.parameters(), *training.loss.parameters())]


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_of_a_seed_starts_from_the_same_head(name):
    reference = make_training("triplet")
    for ours, theirs in zip(
        make_training(name).head.parameters(), reference.head.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs)
    assert not torch.equal(
        make_training(name, seed=4).head.linear.weight, reference.head.linear.weight
    )


def test_making_a_run_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    make_training()
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("name", ["arcface", "ccl"])
def test_the_loss_s_own_rows_are_trained_too(name):
    training = make_training(name)
    before = training.loss.proxies.detach().clone()
    run_epochs(training, 1)
    assert (training.loss.proxies - before).abs().max() > 0.001


@pytest.mark.parametrize("name", LOSSES)
def test_a_few_epochs_lower_the_loss(name):
    training = make_training(name)
    features, labels = make_data()
    rows = torch.arange(60)
    before = training.loss(embed(training.head, features, rows), labels).item()
    run_epochs(training, 8)
    assert training.loss(embed(training.head, features, rows), labels).item() < before


def test_a_step_is_seen_between_backward_and_update():
    training = make_training()
    seen = []

    def look(step):
        seen.append((step.number, step.epoch))
        (expected,) = torch.autograd.grad(
            training.loss(
                leaf := step.embeddings.detach().requires_grad_(), labels[batches[step.number]]
            ),
            leaf,
        )
        torch.testing.assert_close(step.embeddings.grad, expected)
        assert torch.equal(step.head_parameters[0], training.head.linear.weight)
        assert all(p.grad is not None for p in (*step.head_parameters, *step.loss_parameters))

    features, labels = make_data()
    batches = random_batches(torch.arange(60), batch_size=20, seed=1, epoch=1)
    train_epoch(training, features, labels, batches, on_step=look)
    assert seen == [(0, 1), (1, 1), (2, 1)]


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_every_optimizer_and_schedule_resumes_to_the_same_bits(optimizer, momentum):
    def start():
        return start_training(
            seed=3,
            make_head=lambda: MLPHead(8, 5, hidden_size=6),
            schedule=scheduled("cosine", learning_rate=0.01, epochs=5, warmup_epochs=1),
            make_loss=lambda: load_loss("triplet"),
            optimizer=optimizer,
            weight_decay=0.1,
            momentum=momentum,
        )

    whole, first, second = start(), start(), start()
    run_epochs(whole, 5)
    run_epochs(first, 2)
    hand_over(first, second)
    run_epochs(second, 5)
    for ours, theirs in zip(states(second), states(whole), strict=True):
        assert torch.equal(ours, theirs)
    # the update is the one that torch's own unfused optimiser makes
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[optimizer]
    slow = start()
    settings = {"momentum": momentum} if optimizer == "sgd" else {}
    slow.optimizer = kind(
        slow.head.parameters(), lr=0.0, weight_decay=0.1, foreach=False, **settings
    )
    run_epochs(slow, 5)
    for ours, theirs in zip(states(slow), states(whole), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_schedule_warms_up_in_a_line_and_falls_as_a_cosine():
    rate = scheduled("cosine", learning_rate=2.0, epochs=6, warmup_epochs=2)
    assert [rate(t) for t in (0, 0.5, 1, 2)] == [0, 0.5, 1, 2]
    assert rate(4) == pytest.approx(1.0)
    assert rate(5) == pytest.approx(1 - 0.5**0.5)
    assert rate(6) == pytest.approx(0.0)
    constant = scheduled("constant", learning_rate=2.0, epochs=6)
    assert constant(0) == constant(5.9) == 2.0


def test_a_schedule_is_what_the_optimizer_is_told_at_each_step():
    training = make_training("triplet")
    training.schedule = scheduled("cosine", learning_rate=0.01, epochs=2)
    seen = []
    run_epochs(training, 2, on_step=lambda s: seen.append(training.optimizer.param_groups[0]["lr"]))
    expected = [0.005 * (1 + math.cos(math.pi * (k + 0.5) / 6)) for k in range(6)]
    assert seen == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["triplet", "ccl"])
def test_a_run_that_resumes_comes_to_the_same_bits(name):
    whole = make_training(name)
    run_epochs(whole, 5)
    first = make_training(name)
    run_epochs(first, 2)
    second = make_training(name)
    hand_over(first, second)
    assert (second.epoch, second.step) == (2, 6)
    run_epochs(second, 5)
    for ours, theirs in zip(states(second), states(whole), strict=True):
        assert torch.equal(ours, theirs)


def test_a_loss_of_nan_stops_the_run_and_says_when():
    class Broken(torch.nn.Module):
        def forward(self, z, y):
            return z.sum() * float("nan")

    training = make_training()
    training.loss = Broken()
    features, labels = make_data()
    with pytest.raises(
        RunError,
        match=r"the run diverged in epoch 1, step 0, at learning rate 0.01: the loss is nan; try a lower",
    ):
        train_epoch(training, features, labels, [torch.arange(20)], on_step=lambda step: None)


@pytest.mark.parametrize(
    ("batch_size", "sign"),
    [(20, "epoch 1, step 1, .*: the embeddings are"), (60, "epoch 1, step 1, .*: its last update")],
    ids=["in the second step", "in the last update"],
)
@pytest.mark.parametrize("name", LOSSES)
def test_a_run_that_diverges_says_so_with_its_step_and_learning_rate(name, batch_size, sign):
    training = make_training(name)
    training.schedule = lambda time: 1e38
    features, labels = make_data()
    batches = torch.arange(60).split(batch_size)
    with pytest.raises(RunError, match=sign) as error:
        train_epoch(training, features, labels, batches, on_step=lambda step: None)
    assert "at learning rate 1e+38" in str(error.value)


def test_a_batch_that_breaks_a_rule_is_not_taken_for_a_run_that_diverged():
    features, labels = make_data()
    with pytest.raises(InputError, match="labels must be in 0 … 3"):
        train_epoch(make_training(), features, labels + 9, [torch.arange(20)], on_step=print)


def test_a_black_box_is_evaluated_without_inventing_anything():
    class Box(torch.nn.Module):
        def forward(self, z, y):
            return z.sum()

    found = evaluate(Box(), torch.ones(2, 2), torch.zeros(2))
    assert found.value == 4
    assert found == Evaluation(found.value)


def test_a_head_that_gives_no_finite_embeddings_is_named():
    training = make_training()
    training.head.linear.weight.data[0, 0] = torch.nan
    with pytest.raises(RunError, match="the run diverged: the embeddings of its head"):
        embed(training.head, make_data()[0], torch.arange(50))


def test_embedding_in_chunks_is_embedding_at_once(monkeypatch):
    training = make_training()
    features, _ = make_data()
    rows = torch.arange(50)
    whole = embed(training.head, features, rows)
    monkeypatch.setattr("lossgauge.training.EMBED_ROWS", 7)
    torch.testing.assert_close(embed(training.head, features, rows), whole)
    torch.testing.assert_close(whole.norm(dim=1), torch.ones(50))


def test_what_a_loss_draws_is_not_what_the_head_drew():
    training = start_training(
        seed=0,
        make_head=lambda: LinearHead(64, 128),
        schedule=scheduled("constant", learning_rate=0.01, epochs=1),
        make_loss=lambda: load_loss("arcface", class_count=64, embedding_size=128),
    )
    pair = torch.stack(
        (training.loss.proxies.detach().flatten(), training.head.linear.weight.detach().flatten())
    )
    # of 8,192 independent numbers, four deviations; from one stream of bits it is -0.35
    assert torch.corrcoef(pair)[0, 1].abs() < 0.044


class Remembers(torch.nn.Module):
    """A queue that grows, a center that comes with the first batch, and a row that becomes as wide as the batch."""

    def __init__(self):
        super().__init__()
        self.register_buffer("queue", torch.zeros(0, 5))
        self.register_buffer("center", None)
        self.register_buffer("row", torch.zeros(1, 5))

    def forward(self, z, y):
        if self.center is None:
            self.center = z.detach().mean(0)
        if "late" not in dict(self.named_buffers()):
            self.register_buffer("late", torch.ones((), dtype=torch.int64))
        self.late += 1
        self.row = z.detach() + self.row
        self.queue = torch.cat((self.queue, z.detach()[:3]))[-40:]
        return (
            (z - self.center).square().sum()
            + (z @ self.queue.T).sum() / self.late
            + (z * self.row).sum()
        )


def test_buffers_that_grow_or_come_late_resume_to_the_same_bits():
    def start():
        training = make_training("triplet")
        training.loss = Remembers()
        return training

    whole, first, second = start(), start(), start()
    run_epochs(whole, 5)
    run_epochs(first, 2)
    hand_over(first, second)
    run_epochs(second, 5)
    assert torch.equal(second.head.linear.weight, whole.head.linear.weight)
    for ours, theirs in zip(second.loss.buffers(), whole.loss.buffers(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_state_of_another_head_or_loss_is_refused_and_not_spread_over_it():
    other = make_training("triplet")
    other.head = LinearHead(8, 1)
    with pytest.raises(ValueError, match="another shape before and after the stop"):
        hand_over(make_training("triplet"), other)
    with pytest.raises(ValueError, match="exists only before or after the stop"):
        hand_over(make_training("triplet"), make_training("ccl"))


def draws():
    return [float(torch.rand(())), float(np.random.rand()), random.random()]


def test_all_three_generators_follow_the_seed_and_are_then_as_they_were():
    for _ in range(2):
        with seeded(5):
            draws()
    kept = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    with seeded(5):
        five = draws()
    with seeded(5):
        again = draws()
    with seeded(6):
        six = draws()
    assert five == again
    assert all(a != b for a, b in zip(five, six, strict=True))
    assert torch.equal(torch.get_rng_state(), kept[0])
    assert (np.random.get_state()[1] == kept[1]).all()
    assert random.getstate() == kept[2]

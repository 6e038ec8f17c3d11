"""The memory of a training: which rows it holds, how far they have drifted, and that a stopped run has it again."""

import math

import pytest
import torch

from lossgauge.data.samplers import random_batches
from lossgauge.heads import LinearHead
from lossgauge.losses.registry import load_loss
from lossgauge.memory import Memory, drift
from lossgauge.training import (
    embed,
    memory_drift,
    restore_training,
    scheduled,
    start_training,
    train_epoch,
    training_state,
)
from tests.test_training import make_data, run_epochs, states


def make_training(name="triplet", memory_size=0):
    return start_training(
        seed=3,
        make_head=lambda: LinearHead(8, 5),
        schedule=scheduled("constant", learning_rate=0.01, epochs=5),
        make_loss=lambda: load_loss(name),
        memory_size=memory_size,
    )


def test_the_memory_is_the_last_rows_of_the_batches_in_their_order():
    generator = torch.Generator().manual_seed(0)
    for size in (1, 5, 7, 30):
        memory, everything = None, []
        for start in range(0, 21, 3):
            batch = torch.randn(3, 4, generator=generator)
            rows = torch.arange(start, start + 3)
            everything += [*zip(batch, rows % 2, rows, strict=True)]
            memory = (memory or Memory.without_rows(batch)).after(batch, rows % 2, rows, size=size)
            for found, wanted in zip(memory, zip(*everything[-size:], strict=True), strict=True):
                assert torch.equal(found, torch.stack(wanted))
    assert not memory.embeddings.requires_grad


def test_drift_is_one_minus_the_mean_cosine():
    generator = torch.Generator().manual_seed(1)
    old, new = torch.randn(2, 9, 4, generator=generator, dtype=torch.float64)
    cosines = [float(a @ b / a.norm() / b.norm()) for a, b in zip(old, new, strict=True)]
    assert drift(old, new) == pytest.approx(1 - sum(cosines) / 9, rel=1e-12)
    assert drift(old, 3 * old) == pytest.approx(0, abs=1e-12)
    assert drift(old, -old) == pytest.approx(2)
    assert drift(torch.zeros(2, 4), old[:2]) == 1
    assert math.isnan(drift(old[:0], new[:0]))


def test_each_step_of_a_training_sees_the_rows_embedded_before_it():
    training, seen = make_training("info_nce", memory_size=30), []
    features, labels = make_data()
    batches = [
        b for e in (1, 2) for b in random_batches(torch.arange(60), batch_size=20, seed=1, epoch=e)
    ]
    assert memory_drift(training, features) is None

    def look(step):
        rows = batches[step.number]
        before = Memory.without_rows(step.embeddings)
        for embedded, old in seen[-2:]:
            before = before.after(embedded, labels[old], old, size=30)
        leaf = step.embeddings.detach().requires_grad_()
        wanted = training.loss.evaluate_with_memory(leaf, labels[rows], rows, before)
        assert torch.equal(step.evaluation.value, wanted.value)
        assert torch.equal(step.embeddings.grad, torch.autograd.grad(wanted.value, leaf)[0])
        assert step.evaluation.term_count > len(rows) * (len(rows) / 4 - 1) or not seen
        seen.append((step.embeddings.detach().clone(), rows))

    train_epoch(training, features, labels, batches, on_step=look)
    assert len(seen) == 6
    assert training.memory.rows.tolist() == torch.cat(batches)[-30:].tolist()
    again = embed(training.head, features, training.memory.rows)
    assert memory_drift(training, features) == drift(training.memory.embeddings, again) > 0


@pytest.mark.parametrize("stop", [1, 3])
def test_a_training_that_is_stopped_has_its_memory_again_and_comes_to_the_same_bits(stop):
    whole, first, second = (make_training("scl", memory_size=50) for _ in range(3))
    run_epochs(whole, 4)
    run_epochs(first, stop)
    state = training_state(first)
    restore_training(second, state, epoch=first.epoch, step=first.step)
    assert all(map(torch.equal, first.memory, second.memory))
    run_epochs(second, 4)
    assert all(map(torch.equal, (*states(second), *second.memory), (*states(whole), *whole.memory)))
    # the memory matters: without it the run ends elsewhere
    plain = make_training("scl")
    run_epochs(plain, 4)
    assert not torch.equal(states(plain)[0], states(whole)[0])
    with pytest.raises(ValueError, match=r"'memory\.\w+' exists only before or after the stop"):
        restore_training(make_training("scl"), state, epoch=1, step=3)

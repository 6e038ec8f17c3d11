"""When a training was too short to say that it does not help: steps, a curve that rises, a loss that has not moved."""

from __future__ import annotations

import numpy as np
import pytest

from lossgauge.health.short_training import Trained, last_rate, too_little_training


def trained(curve, *, reference=0.5, steps=None, losses=(), noise=0.0, seeds=1, **known) -> Trained:
    generator = np.random.default_rng(0)
    curves = [
        {epoch: value + noise * generator.standard_normal() for epoch, value in enumerate(curve)}
        for _ in range(seeds)
    ]
    mean = {epoch: float(np.mean([of[epoch] for of in curves])) for epoch in curves[0]}
    usual = {"margin": 0.005, "epochs": len(curve) - 1, "learning_rate": 0.001}
    return Trained(
        "mnrl", "nDCG@10", mean, curves, reference, steps=steps, losses=losses, **{**usual, **known}
    )


def test_three_steps_tell_nothing_and_epochs_are_advised():
    found = too_little_training(trained([0.5, 0.5, 0.501, 0.502], steps=3))
    assert found.evidence.startswith("3 steps of the optimiser in 3 epochs (nDCG@10 changes by 0.1")
    assert found.advice == "`epochs: 50`"
    assert too_little_training(trained([0.5, 0.5, 0.4995, 0.5], steps=20)) is None


def test_after_a_fall_in_few_steps_a_lower_rate_is_advised():
    found = too_little_training(trained([0.5, 0.3, 0.25], steps=4))
    assert found.advice == "`learning_rate: 0.0001`"


def test_a_curve_that_rises_until_the_end_leaves_it_open():
    rising = [0.3 + 0.01 * epoch for epoch in range(11)]
    found = too_little_training(trained(rising, noise=0.002, seeds=3, steps=200))
    assert found.evidence.startswith("nDCG@10 still rises by 1.0 points an epoch at the last of 10")
    assert found.advice == "`epochs: 30`"


def test_a_curve_that_could_not_reach_the_reference_is_no_excuse():
    rising = [0.3 + 0.001 * epoch for epoch in range(11)]
    assert too_little_training(trained(rising)) is None  # 0.31 + 20 × 0.001 is below 0.505
    assert too_little_training(trained(rising, reference=0.32)) is not None


def test_a_gain_that_more_epochs_would_hardly_change_is_not_short_of_them():
    rising = [0.4 + 0.015 * epoch for epoch in range(11)]
    assert too_little_training(trained(rising)) is not None  # 0.05 now, 0.3 more ahead
    slower = [0.5 + 0.07 * (epoch > 4) + 0.001 * epoch for epoch in range(11)]
    assert too_little_training(trained(slower)) is None  # 0.08 now, 0.02 more


@pytest.mark.parametrize("seeds", [1, 3])
def test_training_to_its_end_and_worse_is_worse(seeds):
    worse = [0.5 - 0.05 * (1 - np.exp(-epoch / 3)) for epoch in range(31)]
    losses = [2 * np.exp(-epoch / 3) for epoch in range(1, 31)]
    for noise in (0.0, 0.002, 0.01):
        assert too_little_training(trained(worse, noise=noise, seeds=seeds, losses=losses)) is None


def test_seeds_that_do_not_agree_that_it_rises_are_scatter():
    curves = [{0: 0.5, 1: 0.5, 2: 0.49}, {0: 0.5, 1: 0.5, 2: 0.495}, {0: 0.5, 1: 0.4, 2: 0.5}]
    mean = {epoch: float(np.mean([of[epoch] for of in curves])) for epoch in (0, 1, 2)}
    of = trained([0.5, 0.5, 0.5])._replace(curve=mean, curves=curves)
    assert last_rate(mean) > 0
    assert too_little_training(of) is None


def test_where_nothing_has_moved_yet_the_setting_depends_on_the_loss():
    still = [0.5] * 9
    evenly = [2 - 0.1 * epoch for epoch in range(8)]
    found = too_little_training(trained(still, losses=evenly, steps=400))
    assert "the loss still falls evenly (2 to 1.3)" in found.evidence
    assert found.advice == "`epochs: 24`"
    hardly = [2 - 0.001 * epoch for epoch in range(8)]
    found = too_little_training(trained(still, losses=hardly, steps=400))
    assert found.advice == "`learning_rate: 0.01`"
    ended = [2 * np.exp(-epoch) for epoch in range(8)]
    assert too_little_training(trained(still, losses=ended, steps=400)) is None
    assert too_little_training(trained(still, losses=[0.0] * 8, steps=400)) is None


def test_the_last_rate_is_least_squares_over_the_second_half():
    curve = {0: 0.1, 2: 0.9, 4: 0.5, 5: 0.52, 6: 0.53, 8: 0.6}
    epochs, values = np.array([4, 5, 6, 8]), np.array([0.5, 0.52, 0.53, 0.6])
    slope = np.polyfit(epochs, values, 1)[0]
    assert last_rate(curve) == pytest.approx(slope, abs=1e-12)
    assert last_rate({0: 0.1, 1: 0.3}) == pytest.approx(0.2)
    assert last_rate({0: 0.1}) is None


def test_without_training_there_is_nothing_to_say():
    assert too_little_training(trained([0.5])) is None


def test_where_nothing_is_left_to_gain_no_training_is_too_short():
    few = Trained("mnrl", "nDCG@10", {0: 0.9, 3: 0.9}, [], 0.9, 0.005, 3, 3, [], None)
    assert too_little_training(few) is not None
    assert too_little_training(few._replace(reference=1.0)) is None

"""Successive halving on planted scores."""

import random

import pytest

from lossgauge.advice.halving import (
    Score,
    best_first,
    best_of_losses,
    epochs_of_rungs,
    survivors,
)

LOSSES = ("contrastive", "triplet", "scl")


def scores(values, losses=LOSSES):
    """Candidates in turn of the losses."""
    return [Score(n, losses[n % len(losses)], value) for n, value in enumerate(values)]


@pytest.mark.parametrize(
    ("most", "rungs"), [(27, (3, 9, 27)), (9, (1, 3, 9)), (3, (1, 3)), (1, (1,)), (2, (2,))]
)
def test_each_rung_has_three_times_the_epochs_of_the_one_before(most, rungs):
    assert epochs_of_rungs(most) == rungs


def slow_survivors(of, after_first):
    """The same rule, one candidate at a time."""
    left = [one for one in of if one.value is not None]
    kept = []
    if after_first:
        for loss in sorted({one.loss for one in left}):
            own = [one for one in left if one.loss == loss]
            top = own[0]
            for one in own:
                if one.value > top.value:
                    top = one
            kept.append(top)
    while len(kept) < (len(of) + 2) // 3:
        others = [one for one in left if one not in kept]
        if not others:
            break
        top = others[0]
        for one in others:
            if one.value > top.value:
                top = one
        kept.append(top)
    return sorted(one.candidate for one in kept)


@pytest.mark.parametrize("after_first", [True, False])
def test_survivors_are_those_of_a_slow_loop(after_first):
    chance = random.Random(0)
    for _ in range(200):
        count = chance.randint(1, 20)
        # few different values, so that there are ties; and failures
        values = [chance.choice([None, 0.1, 0.2, 0.3, 0.4]) for _ in range(count)]
        of = scores(values)
        assert survivors(of, after_first=after_first) == slow_survivors(of, after_first)


def test_every_loss_survives_the_first_rung_and_not_the_second():
    of = scores([0.9, 0.1, 0.8, 0.9, 0.1, 0.8, 0.9, 0.1, 0.8])
    assert {of[n].loss for n in survivors(of, after_first=True)} == set(LOSSES)
    assert survivors(of, after_first=False) == [0, 3, 6]


def test_a_failed_candidate_is_never_best_and_never_survives():
    of = scores([None, 0.0, -1.0])
    assert [one.candidate for one in best_first(of)] == [1, 2]
    assert survivors(scores([None, None, None]), after_first=True) == []


def test_the_best_of_each_loss_comes_in_order():
    best = best_of_losses(scores([0.1, 0.9, 0.5, 0.7, 0.2, 0.6]), 2)
    assert [(one.loss, one.candidate) for one in best] == [("triplet", 1), ("contrastive", 3)]

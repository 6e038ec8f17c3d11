"""The largest search that fits, by planted costs."""

import pytest

from lossgauge.advice.halving import Score, survivors
from lossgauge.advice.schedule import (
    LEAST_ROWS,
    SIZES,
    WANTED,
    Cost,
    choose,
    planned_seconds,
    rows_that_fit,
    rows_to_extract,
    rung_sizes,
    search_seconds,
)

LOSSES = ("contrastive", "triplet", "n_pair", "info_nce", "arcface", "scl", "ccl")
COST = Cost(0.1, dict.fromkeys(LOSSES, 0.05))


@pytest.mark.parametrize("count", [1, 2, 3, 6, 12])
def test_the_planned_rungs_are_those_of_a_search_in_which_nothing_fails(count):
    of = [Score(n, LOSSES[n % 7], 1 / (n + 1)) for n in range(7 * count)]
    seen = []
    for rung in range(3):
        seen.append(len(of))
        kept = survivors(of, after_first=rung == 0)
        of = [one for one in of if one.candidate in kept]
    assert rung_sizes(7, count, 3) == seen


def test_seconds_are_those_of_every_run():
    # 42, 14 and 5 runs of 3, 9 and 27 epochs
    runs = 42 * (0.1 + 3 * 0.05) + 14 * (0.1 + 9 * 0.05) + 5 * (0.1 + 27 * 0.05)
    assert search_seconds(COST, 6, 27, jobs=1) == pytest.approx(1.25 * runs)
    assert search_seconds(COST, 6, 27, jobs=2) == pytest.approx(1.25 * runs / 2)


def test_finalists_are_three_losses_and_one_more_with_three_seeds():
    extra = planned_seconds(COST, 6, 27, 1) - search_seconds(COST, 6, 27, 1)
    assert extra == pytest.approx(1.25 * 4 * 3 * (0.1 + 2 * 27 * 0.05))


def test_the_first_size_that_fits_is_chosen_and_the_smallest_if_none_does():
    assert (choose(COST, 1e9, 1).candidates, choose(COST, 1e9, 1).epochs[-1]) == SIZES[0]
    assert (choose(COST, 0.0, 1).candidates, choose(COST, 0.0, 1).epochs[-1]) == SIZES[-1]
    for count, most in SIZES:
        exactly = planned_seconds(COST, count, most, 1)
        chosen = choose(COST, exactly, 1)
        assert chosen.seconds <= exactly
        assert SIZES.index((chosen.candidates, chosen.epochs[-1])) <= SIZES.index((count, most))


def test_a_sample_is_taken_only_if_the_wanted_search_does_not_fit():
    needed = planned_seconds(COST, *WANTED, 1)
    assert rows_that_fit(COST, 100_000, needed, 1) is None
    rows = rows_that_fit(COST, 100_000, needed / 2, 1)
    assert rows is not None
    assert LEAST_ROWS < rows < 100_000
    # with so many rows, the wanted search takes the time that there is
    scaled = COST._replace(epoch=dict.fromkeys(LOSSES, 0.05 * rows / 100_000))
    assert planned_seconds(scaled, *WANTED, 1) == pytest.approx(needed / 2, rel=1e-3)
    assert rows_that_fit(COST, 100_000, 0.0, 1) == LEAST_ROWS
    assert rows_that_fit(COST, 1_500, 0.0, 1) is None


def test_half_of_the_time_goes_to_features_at_most():
    assert rows_to_extract(10_000, 300.0, 600.0) is None
    assert rows_to_extract(10_000, 1_200.0, 600.0) == 2_500

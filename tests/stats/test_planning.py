"""The difference that planned seeds and queries can detect, and the seeds and queries that an open one would take."""

from __future__ import annotations

import numpy as np
import pytest

from lossgauge.stats.crossed import components, crossed, crossed_interval, total
from lossgauge.stats.intervals import Components, Interval, t_quantile
from lossgauge.stats.planning import (
    ASSUMED,
    MOST_SEEDS,
    assumed,
    detectable_difference,
    queries_needed,
    seeds_needed,
)
from lossgauge.stats.seed_variance import Variance, seed_interval


def measured(seeds: int, queries: int) -> np.ndarray:
    generator = np.random.default_rng(3)
    return (
        0.3 * generator.standard_normal((seeds, 1))
        + 0.5 * generator.standard_normal((1, queries))
        + 0.3 * generator.standard_normal((seeds, queries))
    )


def test_components_give_back_the_variance_that_was_measured():
    of = crossed(measured(4, 60))
    parts = components(of)
    assert parts is not None
    whole = total(of.seed_part, of.query_part, of.both_part)
    degrees = float(whole.degrees)
    wanted = whole.variance**0.5 * (t_quantile(degrees) + t_quantile(degrees, 0.8))
    assert detectable_difference(parts, 4, 60) == pytest.approx(wanted)


def test_components_of_one_seed_or_one_query_are_not_known():
    assert components(crossed(measured(1, 60))) is None
    assert components(crossed(measured(3, 1))) is None


def test_the_detectable_difference_is_found_with_the_power_that_was_asked_for():
    generator = np.random.default_rng(0)
    of, seeds, queries = Components(1e-4, 0.02, 0.05), 8, 100
    effect = detectable_difference(of, seeds, queries)
    found = 0
    for _ in range(600):
        values = (
            effect
            + of.seed**0.5 * generator.standard_normal((seeds, 1))
            + of.query**0.5 * generator.standard_normal((1, queries))
            + of.both**0.5 * generator.standard_normal((seeds, queries))
        )
        parts = crossed(values)
        whole = total(parts.seed_part, parts.query_part, parts.both_part)
        found += values.mean() > t_quantile(float(whole.degrees)) * whole.variance**0.5
    assert found / 600 == pytest.approx(
        0.8, abs=0.06
    )  # 0.016 is a standard error; cautious at few seeds


def test_more_seeds_and_queries_detect_less():
    by_seeds = [detectable_difference(ASSUMED, seeds, 1_000) for seeds in (2, 3, 5, 10, 100)]
    by_queries = [detectable_difference(ASSUMED, 3, queries) for queries in (50, 200, 2_000)]
    assert by_seeds == sorted(by_seeds, reverse=True)
    assert by_queries == sorted(by_queries, reverse=True)


def planned(mean: float, seeds: int, queries: int) -> Interval:
    return Interval(mean, 0.1, seeds, queries=queries, components=ASSUMED)


@pytest.mark.parametrize("family", [1, 21])
def test_the_seeds_that_are_needed_are_the_least_that_are_enough(family):
    of = planned(0.02, 3, 2_000)
    seeds = seeds_needed(of, None, family=family)
    assert seeds is not None
    assert detectable_difference(ASSUMED, seeds, 2_000, family=family) <= 0.02
    assert detectable_difference(ASSUMED, seeds - 1, 2_000, family=family) > 0.02
    queries = queries_needed(planned(0.04, 5, 200), None, family=family)
    assert queries is not None
    assert detectable_difference(ASSUMED, 5, queries, family=family) <= 0.04
    assert detectable_difference(ASSUMED, 5, queries - 1, family=family) > 0.04


def test_three_losses_inform_each_other():
    assert assumed(2) == ASSUMED
    assert detectable_difference(assumed(3), 3, 2_000) < detectable_difference(ASSUMED, 3, 2_000)


def test_a_family_takes_more_seeds():
    alone, corrected = (seeds_needed(planned(0.02, 2, 2_000), None, family=n) for n in (1, 21))
    assert alone is not None
    assert corrected is not None
    assert corrected > alone


def test_more_seeds_than_there_are_and_no_number_above_a_thousand():
    assert seeds_needed(planned(0.5, 7, 2_000), None) == 8
    assert seeds_needed(planned(1e-9, 3, 2_000), None) is None
    spread = seed_interval(np.array([-1.0, 1.0, 0.03]), Variance(1.0, 2.0))
    assert seeds_needed(spread, None) is None
    assert MOST_SEEDS == 1_000


def test_no_number_of_seeds_replaces_queries_and_the_reverse():
    assert seeds_needed(planned(0.001, 3, 100), None) is None
    assert queries_needed(planned(0.001, 3, 100), None) is None


def test_a_margin_makes_a_small_difference_decidable():
    assert seeds_needed(planned(0.0, 3, 100_000), None) is None
    assert seeds_needed(planned(0.0, 3, 100_000), 0.005) is not None


def test_a_number_without_queries_takes_the_seeds_of_its_spread():
    of = seed_interval(np.array([0.04, 0.06, 0.08]), Variance(0.03**2, 6.0))
    assert queries_needed(of, None) is None
    seeds = seeds_needed(of, None)
    assert seeds is not None
    for count, enough in ((seeds - 1, False), (seeds, True)):
        degrees = 3 * (count - 1)  # 6 for three seeds
        reach = t_quantile(degrees) + t_quantile(degrees, 0.8)
        assert (reach * 0.03 / count**0.5 <= 0.06) == enough or count <= 3


def test_without_a_spread_nothing_is_proposed():
    for values in ([0.5], [0.5, 0.5]):
        assert seeds_needed(seed_interval(np.array(values), None), 0.1) is None
    one_seed = crossed_interval(crossed(measured(1, 60)))
    assert seeds_needed(one_seed, 0.1) is None
    assert queries_needed(one_seed, 0.1) is None

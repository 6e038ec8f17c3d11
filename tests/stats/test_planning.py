"""The difference that planned seeds and queries can detect, and the seeds and queries that an open one would take."""

from __future__ import annotations

import numpy as np
import pytest

from lossgauge.stats.crossed import crossed, total
from lossgauge.stats.intervals import t_quantile
from lossgauge.stats.planning import (
    ASSUMED,
    Components,
    components,
    detectable_difference,
    queries_needed,
    seeds_needed,
)


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


def test_the_seeds_that_are_needed_are_the_least_that_are_enough():
    seeds = seeds_needed(ASSUMED, 0.02, 2_000)
    assert seeds is not None
    assert detectable_difference(ASSUMED, seeds, 2_000) <= 0.02
    assert detectable_difference(ASSUMED, seeds - 1, 2_000) > 0.02
    queries = queries_needed(ASSUMED, 0.02, 5)
    assert queries is not None
    assert detectable_difference(ASSUMED, 5, queries) <= 0.02
    assert detectable_difference(ASSUMED, 5, queries - 1) > 0.02


def test_no_number_of_seeds_replaces_queries_and_the_reverse():
    assert seeds_needed(ASSUMED, 0.001, 100) is None
    assert queries_needed(ASSUMED, 0.001, 3) is None


def test_a_margin_makes_a_small_difference_decidable():
    assert seeds_needed(ASSUMED, 0.0, 100_000) is None
    assert seeds_needed(ASSUMED, 0.0, 100_000, margin=0.005) is not None

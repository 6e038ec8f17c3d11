"""A difference over several datasets: by hand, against a slow search, and in simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats

from lossgauge.stats.datasets import limit, rank_intervals, summarize
from lossgauge.stats.decisions import Decision
from lossgauge.stats.intervals import Interval, student


def of(means, errors, degrees: float = 1e6) -> list[Interval]:
    return [student(m, e, degrees, 3) for m, e in zip(means, errors, strict=True)]


MEANS = np.array([0.10, 0.30, -0.05, 0.22, 0.41, 0.02])
ERRORS = np.array([0.05, 0.10, 0.04, 0.08, 0.12, 0.06])


def test_the_spread_between_datasets_solves_paule_and_mandels_equation():
    found = summarize(of(MEANS, ERRORS))

    def excess(between: float) -> float:
        weights = 1 / (ERRORS**2 + between)
        mean = np.average(MEANS, weights=weights)
        return float((weights * (MEANS - mean) ** 2).sum() - 5)

    between = optimize.brentq(excess, 0, 1)
    weights = 1 / (ERRORS**2 + between)
    mean = np.average(MEANS, weights=weights)
    error = np.sqrt(
        (weights * (MEANS - mean) ** 2).sum() / 5 / weights.sum()
    )  # Hartung and Knapp's
    assert found is not None
    assert found.spread == pytest.approx(between**0.5)
    assert found.interval.mean == pytest.approx(mean)
    assert found.interval.half_width == pytest.approx(stats.t.ppf(0.975, 5) * error)
    fixed = np.average(MEANS, weights=ERRORS**-2)
    cochran = (ERRORS**-2 * (MEANS - fixed) ** 2).sum()
    assert found.heterogeneity_p_value == pytest.approx(stats.chi2.sf(cochran, 5))
    assert 0 < found.heterogeneity < 1
    assert found.next_dataset is not None
    assert found.next_dataset[0] < found.interval.low
    assert (found.limit, found.interval.size) == ("", 6)


def test_equal_datasets_have_no_spread_and_no_narrower_interval_than_their_errors_give():
    found = summarize(of([0.2] * 6, [0.1] * 6))
    assert found is not None
    assert (found.spread, found.heterogeneity) == (0.0, 0.0)
    assert found.interval.half_width == pytest.approx(stats.t.ppf(0.975, 5) * 0.1 / 6**0.5)


def test_a_dataset_without_an_interval_is_left_out_and_one_is_not_a_summary():
    two = summarize([*of([0.1, 0.2], [0.05, 0.05]), Interval(9.0, None, 1)])
    assert two is not None
    assert two.interval.size == 2
    assert two.next_dataset is None
    assert summarize(of([0.1], [0.1])) is None


def test_below_six_datasets_the_limit_is_stated():
    found = summarize(of(MEANS[:5], ERRORS[:5]))
    assert found is not None
    assert found.limit.startswith("5 datasets: with fewer than 6")
    assert found.interval.approximate == found.limit
    assert stats.binomtest(5, 5).pvalue > 0.05 > stats.binomtest(6, 6).pvalue
    assert limit(1).startswith("1 dataset:")


def test_the_interval_over_six_datasets_covers():
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(500):
        errors = generator.uniform(0.05, 0.2, 6)
        means = 0.1 + 0.1 * generator.standard_normal(6) + errors * generator.standard_normal(6)
        found = summarize(of(means, errors))
        assert found is not None
        covered += found.interval.low <= 0.1 <= found.interval.high
    assert 0.93 <= covered / 500 <= 0.98


def both_ways(**sides: str) -> dict[tuple[str, str], Decision]:
    """`ab="higher"`: a is clearly higher than b."""
    decided = {(left, right): Decision(side) for (left, right), side in sides.items()}
    return {**decided, **{(b, a): of.turned for (a, b), of in decided.items()}}


def test_ranks_are_as_far_as_clear_differences_say():
    found = rank_intervals(both_ways(ab="higher", ac="higher", bc="open"))
    assert found == {"a": (1, 1), "b": (2, 3), "c": (2, 3)}
    assert rank_intervals(both_ways(ab="open")) == {"a": (1, 2), "b": (1, 2)}
    assert rank_intervals(both_ways(ab="equivalent")) == {"a": (1, 2), "b": (1, 2)}
    assert rank_intervals(both_ways(ab="lower")) == {"a": (2, 2), "b": (1, 1)}
    assert rank_intervals({}) == {}

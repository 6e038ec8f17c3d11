"""What a handful of seeds can tell, against scipy and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from lossgauge.report.intervals import interval, known, paired_difference, rank_correlation


def test_an_interval_is_scipys_t_interval():
    values = [0.91, 0.87, 0.95, 0.9]
    found = interval(values)
    assert found is not None
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)


def test_an_interval_of_two_has_the_quantile_of_one_degree_of_freedom():
    found = interval([1.0, 3.0])
    assert found is not None
    assert found.mean == 2.0
    assert found.half_width == pytest.approx(12.706204736, rel=1e-9)  # tables: t(0.975, 1) × 1


def test_one_seed_has_no_interval_and_resolves_nothing():
    found = interval([0.5])
    assert found is not None
    assert found.half_width is None
    assert not found.excludes_zero


def test_equal_seeds_have_an_interval_of_exactly_zero():
    found = interval([6.6e-4] * 3)
    assert found is not None
    assert found.half_width == 0.0


def test_what_is_not_known_is_left_out_and_never_zero():
    found = interval([None, 0.4, math.nan, 0.6])
    assert found is not None
    assert (found.mean, found.size) == (0.5, 2)
    assert interval([None, math.nan]) is None
    assert known(True) is None
    assert known("0.5") is None


def test_pairing_by_seed_resolves_what_the_seeds_spread_hides():
    left = {0: 0.50, 1: 0.70, 2: 0.90}
    right = {2: 0.88, 1: 0.68, 0: 0.481}
    paired = paired_difference(left, right)
    assert paired is not None
    assert paired.excludes_zero
    expected = stats.ttest_rel([0.50, 0.70, 0.90], [0.481, 0.68, 0.88])
    assert paired.low == pytest.approx(expected.confidence_interval().low, rel=1e-9)


def test_pairing_uses_only_seeds_that_both_have():
    paired = paired_difference({0: 1.0, 1: None, 2: 3.0}, {0: 0.5, 1: 0.0, 7: 9.0})
    assert paired is not None
    assert (paired.mean, paired.size) == (0.5, 1)


def test_rank_correlation_is_scipys_with_an_exact_p_value():
    x, y = [1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 1.0, 3.0, 5.0, 4.0]
    found = rank_correlation(x, y)
    assert found is not None
    assert found.value == pytest.approx(stats.spearmanr(x, y).statistic)

    def statistic(one):  # one side permuted, the other as it is
        return stats.spearmanr(one, y).statistic

    exact = stats.permutation_test((x,), statistic, permutation_type="pairings", n_resamples=200)
    assert found.p_value == pytest.approx(exact.pvalue)


def test_a_perfect_order_of_three_has_a_p_value_of_a_third():
    found = rank_correlation([1.0, 2.0, 3.0], [0.1, 0.5, 0.9])
    assert found is not None
    assert found.p_value == pytest.approx(2 / 6)


def test_rank_correlation_of_a_constant_or_of_two_points_is_none():
    assert rank_correlation([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None
    assert rank_correlation([1.0, 2.0], [1.0, 2.0]) is None

"""What a handful of seeds can tell, against scipy and by hand."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from lossgauge.stats.intervals import holm, interval, known, rank_correlation


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


@pytest.mark.parametrize("value", [6.6e-4, 0.25, 0.0, -3.0])
def test_equal_seeds_have_no_interval_and_resolve_nothing(value):
    found = interval([value] * 3)
    assert found is not None
    assert (found.mean, found.half_width, found.p_value, found.size) == (value, None, None, 3)
    assert not found.excludes_zero
    assert found.why_none == "no spread between the seeds"


def test_what_is_not_known_is_left_out_and_never_zero():
    found = interval([None, 0.4, math.nan, 0.6])
    assert found is not None
    assert (found.mean, found.size) == (0.5, 2)
    assert interval([None, math.nan]) is None
    assert known(True) is None
    assert known(math.inf) is known(-math.inf) is None
    assert known("0.5") is None


def test_rank_correlation_is_scipys_with_an_exact_p_value():
    x, y = [1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 1.0, 3.0, 5.0, 4.0]
    found = rank_correlation(x, y)
    assert found is not None
    assert found.value == pytest.approx(stats.spearmanr(x, y).statistic)

    def statistic(one):  # one side permuted, the other as it is
        return stats.spearmanr(one, y).statistic

    exact = stats.permutation_test((x,), statistic, permutation_type="pairings", n_resamples=200)
    assert found.p_value == pytest.approx(exact.pvalue)


def exact_p_value(x, y):
    """Share of all orders of `y` whose rank correlation is as large, in whole numbers: nothing is rounded."""

    def doubled(values):  # a rank from the middle, of ties the mean: twice that is whole
        return [sum(int(v > w) - int(v < w) for w in values) for v in values]

    ranks_x, ranks_y = np.array(doubled(x)), np.array(doubled(y))
    orders = np.array(list(permutations(ranks_y)))
    return np.mean(np.abs(orders @ ranks_x) >= abs(int(ranks_x @ ranks_y)))


@pytest.mark.parametrize("size", [3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("tied", [False, True])
def test_the_p_value_of_up_to_eight_points_counts_every_order_as_large(size, tied):
    generator = np.random.default_rng(size)
    for _ in range(3 if size == 8 else 30):
        x, y = generator.permutation(size), generator.permutation(size)
        if tied:
            x, y = x // 2, np.minimum(y, size // 2)
        found = rank_correlation(x.tolist(), y.tolist())
        assert found is not None
        assert found.value == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
        assert found.p_value == pytest.approx(exact_p_value(x, y), abs=1e-12)


def test_from_nine_points_the_p_value_is_that_of_students_t():
    x = list(range(9))
    y = [2, 0, 1, 5, 3, 8, 4, 7, 6]
    found = rank_correlation(x, y)
    assert found is not None
    assert found.p_value == pytest.approx(stats.spearmanr(x, y).pvalue, rel=1e-12)
    eight = rank_correlation(x[:8], y[:8])
    assert eight is not None
    # t gives 0.028 here, every order counted 0.037
    assert eight.p_value == pytest.approx(exact_p_value(x[:8], y[:8]), abs=1e-12)
    assert abs(eight.p_value - stats.spearmanr(x[:8], y[:8]).pvalue) > 1e-3


def test_a_perfect_order_of_three_has_a_p_value_of_a_third():
    found = rank_correlation([1.0, 2.0, 3.0], [0.1, 0.5, 0.9])
    assert found is not None
    assert found.p_value == pytest.approx(2 / 6)


def test_rank_correlation_of_a_constant_or_of_two_points_is_none():
    assert rank_correlation([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None
    assert rank_correlation([1.0, 2.0], [1.0, 2.0]) is None


@pytest.mark.parametrize("size", [2, 3, 9])
def test_the_p_value_of_a_paired_difference_is_that_of_scipys_t_test(size):
    generator = np.random.default_rng(size)
    left, right = np.add(generator.standard_normal((2, size)), [[0.8], [0.0]])
    found = interval(left - right)
    assert found is not None
    assert found.p_value == pytest.approx(stats.ttest_rel(left, right).pvalue, rel=1e-9)
    assert found.excludes_zero == (found.p_value < 0.05)


def test_a_p_value_by_hand():
    found = interval([1.0, 2.0, 3.0])  # t = 2 / (1/√3) on 2 degrees: p = 1 − t/√(2 + t²)
    assert found is not None
    t = 2 * math.sqrt(3)
    assert found.p_value == pytest.approx(1 - t / math.sqrt(2 + t * t), rel=1e-12)


def test_one_seed_has_no_p_value():
    found = interval([0.25])
    assert found is not None
    assert (found.p_value, found.why_none) == (None, "one seed")


def holm_by_definition(p_values: list[float]) -> list[float]:
    """The least level at which the step-down procedure still rejects each one."""
    ranked = sorted(p_values)
    return [
        max(min(1.0, (len(ranked) - j) * ranked[j]) for j in range(ranked.index(p) + 1))
        for p in p_values
    ]


def test_holms_correction_is_the_step_down_procedure():
    generator = np.random.default_rng(5)
    for size in (1, 2, 5, 12):
        p_values = [float(p) for p in generator.random(size) ** 3]
        assert holm(p_values) == pytest.approx(holm_by_definition(p_values), rel=1e-12)
        for level in (0.01, 0.05, 0.3):
            rejected = 0
            for place, p in enumerate(sorted(p_values)):
                if p > level / (size - place):
                    break
                rejected += 1
            assert sum(p <= level for p in holm(p_values)) == rejected


def test_holms_correction_of_a_known_case_of_ties_and_of_nothing():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.02, 0.02]) == pytest.approx([0.04, 0.04])
    assert holm([]) == []

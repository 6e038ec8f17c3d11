"""Intervals over seeds and queries: against analysis of variance by loops, scipy, lme4's numbers, and at the edges."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lossgauge.errors import InputError
from lossgauge.stats.crossed import crossed, crossed_interval, over_new_queries, total
from lossgauge.stats.seed_variance import Variance


def table(seeds: int, queries: int, *, seed: int = 0) -> np.ndarray:
    """Differences with an effect of each seed and of each query."""
    generator = np.random.default_rng(seed)
    return (
        0.05
        + 0.1 * generator.standard_normal((seeds, 1))
        + 0.5 * generator.standard_normal((1, queries))
        + 0.3 * generator.standard_normal((seeds, queries))
    )


def mean_squares(values: np.ndarray) -> tuple[float, float, float]:
    """Of seeds, of queries and of the rest, by loops: the textbook's two-way table."""
    seeds, queries = values.shape
    grand = sum(sum(row) for row in values) / (seeds * queries)
    of_seed = [sum(row) / queries for row in values]
    of_query = [sum(values[s, q] for s in range(seeds)) / seeds for q in range(queries)]
    between_seeds = queries * sum((m - grand) ** 2 for m in of_seed) / (seeds - 1)
    between_queries = seeds * sum((m - grand) ** 2 for m in of_query) / (queries - 1)
    rest = sum(
        (values[s, q] - of_seed[s] - of_query[q] + grand) ** 2
        for s in range(seeds)
        for q in range(queries)
    ) / ((seeds - 1) * (queries - 1))
    return between_seeds, between_queries, rest


@pytest.mark.parametrize(("seeds", "queries"), [(2, 7), (3, 40), (5, 12)])
def test_the_variance_is_that_of_mean_squares_and_each_part_has_its_own_t(seeds, queries):
    values = table(seeds, queries)
    of_seeds, of_queries, rest = mean_squares(values)
    found = crossed(values)
    scale = seeds * queries
    assert found.seed_part == pytest.approx((of_seeds / scale, seeds - 1))
    assert found.query_part == pytest.approx((of_queries / scale, queries - 1))
    assert found.both_part == pytest.approx((rest / scale, (seeds - 1) * (queries - 1)))
    whole = total(found.seed_part, found.query_part, found.both_part)
    excess = max(of_seeds - rest, 0.0) / scale
    variance = excess + of_queries / scale
    assert whole.variance == pytest.approx(variance)

    def squared_half_width(level: float) -> float:
        of_seeds, of_queries = (
            stats.t.isf(level / 2, degrees) ** 2 for degrees in (seeds - 1, queries - 1)
        )
        return of_seeds * excess + of_queries * (variance - excess)

    interval = crossed_interval(found)
    assert interval.half_width == pytest.approx(squared_half_width(0.05) ** 0.5)
    assert interval.standard_error == pytest.approx(variance**0.5)
    assert squared_half_width(interval.p_value) == pytest.approx(interval.mean**2)
    assert interval.over == "new seeds and new queries"


def test_the_variance_of_the_mean_is_lme4s():
    """lmer(y ~ 1 + (1|seed) + (1|query)) of lme4 1.1-31: fixef and vcov; tests/batteries/test_oracles.py asks lme4 itself."""
    s, q = np.arange(1, 5)[:, None], np.arange(1, 13)
    values = (
        0.05
        + 0.08 * np.sin(1.7 * s)
        + 0.4 * np.sin(2.9 * q + 0.3)
        + 0.25 * np.sin(5.3 * s * q + q**2)
    )
    found = crossed(values)
    whole = total(found.seed_part, found.query_part, found.both_part)
    assert found.mean == pytest.approx(0.0356764214626)
    assert whole.variance == pytest.approx(0.0102541894781, rel=1e-4)  # lmer stops there


def test_classes_of_one_query_are_queries():
    values = table(3, 11)
    each = crossed(values, drawn="classes", classes=np.arange(11))
    plain = crossed(values)
    for part in ("seed_part", "query_part", "both_part"):
        assert getattr(each, part) == pytest.approx(getattr(plain, part))


def test_with_new_classes_the_unit_is_the_class():
    values = table(3, 12)
    classes = np.repeat([4, 9, 2, 7], 3)
    found = crossed(values, drawn="classes", classes=classes)
    of_means = crossed(
        values.reshape(3, 4, 3).mean(-1)
    )  # equal sizes: means of classes, as if they were queries
    assert found.query_part == pytest.approx(of_means.query_part)
    assert found.both_part == pytest.approx(of_means.both_part)
    assert (found.units, found.queries) == (4, 12)
    assert crossed_interval(found).over == "new seeds and queries of new classes"


def test_unequal_classes_count_as_the_equal_ones_with_the_same_information():
    values = table(2, 10)
    classes = np.array([0] * 6 + [1] * 2 + [2] * 2)
    found = crossed(values, drawn="classes", classes=classes)
    sums = [(values[:, classes == c].mean(0) - values.mean()).sum() / 10 for c in range(3)]
    assert found.query_part.variance == pytest.approx(3 / 2 * sum(s**2 for s in sums))
    assert found.query_part.degrees == pytest.approx((36 + 4 + 4) ** 2 / (36**2 + 16 + 16) - 1)


def test_with_fixed_classes_queries_vary_inside_their_class_only():
    values = table(3, 9)
    classes = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2])
    shifted = values + 100.0 * classes  # a class that is far off changes nothing
    found = crossed(shifted, drawn="queries within classes", classes=classes)
    by_query = values.mean(0)
    expected = sum(size * by_query[classes == c].var(ddof=1) for c, size in enumerate([4, 3, 2]))
    assert found.query_part == pytest.approx((expected / 9**2, 6))
    assert crossed_interval(found).over == "new seeds and new queries of the same classes"


def test_classes_of_one_query_form_a_stratum_together():
    values = table(1, 7)
    together = crossed(
        values, drawn="queries within classes", classes=np.array([0, 0, 0, 1, 2, 3, 4])
    )
    expected = crossed(
        values, drawn="queries within classes", classes=np.array([0, 0, 0, 1, 1, 1, 1])
    )
    assert together.query_part == pytest.approx(expected.query_part)
    last = crossed(values, drawn="queries within classes", classes=np.array([0, 0, 0, 1, 1, 1, 2]))
    joined = crossed(
        values, drawn="queries within classes", classes=np.array([0, 0, 0, 1, 1, 1, 0])
    )
    assert last.query_part == pytest.approx(joined.query_part)


def test_one_seed_is_an_interval_of_these_heads_on_new_queries():
    values = table(1, 30)
    interval = crossed_interval(crossed(values))
    low, high = stats.t.interval(0.95, 29, loc=values.mean(), scale=stats.sem(values[0]))
    assert (interval.low, interval.high) == pytest.approx((low, high))
    assert interval.over == "these trained heads on new queries"


def test_one_query_is_an_interval_over_seeds_on_these_queries():
    values = table(4, 1)
    interval = crossed_interval(crossed(values))
    low, high = stats.t.interval(0.95, 3, loc=values.mean(), scale=stats.sem(values[:, 0]))
    assert (interval.low, interval.high) == pytest.approx((low, high))
    assert interval.over == "new seeds on these queries"
    one_class = crossed(table(4, 5), drawn="classes", classes=np.zeros(5))
    assert crossed_interval(one_class).over == "new seeds on these queries"


def test_one_seed_and_one_query_have_no_interval():
    interval = crossed_interval(crossed(table(1, 1)))
    assert (interval.half_width, interval.why_none) == (None, "one seed and one query or class")


def test_equal_answers_have_no_interval_and_decide_nothing():
    interval = crossed_interval(crossed(np.zeros((3, 20))))
    assert interval.half_width is interval.p_value is None
    assert interval.why_none == "both answer every query the same"
    assert not interval.excludes_zero
    rounded = np.array([[0.6 - 0.5, 0.7 - 0.6, 0.8 - 0.7]] * 2)
    assert len(set(rounded[0])) > 1
    for values in (np.full((3, 20), 0.25), rounded):
        constant = crossed_interval(crossed(values))
        assert (constant.half_width, constant.why_none) == (None, "no spread")


def test_equal_means_in_every_seed_still_vary_over_queries():
    values = np.tile([1.0, 0.0, 0.0, -1.0, 1.0, 0.0], (3, 1))
    interval = crossed_interval(crossed(values))
    assert interval.half_width is not None
    assert interval.mean == pytest.approx(1 / 6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_answer_that_is_not_finite_is_an_error_with_its_place(value):
    values = table(2, 4)
    values[1, 2] = value
    with pytest.raises(InputError, match=f"got {value} in row 1 .seed., column 2 .query."):
        crossed(values)


@pytest.mark.parametrize("shape", [(0, 5), (2, 0)])
def test_no_seed_or_no_query_is_an_error(shape):
    with pytest.raises(InputError, match="one of each at least"):
        crossed(np.zeros(shape))


def test_queries_without_their_classes_are_an_error():
    with pytest.raises(InputError, match="each of 4 queries needs its class, got none"):
        crossed(table(2, 4), drawn="classes")
    with pytest.raises(InputError, match="each of 4 queries needs its class, got 3"):
        crossed(table(2, 4), drawn="queries within classes", classes=np.zeros(3))


def test_a_moderated_variance_between_seeds_takes_the_place_of_the_pairs_own():
    values = table(3, 50)
    found = crossed(values, seed_variance=Variance(np.float64(0.03), np.float64(7.5)))
    assert found.seed_part == pytest.approx((0.01, 7.5))
    assert found.query_part == pytest.approx(crossed(values).query_part)


def test_few_seeds_few_units_and_few_differences_are_approximate():
    assert crossed_interval(crossed(table(2, 50))).approximate == "two seeds"
    assert crossed_interval(crossed(table(4, 50))).approximate == ""
    wide = table(3, 50) + np.array([[-1.0], [0.0], [1.0]])
    assert crossed_interval(crossed(wide)).approximate.startswith("three seeds")
    helped = crossed(wide, seed_variance=Variance(1.0, 8.0))
    assert crossed_interval(helped).approximate == ""
    rare = np.zeros((4, 50))
    rare[:, :9] = 1.0
    rare[0, 0] = 0.0
    assert crossed_interval(crossed(rare)).approximate == (
        "the losses differ on fewer than 10 queries"
    )
    few = crossed(table(4, 50), drawn="classes", classes=np.arange(50) % 5)
    assert crossed_interval(few).approximate == "5 classes"


def test_numbers_over_new_queries_without_an_interval_say_why():
    same = over_new_queries(np.zeros(4), np.arange(4))
    assert (same.half_width, same.why_none) == (None, "all queries give the same")
    one = over_new_queries(np.array([0.0, 1.0]), np.zeros(2))
    assert (one.half_width, one.why_none) == (None, "one group of queries")

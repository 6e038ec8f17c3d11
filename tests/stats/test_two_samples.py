"""Differences of two samples against scipy's Welch test, against a loop, and in a small simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lossgauge.errors import InputError
from lossgauge.stats.seed_variance import Variance
from lossgauge.stats.two_samples import added, difference_of_means, other_queries, other_seeds


def table(seeds: int, queries: int, seed: int = 0, *, mean: float = 0.6) -> np.ndarray:
    """Hits of some seeds and queries: queries differ in how hard they are, and seeds in how good they are."""
    generator = np.random.default_rng(seed)
    level = (
        stats.norm.ppf(mean) * np.sqrt(2.1)
        + generator.normal(size=queries)
        + 0.3 * generator.normal(size=(seeds, 1))
    )
    return (level + generator.normal(size=(seeds, queries)) > 0).astype(float)


@pytest.mark.parametrize(("seeds", "others"), [(3, 5), (2, 2), (10, 4)])
def test_without_queries_it_is_scipys_welch_test(seeds, others):
    generator = np.random.default_rng(1)
    first, second = generator.normal(size=seeds), 1 + 3 * generator.normal(size=others)
    found = difference_of_means(first, second)
    wanted = stats.ttest_ind(second, first, equal_var=False)
    interval = wanted.confidence_interval()
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.p_value == pytest.approx(wanted.pvalue)
    assert found.degrees == pytest.approx(wanted.df)
    assert found.approximate == ("two seeds" if seeds == 2 else "")


def test_one_seed_or_no_spread_has_no_interval():
    found = difference_of_means(np.array([0.5]), np.array([0.6, 0.7]))
    assert (found.half_width, found.why_none) == (None, "one seed in a study")
    assert found.mean == pytest.approx(0.15)
    found = difference_of_means(np.array([0.3, 0.1 + 0.2]), np.array([0.7, 0.7, 0.7]))
    assert (found.half_width, found.p_value) == (None, None)
    assert difference_of_means(np.array([0.3, 0.3]), np.array([0.7, 0.700001])).half_width > 0


def test_variances_add_and_the_one_that_is_0_has_no_say():
    found = added(Variance(2.0, 4.0), Variance(1.0, 2.0))
    assert found == pytest.approx((3.0, 9 / (4 / 4 + 1 / 2)))
    assert added(Variance(2.0, 4.0), Variance(0.0, 1.0)) == pytest.approx((2.0, 4.0))
    assert added(Variance(2.0, 4.0), Variance(1.0, 0.0)) == (0.0, 0.0)
    assert added(Variance(0.0, 4.0), Variance(0.0, 2.0)) == (0.0, 6.0)


def parts_by_loop(values: np.ndarray, classes: np.ndarray | None) -> tuple[float, float, float]:
    """V of seeds, of queries and of single answers, of the mean of a table; queries are drawn inside their classes."""
    seeds, queries = values.shape
    of_seeds = sum((row.mean() - values.mean()) ** 2 for row in values) / (seeds - 1) / seeds
    labels = np.zeros(queries, int) if classes is None else classes
    of_queries = single = 0.0
    for label in set(labels.tolist()):
        block = values[:, labels == label]
        size = block.shape[1]
        left = block - block.mean(1, keepdims=True)
        for query in range(size):
            mean = left[:, query].mean()
            of_queries += mean**2 * size / (size - 1)
            for seed in range(seeds):
                single += (left[seed, query] - mean) ** 2 * size / (size - 1)
    return of_seeds, of_queries / queries**2, single / queries**2 / seeds / (seeds - 1)


def half_width(seeds: tuple[float, float], single: float, queries: tuple[float, float]) -> float:
    of_seeds, degrees = seeds
    of_queries, query_degrees = queries
    excess = max(of_seeds - single, 0)
    squares = excess * stats.t.ppf(0.975, degrees) ** 2
    return (squares + of_queries * stats.t.ppf(0.975, query_degrees) ** 2) ** 0.5


def welch(parts: list[tuple[float, float]]) -> tuple[float, float]:
    whole = sum(v for v, _ in parts)
    return whole, whole**2 / sum(v**2 / d for v, d in parts)


@pytest.mark.parametrize("closed", [False, True])
def test_other_queries_are_a_loop_over_seeds_and_queries(closed):
    first, second = table(3, 120, 1), table(4, 90, 2, mean=0.7)
    classes = (np.arange(120) % 6, np.arange(90) % 5) if closed else (None, None)
    drawn = "queries within classes" if closed else "queries"
    found = other_queries(first, second, drawn=drawn, classes=classes if closed else None)
    (s1, q1, b1), (s2, q2, b2) = (
        parts_by_loop(*of) for of in zip((first, second), classes, strict=True)
    )
    taken = (6, 5) if closed else (1, 1)
    wanted = half_width(
        welch([(s1, 2), (s2, 3)]), b1 + b2, welch([(q1, 120 - taken[0]), (q2, 90 - taken[1])])
    )
    assert found.mean == pytest.approx(second.mean() - first.mean())
    assert found.half_width == pytest.approx(wanted)
    assert found.size == 3
    assert found.queries == 90
    of_classes = " of the same classes" if closed else ""
    assert found.over == f"new seeds and new queries{of_classes}"


def test_the_same_queries_with_other_seeds_are_paired_by_query():
    first, second = table(3, 150, 1), table(4, 150, 1, mean=0.63)
    found = other_seeds(first, second)
    (s1, _, b1), (s2, _, b2) = (parts_by_loop(of, None) for of in (first, second))
    means = second.mean(0) - first.mean(0)
    paired = means.var(ddof=1) / 150
    wanted = half_width(welch([(s1, 2), (s2, 3)]), b1 + b2, (paired, 149))
    assert found.mean == pytest.approx(second.mean() - first.mean())
    assert found.half_width == pytest.approx(wanted)
    # the queries of both tables are equally hard: pairing them makes the interval narrower
    assert found.half_width < other_queries(first, second).half_width


def test_one_seed_in_a_study_is_over_these_heads():
    found = other_queries(table(1, 200, 1), table(5, 200, 2))
    assert found.over == "these trained heads on new queries"
    assert found.half_width > 0
    assert found.size == 1
    found = other_seeds(table(1, 200, 1), table(1, 200, 2))
    values = (table(1, 200, 2) - table(1, 200, 1))[0]
    wanted = stats.ttest_1samp(values, 0)
    assert found.p_value == pytest.approx(wanted.pvalue)


def test_few_rare_answers_are_approximate():
    first, second = np.ones((3, 100)), np.ones((3, 100))
    first[:, 0], second[1, :4] = 0, 0
    found = other_queries(first, second)
    assert found.approximate == "fewer than 10 queries get another answer than most"
    found = other_queries(np.ones((3, 100)), np.ones((3, 100)))
    assert (found.mean, found.half_width) == (0, None)


def test_bad_tables_are_one_clear_error():
    with pytest.raises(InputError, match="must be finite"):
        other_queries(np.full((2, 3), np.nan), np.ones((2, 3)))
    with pytest.raises(InputError, match="needs its class"):
        other_seeds(np.ones((2, 3)), np.ones((2, 3)), drawn="classes")


@pytest.mark.parametrize(
    ("compare", "least", "most"), [(other_queries, 0.92, 0.985), (other_seeds, 0.92, 0.985)]
)
def test_intervals_hold_the_truth(compare, least, most):
    """Three seeds and four, 150 queries; the true difference is 0. 300 studies: a standard error is 1.3 points."""
    generator = np.random.default_rng(3)
    held = 0
    for _ in range(300):
        hard = generator.normal(size=150)
        others = hard if compare is other_seeds else generator.normal(size=150)
        first, second = (
            hardness
            + 0.15 * generator.normal(size=(seeds, 1))
            + 0.7 * generator.normal(size=(seeds, 150))
            > 0
            for hardness, seeds in ((hard, 3), (others, 4))
        )
        found = compare(first.astype(float), second.astype(float))
        held += found.low <= 0 <= found.high
    assert least <= held / 300 <= most

"""Variances between seeds, squeezed: against limma's numbers, by hand, and at the edges."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy import special, stats

from lossgauge.errors import InputError
from lossgauge.stats.seed_variance import (
    Variance,
    agreement,
    contrast_variance,
    fit_prior,
    moderated,
    pool,
    seed_interval,
    squeeze,
)

VARIANCES = np.array([0.31, 0.52, 1.7, 0.9, 0.44, 2.6, 0.15])

# limma 3.54.1: squeezeVar(VARIANCES, df); tests/batteries/test_oracles.py asks limma itself
LIMMA = {
    1: (0.945714285714286, np.inf, [0.945714285714286] * 7),
    4: (
        0.718311266859414,
        7.00749105475816,
        [0.569935487191471, 0.646247154929497, 1.075046049838406, 0.784334934645925,
         0.617176043410249, 1.402096054429947, 0.511793264152975],
    ),
    9: (
        0.529610861077468,
        3.64187470268858,
        [0.373265556588976, 0.522768699473160, 1.362833978536669, 0.793298196120730,
         0.465815121231566, 2.003561733754599, 0.259358400105788],
    ),
}  # fmt: skip


@pytest.mark.parametrize("degrees", LIMMA)
def test_prior_and_squeezed_variances_are_limmas(degrees):
    location, prior_degrees, squeezed = LIMMA[degrees]
    prior = fit_prior(VARIANCES, degrees)
    assert prior == pytest.approx((location, prior_degrees), rel=1e-8)
    found = squeeze(VARIANCES, degrees, prior)
    assert found.variance == pytest.approx(squeezed, rel=1e-8)
    assert found.degrees == pytest.approx(degrees + prior_degrees)


def test_a_variance_of_zero_is_offset_as_limma_does():
    prior = fit_prior(np.array([0, 0.52, 1.7, 9, 0.44]), 2)
    assert prior == pytest.approx((0.00345680092715718, 0.36718488674434), rel=1e-8)


def test_the_prior_of_many_tables_is_that_of_each():
    tables = np.random.default_rng(0).chisquare(2, (5, 6))
    together = fit_prior(tables, 2)
    for place, variances in enumerate(tables):
        assert fit_prior(variances, 2) == pytest.approx(
            (together.variance[place], together.degrees[place])
        )


def test_the_prior_that_was_simulated_is_estimated():
    generator = np.random.default_rng(0)
    true = 0.3 * 6 / generator.chisquare(6, 20_000)  # the prior has 6 degrees and the location 0.3
    prior = fit_prior(true * generator.chisquare(3, 20_000) / 3, 3)
    assert prior == pytest.approx((0.3, 6), rel=0.1)


def pairs(losses: int) -> np.ndarray:
    rows = []
    for left, right in combinations(range(losses), 2):
        row = np.zeros(losses)
        row[left], row[right] = 1, -1
        rows.append(row)
    return np.array(rows)


def means(spreads: list[float], seeds: int, *, seed: int = 0) -> np.ndarray:
    """Means of losses by seed: a common effect of the seed, and one of each loss."""
    generator = np.random.default_rng(seed)
    own = np.array(spreads)[:, None] * generator.standard_normal((len(spreads), seeds))
    return 0.7 + own + 3.0 * generator.standard_normal(seeds)


def test_two_losses_are_not_moderated():
    table = means([1.0, 1.0], 4)
    found = moderated(table, pairs(2))
    assert found.variance == pytest.approx([np.var(table[0] - table[1], ddof=1)])
    assert found.degrees == pytest.approx([3])


def test_losses_that_agree_have_all_degrees_of_freedom_and_at_least_the_pooled_variance():
    deviations = np.array([[1.0, -1.0], [-1.0, 1.0], [1.1, -1.1], [-1.1, 1.1]] * 2)
    found = moderated(deviations, pairs(8))
    assert found.degrees == pytest.approx([7.0] * 28)  # (8 − 1) · (2 − 1)
    pooled = (
        2 * (deviations**2).sum() / 7
    )  # of the table less means of losses and seeds, for a pair
    own = np.array([np.var(c @ deviations, ddof=1) for c in pairs(8)])
    assert found.variance == pytest.approx(np.maximum(own, (own + 6 * pooled) / 7))


def test_degrees_of_freedom_are_at_most_those_of_the_table_and_at_least_the_pairs_own():
    for seed in range(50):
        found = moderated(means([1, 2, 1, 3, 1], 3, seed=seed), pairs(5))
        assert found.degrees.max() <= 4 * 2 + 1e-9
        assert found.degrees.min() >= 2


def test_an_outlying_loss_keeps_its_own_variance_and_leaves_the_others_theirs():
    table = means([20.0, 1, 1, 1, 1, 1, 1], 5)
    found = moderated(table, pairs(7))
    own = np.array([np.var(c @ table, ddof=1) for c in pairs(7)])
    with_outlier = pairs(7)[:, 0] != 0
    assert found.variance[with_outlier] == pytest.approx(own[with_outlier])
    assert found.degrees[with_outlier] == pytest.approx([4.0] * 6, abs=0.1)
    without = moderated(table[1:], pairs(6))
    assert found.variance[~with_outlier].mean() == pytest.approx(without.variance.mean(), rel=0.1)
    assert found.degrees[~with_outlier].min() > 5


def test_no_variance_is_squeezed_down():
    for seed in range(20):
        table = means([1, 2, 1, 1], 3, seed=seed)
        own = np.array([np.var(c @ table, ddof=1) for c in pairs(4)])
        assert np.all(moderated(table, pairs(4)).variance >= own * (1 - 1e-12))


def test_a_common_effect_of_the_seed_changes_nothing():
    table = means([1, 1, 2, 1], 4)
    shifted = table + 100.0 * np.arange(4)
    assert moderated(shifted, pairs(4)).variance == pytest.approx(
        moderated(table, pairs(4)).variance
    )


def test_a_group_against_a_group_is_a_contrast_with_fractions():
    table = means([1.0] * 4, 3)
    contrast = np.array([[0.5, 0.5, -0.5, -0.5]])
    doubled = moderated(table, 2 * contrast)
    found = moderated(table, contrast)
    assert doubled.variance == pytest.approx(4 * found.variance)
    assert doubled.degrees == pytest.approx(found.degrees)
    assert found.variance[0] >= np.var(contrast @ table, ddof=1)


def test_equal_seeds_have_a_variance_of_zero():
    assert moderated(np.tile([[0.1], [0.2], [0.3]], 3), pairs(3)).variance == pytest.approx(
        [0.0] * 3
    )


def test_one_seed_or_a_mean_that_is_not_finite_is_an_error():
    with pytest.raises(InputError, match="two seeds at least, got 1"):
        moderated(means([1, 1, 1], 1), pairs(3))
    table = means([1, 1, 1], 2)
    table[0, 1] = np.nan
    with pytest.raises(InputError, match="must be finite"):
        moderated(table, pairs(3))


def test_the_interval_of_a_scalar_is_a_moderated_t():
    table = means([1, 1, 1, 1], 3)
    contrast = np.array([1.0, 0, -1, 0])
    variance = moderated(table, contrast[None])
    found = seed_interval(contrast @ table, Variance(variance.variance[0], variance.degrees[0]))
    expected = stats.t(variance.degrees[0], scale=(variance.variance[0] / 3) ** 0.5)
    assert found.mean == pytest.approx((table[0] - table[2]).mean())
    assert found.half_width == pytest.approx(expected.ppf(0.975))
    assert found.p_value == pytest.approx(2 * expected.sf(abs(found.mean)))
    assert (found.over, found.approximate, found.size) == ("new seeds", "", 3)
    assert seed_interval(table[0, :2], Variance(1.0, 1.0)).approximate == "two seeds"


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_scalar_that_differs_equally_in_every_seed_has_no_interval(seeds):
    values = np.array([0.6, 0.7, 0.8])[:seeds] - np.array([0.5, 0.6, 0.7])[:seeds]
    found = seed_interval(values, Variance(1.0, 2.0) if seeds > 1 else None)
    assert (found.half_width, found.p_value) == (None, None)
    assert found.why_none == ("one seed" if seeds == 1 else "no spread between the seeds")


def test_one_contrast_of_a_pool_is_that_of_the_whole_table():
    table = means([1, 2, 1, 9, 1], 3)
    together = moderated(table, pairs(5))
    losses = pool(table)
    for place, contrast in enumerate(pairs(5)):
        typical = losses.typical[contrast != 0].min()
        found = contrast_variance(contrast @ table, 2.0, typical, losses)
        assert found.variance == pytest.approx(together.variance[place])
        assert found.degrees == pytest.approx(together.degrees[place])


def test_a_loss_outside_the_pool_agrees_with_it_unless_it_is_an_outlier():
    *table, alike, outlier = means([1.0] * 7 + [60.0], 5)
    losses = pool(np.array(table))
    assert agreement(losses, alike) > 0.3
    assert agreement(losses, outlier) < 1e-3
    # what a seed adds to all losses does not count
    shift = 100.0 * np.arange(5)
    shifted = pool(np.array(table) + shift)
    assert agreement(shifted, alike + shift) == pytest.approx(agreement(losses, alike))


def test_two_losses_are_no_pool():
    assert pool(means([1.0, 1.0], 3)) is None


def test_intervals_with_the_moderated_variance_cover():
    generator = np.random.default_rng(0)
    tables = generator.standard_normal((2_000, 7, 3))
    found = moderated(tables, pairs(7))
    half = special.stdtrit(found.degrees, 0.975) * np.sqrt(found.variance / 3)
    covered = np.abs(tables.mean(-1) @ pairs(7).T) <= half
    assert covered.mean() == pytest.approx(0.945, abs=0.01)  # 0.2 points are a standard error
    alone = special.stdtrit(2, 0.975) * np.sqrt(2 / 3)
    assert np.median(half) < 0.7 * alone  # and are shorter than those of a pair alone

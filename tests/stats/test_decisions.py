"""What a family of intervals decides, against scipy and by its own rules."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lossgauge.stats.decisions import LEVEL, ONE_SEED, decide
from lossgauge.stats.intervals import Interval, holm, interval

VALUES = st.lists(st.floats(-1, 1).map(lambda x: round(x, 3)), min_size=1, max_size=6)
FAMILIES = st.lists(VALUES, min_size=1, max_size=8)
MARGINS = st.one_of(st.none(), st.floats(0.001, 1.5))


def of(*values: float) -> Interval:
    made = interval(values)
    assert made is not None
    return made


@settings(deadline=None)
@given(families=FAMILIES, margin=MARGINS)
def test_a_decision_never_contradicts_its_own_correction(families, margin):
    family = [of(*values) for values in families]
    decided = decide(family, margin)
    tested = [one.p_value for one in family if one.p_value is not None]
    corrected = iter(holm(tested))
    for one, decision in zip(family, decided, strict=True):
        if one.p_value is None:
            assert (decision.side, decision.p_value, decision.family) == ("open", None, 0)
            assert decision.reason
            continue
        assert decision.p_value == next(corrected)
        assert decision.family == len(tested)
        outside = decision.equivalence_p_value
        if decision.side == "equivalent":
            assert outside is not None
            assert outside < LEVEL
            assert margin is not None
            assert -margin < one.low <= one.high < margin
        elif decision.side == "open":
            assert decision.p_value >= LEVEL
            assert outside is None or outside >= LEVEL
            assert decision.reason
        else:
            assert decision.p_value < LEVEL
            assert one.excludes_zero
            assert decision.side == ("higher" if one.mean > 0 else "lower")
            assert decision.reason == ""


@settings(deadline=None)
@given(families=FAMILIES, margin=MARGINS)
def test_exchanged_signs_exchange_higher_and_lower_and_the_order_does_not_matter(families, margin):
    turned = {"higher": "lower", "lower": "higher"}
    sides = [d.side for d in decide([of(*values) for values in families], margin)]
    minus = decide([of(*(-value for value in values)) for values in families], margin)
    assert [d.side for d in minus] == [turned.get(side, side) for side in sides]
    back = decide([of(*values) for values in reversed(families)], margin)
    assert [d.side for d in back] == sides[::-1]


def test_alone_it_is_equivalent_where_scipys_interval_lies_inside_the_margin():
    generator = np.random.default_rng(0)
    seen = set()
    for _ in range(300):
        values = generator.normal(0.02, 0.05, 4)
        low, high = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
        expected = "open"
        if low > -0.1 and high < 0.1:
            expected = "equivalent"
        elif low > 0 or high < 0:
            expected = "higher" if low > 0 else "lower"
        (decision,) = decide([of(*values)], 0.1)
        assert decision.side == expected
        seen.add(expected)
    assert seen >= {"open", "equivalent", "higher"}


def test_the_p_value_of_equivalence_is_twice_that_of_scipys_one_sided_tests():
    values = [0.01, 0.03, -0.02, 0.02, 0.0]
    upper = stats.ttest_1samp(values, 0.05, alternative="less").pvalue
    lower = stats.ttest_1samp(values, -0.05, alternative="greater").pvalue
    (decision,) = decide([of(*values)], 0.05)
    assert decision.equivalence_p_value == pytest.approx(2 * max(upper, lower))


def test_equivalence_comes_before_a_clear_difference_and_needs_a_margin():
    small = of(0.0010, 0.0012, 0.0011)
    assert decide([small], 0.005)[0].side == "equivalent"
    assert decide([small], None)[0].side == "higher"
    assert decide([small], 0.0011)[0].side == "higher"


def test_what_is_clear_alone_says_so_where_the_correction_takes_it():
    clear = of(0.10, 0.16, 0.12)
    noise = [of(0.1, -0.2, 0.05 * k) for k in range(1, 6)]
    assert decide([clear], None)[0].side == "higher"
    decision = decide([clear, *noise], None)[0]
    assert decision.side == "open"
    assert decision.reason == (
        f"clear alone (p = {clear.p_value:.2g}), but not after the correction for 6 comparisons"
    )


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "not measured"),
        (of(0.3), "one seed shows no spread"),
        (of(0.3, 0.3), "no spread between the seeds"),
        (of(0.0, 0.0, 0.0), "no spread between the seeds"),
    ],
)
def test_without_an_interval_it_is_open_and_not_in_the_family(value, reason):
    first, second = decide([value, of(0.1, 0.12)], 0.01)
    assert (first.side, first.reason) == ("open", reason)
    assert second.family == 1


def test_one_seed_decides_about_trained_heads_and_not_about_losses():
    heads = Interval(0.1, 0.02, 1, 1e-6, degrees=500, over="these trained heads on new queries")
    (losses,) = decide([heads], None)
    assert (losses.side, losses.reason, losses.family) == ("open", ONE_SEED, 0)
    (of_heads,) = decide([heads], None, of_heads=True)
    assert (of_heads.side, of_heads.family) == ("higher", 1)


def test_the_same_decision_the_other_way_round():
    first, second = decide([of(0.10, 0.12, 0.11), of(0.3)], None)
    assert (first.side, first.turned.side, first.turned.turned) == ("higher", "lower", first)
    assert first.differs
    assert first.turned.differs
    assert not second.differs
    assert second.turned == second


def test_degrees_of_freedom_that_are_given_are_used():
    narrow = Interval(0.02, 0.01, 3, 0.001, degrees=30.0)
    error = 0.01 / stats.t.ppf(0.975, 30)
    expected = 2 * stats.t.sf((0.05 - 0.02) / error, 30)
    (decision,) = decide([narrow], 0.05)
    assert decision.equivalence_p_value == pytest.approx(expected)

"""How numbers of a diagnosis are shown at their limits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lossgauge.diagnosis import sentences
from lossgauge.diagnosis.measure import diagnose
from lossgauge.diagnosis.records import plain
from lossgauge.stats.intervals import Interval
from tests.diagnosis.tables import table


@pytest.mark.parametrize(
    ("mean", "half_width", "queries", "text"),
    [
        (0.633, 0.2, 0, "63.3 % ± 20.0"),
        (0.633, 0.883, 0, "63.3 % (interval not known: too few rows)"),
        (0.98, 0.03, 0, "98.0 % (95.0 % to 100.0 %)"),
        (0.02, 0.03, 0, "2.0 % (0.0 % to 5.0 %)"),
        (1.0, None, 300, "100.0 % (at least 99.0 %)"),  # 1 − 3/300
        (0.0, None, 300, "0.0 % (at most 1.0 %)"),
        (1.0, None, 0, "100.0 %"),
    ],
)
def test_a_share_stays_between_0_and_100_percent(mean, half_width, queries, text):
    of = Interval(mean, half_width, 10, queries=queries)
    assert sentences.shown_share(of).replace("\u00a0", " ") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.500"),
        (1.0, "1.000"),
        (0.999875, "0.999875"),
        (0.9999999876, "0.9999999876"),
        (math.inf, "not known: too few pairs of two classes"),
    ],
)
def test_a_threshold_near_1_has_the_digits_that_tell_it_from_1(value, text):
    assert sentences.shown_threshold(value) == text


def test_where_no_threshold_is_strict_enough_there_is_no_interval():
    rows, labels = table(classes=4, size=3)
    rows[:2] = [[1] + [0] * 11] * 2
    labels[:2] = 0, 3
    of = diagnose(rows, labels)
    assert of.thresholds is not None
    strict = of.thresholds.at_far[-1]
    assert (strict.threshold, strict.tpr.half_width) == (math.inf, None)
    assert plain(strict.tpr)["missing"] == "too few pairs of two classes for this FAR"
    assert "inf" not in str(of).replace("info", "")


def test_queries_that_are_all_right_have_a_bound():
    rows, labels = table(noise=0.01)
    line = sentences.ranked_line(diagnose(rows, labels).ranked[0])
    assert f"R@1 100.0\u00a0% (at least {100 * 0.05 ** (1 / 200):.1f}\u00a0%)" in line
    assert np.isclose(0.05 ** (1 / 200), 1 - 3 / 200, atol=2e-4)

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


@pytest.mark.parametrize(("compared", "some"), [(5000, "200 rows"), (120, "a sample of 120 rows")])
def test_a_sample_is_named_where_its_line_begins(compared, some, monkeypatch):
    monkeypatch.setattr("lossgauge.diagnosis.ranked.COMPARED_ROWS", compared)
    rows, labels = table(norms=True)
    of = diagnose(rows, labels, queries=150)
    assert [line.split(":")[0] for line in sentences.ranked_lines(of)] == [
        "retrieval by cosine of 150 queries among all rows",
        f"retrieval by cosine among {some}",
        f"retrieval by dot product among {some}",
    ]
    (found,) = (one for one in of.findings if one.name == "norms")
    assert found.evidence.startswith("R@1 among a sample of 120 rows is") == (compared == 120)
    plain_lines = list(sentences.ranked_lines(diagnose(rows, labels)))
    assert [line.split(":")[0] for line in plain_lines] == [
        "retrieval by cosine",
        "retrieval by dot product",
    ]


def test_equal_rows_have_sensible_lines():
    _, labels = table()
    of = diagnose(np.full((200, 12), 1.5), labels)
    text = str(of)
    assert "all rows have the same direction: nothing that compares rows" in text
    assert "spectrum: none, because all rows have the same direction (width 12)" in text
    assert (of.ranked, of.thresholds, of.open_set, of.hubness) == ((), None, None, None)
    assert "act: collapse" in text
    for word in ("not known", "not defined", "—", "hubness", "retrieval by", "open set"):
        assert word not in text
    assert "copies: 199 rows equal an earlier row" in text


def test_rows_of_two_directions_say_why_there_is_no_threshold():
    _, labels = table()
    rows = np.eye(12)[(np.arange(200) % 50 == 0).astype(int)]
    text = str(diagnose(rows, labels)).replace("\u00a0", " ")
    assert "at FAR 0.01 (no threshold: " in text
    assert "pairs of two classes have the highest similarity)" in text
    assert "open set: no threshold, because too many queries" in text
    assert "1.0000000" not in text


def test_counts_and_verbs_agree():
    rows, labels = table()
    rows[150] = rows[1]
    rows[:, 1:] *= 0.001
    text = str(diagnose(rows, labels))
    assert "copies: 1 row equals an earlier row (" in text
    assert "row 150 equals row 1" in text
    assert "1 of 200 rows equals an earlier row" in text
    assert "90 % of the variance is in 1 direction;" in text


def test_queries_that_are_all_right_have_a_bound():
    rows, labels = table(noise=0.01)
    line = sentences.ranked_line(diagnose(rows, labels).ranked[0])
    assert f"R@1 100.0\u00a0% (at least {100 * 0.05 ** (1 / 200):.1f}\u00a0%)" in line
    assert np.isclose(0.05 ** (1 / 200), 1 - 3 / 200, atol=2e-4)

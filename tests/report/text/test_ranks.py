"""Ranks as intervals, and what the intervals of differences are said to be over."""

from __future__ import annotations

import math

import pytest

from lossgauge.report.text.interval_notes import interval_notes
from lossgauge.report.text.ranks import ranks
from lossgauge.results.view import StudyView
from lossgauge.types import Results
from tests.support.made_up_study import columns_of, no_results

BOTH = ("recall_at_1", "map_at_r")


def study(seeds: int = 4, **levels: float) -> StudyView:
    """A level of MAP@R for each loss on `b`; the spread over seeds tells 5 points apart, and not 0.2."""
    rows = [
        {**columns_of("b", name, seed), **dict.fromkeys(BOTH, level + 0.004 * spread)}
        for place, (name, level) in enumerate(levels.items())
        for seed in range(seeds)
        for spread in [math.sin(7 * seed + 3 * place)]
    ]
    return StudyView(Results({}, {}, rows, [], [], [], [], {}))


def test_losses_that_are_not_clearly_different_share_their_ranks():
    by_recall, found = ranks(study(triplet=0.9, scl=0.7, ccl=0.7003, arcface=0.5))
    assert by_recall.title == "R@1"
    assert by_recall.rows == found.rows
    assert (found.title, found.datasets) == ("MAP@R", ("b",))
    assert dict(found.rows) == {
        "triplet": ("1",),
        "scl": ("2–3",),
        "ccl": ("2–3",),
        "arcface": ("4",),
    }
    assert found.limit.startswith("1 dataset: with fewer than 6, nothing can be concluded")


def test_a_loss_without_the_number_in_every_seed_has_no_rank():
    view = study(triplet=0.9, scl=0.7, ccl=0.5)
    (row,) = [r for r in view.results.summaries if (r["base"], r["seed"]) == ("ccl", 2)]
    row["map_at_r"] = None
    _, found = ranks(view)
    assert dict(found.rows) == {"triplet": ("1",), "scl": ("2",), "ccl": ("—",)}


@pytest.mark.parametrize(
    "view", [study(triplet=0.9), study(1, triplet=0.9, scl=0.7), StudyView(no_results())]
)
def test_one_loss_or_one_seed_or_no_run_has_no_ranks(view):
    assert ranks(view) == []


def test_it_is_said_what_intervals_are_over_and_where_they_are_approximate():
    assert interval_notes(study(triplet=0.9, scl=0.7)) == [
        "b: differences in R@1 and MAP@R are over new seeds (4 seeds)"
    ]
    assert interval_notes(study(2, triplet=0.9, scl=0.7)) == [
        "b: differences in R@1 and MAP@R are over new seeds (2 seeds); some are approximate: two seeds"
    ]
    assert interval_notes(study(triplet=0.9)) == []
    with_head = study(triplet=0.9, untrained=0.5)
    assert interval_notes(with_head) == [
        "b: differences in R@1 and MAP@R are over new seeds (4 seeds)"
    ]


def test_a_loss_that_lacks_a_seed_does_not_speak_for_the_others():
    view = study(3, triplet=0.9, scl=0.7, ccl=0.5)
    rows = [r for r in view.results.summaries if (r["base"], r["seed"]) != ("triplet", 2)]
    (note,) = interval_notes(StudyView(view.results._replace(summaries=rows)))
    assert "(2 to 3 seeds); some are approximate: two seeds" in note

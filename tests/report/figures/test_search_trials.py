"""The trials of a search, the chosen one, and the axis of each setting."""

from __future__ import annotations

import numpy as np

from lossgauge.report.figures.search_trials import numbers, search_trials
from lossgauge.report.naming import SYMBOLS
from lossgauge.results.view import StudyView
from lossgauge.stats.intervals import known
from tests.support.figures import figure_of


def test_trials_are_dots_and_the_chosen_one_a_ring(varied):
    figure = figure_of(search_trials, varied, "orl-faces")
    axes = {"margin": "x2", "scale": "x3", "temperature": "x4"}
    assert [a.text.rpartition(" by ")[2] for a in figure.layout.annotations] == [
        "learning rate",
        *axes,
    ]
    for axis in (figure.layout.xaxis, figure.layout.xaxis4):
        assert axis.type == "log"
    chosen = {r["base"]: r["trial"] for r in varied.tuned if r["dataset"] == "orl-faces"}
    of_margin = ("contrastive", "triplet", "arcface", "ccl")
    for loss in of_margin:
        drawn = next(t for t in figure.data if (t.name, t.xaxis) == (loss, "x2"))
        rows = [
            r
            for r in varied.trials
            if (r["dataset"], r["base"]) == ("orl-faces", loss) and r["objective"] is not None
        ]
        np.testing.assert_allclose(drawn.x, [r["setting_margin"] for r in rows], rtol=1e-3)
        np.testing.assert_allclose(drawn.y, [r["objective"] for r in rows], rtol=1e-4)
        assert {s.removesuffix("-open") for s in drawn.marker.symbol} == {SYMBOLS[loss]}
        rings = [symbol.endswith("-open") for symbol in drawn.marker.symbol]
        assert rings == [r["trial"] == chosen[loss] for r in rows]
    assert any(chosen[loss] for loss in of_margin)  # not the first trial of each


def test_trials_without_a_searched_number_have_no_figure(varied, results):
    assert search_trials(StudyView(results), "digits") is None
    for r in varied.trials:
        r["objective"] = None
    assert search_trials(StudyView(varied), "digits") is None


def test_a_setting_that_may_be_0_has_an_even_axis(varied):
    for r in varied.trials:
        r["setting_margin"] = 0.0 if r["trial"] == 1 else r.get("setting_margin")
    assert figure_of(search_trials, varied, "orl-faces").layout.xaxis2.type is None


def test_the_numbers_have_a_row_for_each_trial_with_a_result(varied):
    (table,) = numbers(StudyView(varied), "orl-faces")
    rows = [
        r
        for r in varied.trials
        if r["dataset"] == "orl-faces" and known(r["objective"]) is not None
    ]
    assert len(table.rows) == len(rows)
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert table.rows[0][-1] == f"{100 * rows[0]['objective']:.1f}\u00a0%"

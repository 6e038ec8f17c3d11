"""How a loss reacts to its settings: means over seeds at each multiple."""

from __future__ import annotations

import numpy as np
from scipy import stats

from lossgauge.report.figures.sensitivity import note, numbers, sensitivity
from lossgauge.results.view import StudyView
from tests.support.figures import figure_of


def test_a_line_is_the_mean_over_seeds_at_each_multiple_with_the_plans_at_1(varied):
    figure = figure_of(sensitivity, varied, "orl-faces")
    drawn = next(t for t in figure.data if (t.name, t.yaxis) == ("triplet", "y2"))
    assert list(drawn.x) == [0.25, 0.5, 1.0, 2.0, 4.0]
    rows = [*varied.summaries, *varied.sensitivity]
    titles = [f"triplet(margin={m})" for m in (0.05, 0.1)] + ["triplet"]
    titles += [f"triplet(margin={m})" for m in (0.4, 0.8)]
    expected = [
        np.mean(
            [r["test_intra"] for r in rows if (r["dataset"], r["loss"]) == ("orl-faces", title)]
        )
        for title in titles
    ]
    np.testing.assert_allclose(drawn.y, expected, rtol=1e-4)
    halves = [
        stats.t.ppf(0.975, 2)
        * stats.sem(
            [r["test_intra"] for r in rows if (r["dataset"], r["loss"]) == ("orl-faces", title)]
        )
        for title in titles
    ]
    np.testing.assert_allclose(drawn.error_y.array, halves, rtol=1e-2)  # three digits are kept


def test_a_loss_with_two_settings_has_a_line_for_each_and_one_legend_entry(varied):
    drawn = [
        t
        for t in figure_of(sensitivity, varied, "digits").data
        if t.name == "arcface" and t.yaxis == "y"
    ]
    assert [t.line.dash for t in drawn] == ["solid", "dot"]
    assert [t.showlegend for t in drawn] == [True, False]


def test_a_study_that_varies_nothing_has_no_figure(results):
    assert sensitivity(StudyView(results), "digits") is None


def test_the_note_tells_the_dash_of_each_setting_that_is_varied(varied, results):
    assert note(StudyView(varied), "digits") == (
        "Lines: solid is margin, dashed is temperature, dotted is scale. A wide interval is cut at the edge."
    )
    assert note(StudyView(results), "digits") == ""


def test_the_numbers_say_what_the_lines_draw(varied):
    recall, intra = numbers(StudyView(varied), "orl-faces")
    assert recall.columns == ("loss, setting", "× 0.25", "× 0.5", "× 1", "× 2", "× 4")
    row = next(row for row in intra.rows if row[0] == "triplet, margin")
    drawn = next(
        t
        for t in figure_of(sensitivity, varied, "orl-faces").data
        if (t.name, t.yaxis) == ("triplet", "y2")
    )
    assert [float(text.partition(" ")[0]) for text in row[1:]] == [round(y, 3) for y in drawn.y]

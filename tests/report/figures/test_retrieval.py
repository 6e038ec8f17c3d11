"""The chart of the first screen: a mark for each loss and measure, the lines without training, and its table."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lossgauge.report.figures.retrieval import note, numbers, retrieval
from lossgauge.report.figures.tradeoff import tradeoff
from lossgauge.report.naming import COLORS
from lossgauge.results.view import StudyView
from tests.support.figures import figure_of
from tests.support.made_up_study import make_results, no_results

COLUMNS = {"x": "recall_at_1", "x2": "map_at_r"}


def rows_of(results, loss, dataset="orl-faces"):
    return [r for r in results.summaries if (r["dataset"], r["loss"]) == (dataset, loss)]


def test_each_loss_has_its_mean_and_interval_in_each_panel(results):
    figure = figure_of(retrieval, results, "orl-faces")
    for loss in COLORS:
        for axis, column in COLUMNS.items():
            mark = next(t for t in figure.data if (t.name, t.xaxis) == (loss, axis))
            values = [r[column] for r in rows_of(results, loss)]
            half = stats.t.ppf(0.975, 2) * stats.sem(values)
            assert mark.x[0] == pytest.approx(np.mean(values), rel=1e-4)
            assert mark.error_x.array[0] == pytest.approx(half, rel=1e-3)


def test_the_best_by_the_measure_that_leads_is_on_top(results):
    figure = figure_of(retrieval, results, "orl-faces")
    means = {loss: np.mean([r["recall_at_1"] for r in rows_of(results, loss)]) for loss in COLORS}
    assert list(figure.layout.yaxis.ticktext) == sorted(means, key=lambda loss: -means[loss])
    low, high = figure.layout.yaxis.range
    assert low > high  # row 0 is on top
    for place, loss in enumerate(figure.layout.yaxis.ticktext):
        assert all(t.y[0] == place for t in figure.data if t.name == loss)


def test_a_loss_with_settings_has_its_name_alone_at_the_axis_and_on_the_map():
    results = make_results(datasets=("d",), losses=("triplet", "scl"))
    title = "scl(learning_rate=0.001, batch_size=20)"
    for r in (*results.summaries, *results.epochs):
        if r["base"] == "scl":
            r |= {"loss": title, "base": title}
    settings = {"learning_rate": 0.001, "batch_size": 20}
    planned = [{"name": "triplet"}, {"name": "scl", "settings": settings}]
    named = results._replace(plan={**results.plan, "losses": planned}, failures=[])
    assert set(figure_of(retrieval, named, "d").layout.yaxis.ticktext) == {"triplet", "scl"}
    labels = {label.text for label in figure_of(tradeoff, named, "d").layout.annotations}
    assert "scl" in labels
    assert not any("…" in text for text in labels)


def test_the_lines_are_the_frozen_features_and_the_untrained_head(results):
    figure = figure_of(retrieval, results, "orl-faces")
    frozen = next(
        r
        for r in results.references
        if (r["dataset"], r["reference"]) == ("orl-faces", "frozen features")
    )
    for axis, column in COLUMNS.items():
        lines = {t.name: t.x for t in figure.data if t.mode == "lines" and t.xaxis == axis}
        untrained = np.mean([r[column] for r in rows_of(results, "untrained")])
        assert lines["untrained"] == pytest.approx((untrained, untrained), rel=1e-4)
        if frozen.get(column) is not None:
            assert lines["frozen features"] == pytest.approx([frozen[column]] * 2, rel=1e-4)
    assert "Dotted: frozen features (R@1" in note(StudyView(results), "orl-faces")


def test_the_interval_of_two_seeds_is_cut_and_all_means_are_inside():
    results = make_results(seeds=(0, 1))
    figure = figure_of(retrieval, results, "orl-faces")
    low, high = figure.layout.xaxis.range
    marks = [t for t in figure.data if t.xaxis == "x" and t.mode == "markers"]
    assert all(low < t.x[0] < high for t in marks)
    assert any(t.x[0] + t.error_x.array[0] > high for t in marks)


def test_the_interval_of_the_first_loss_is_whole():
    results = make_results(datasets=("d",))
    for r in results.summaries:  # the first one has a wide interval
        r["recall_at_1"] = 0.8 + 0.03 * r["seed"] if r["base"] == "scl" else 0.8
    figure = figure_of(retrieval, results, "d")
    first = next(t for t in figure.data if t.xaxis == "x" and t.mode == "markers" and t.y[0] == 0)
    low, high = figure.layout.xaxis.range
    assert first.name == "scl"
    assert low < first.x[0] - first.error_x.arrayminus[0]
    assert first.x[0] + first.error_x.array[0] < high


def test_in_the_study_of_advise_the_measure_of_the_goal_comes_first():
    results = make_results(datasets=("d",), losses=("scl", "triplet"))
    for r in results.summaries:
        r["recall_at_1"] = 0.7 if r["base"] == "scl" else 0.6
        r["map_at_r"] = 0.4 if r["base"] == "scl" else 0.5
    plan = {**results.plan, "selection_metric": "map_at_r"}
    advised = results._replace(plan=plan, answer={"asked": "", "sentences": []})
    for of, title, first in ((results, "R@1", "scl"), (advised, "MAP@R", "triplet")):
        layout = figure_of(retrieval, of, "d").layout
        assert layout.annotations[0].text == title
        assert layout.yaxis.ticktext[0] == first


def test_a_tuned_loss_is_a_hollow_mark_below_its_default_and_hides_with_it(varied):
    figure = figure_of(retrieval, varied, "orl-faces")
    default, tuned = (
        next(t for t in figure.data if (t.name, t.xaxis) == (name, "x"))
        for name in ("triplet", "triplet, tuned")
    )
    assert tuned.marker.symbol == f"{default.marker.symbol}-open"
    assert 0 < tuned.y[0] - default.y[0] < 0.5
    assert tuned.legendgroup == default.legendgroup


def test_the_table_has_every_mark_and_line(results):
    view = StudyView(results)
    (table,) = numbers(view, "orl-faces")
    assert table.columns == ("loss", "R@1", "MAP@R")
    assert {row[0] for row in table.rows} >= {*COLORS, "untrained"}
    mean = np.mean([r["map_at_r"] for r in rows_of(results, "scl")])
    row = next(row for row in table.rows if row[0] == "scl")
    assert row[2].startswith(f"{100 * mean:.1f}\u00a0% ± ")


def test_without_a_result_there_is_no_chart(results):
    assert retrieval(StudyView(no_results()), "digits") is None
    assert retrieval(StudyView(results._replace(summaries=[])), "digits") is None

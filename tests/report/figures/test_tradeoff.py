"""The trade-off: a disc for each loss, its whiskers, its label, and what is not drawn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lossgauge.report.figures.tradeoff import not_drawn, note, tradeoff
from lossgauge.report.naming import COLORS
from lossgauge.results.view import StudyView
from tests.support.figures import figure_of
from tests.support.made_up_study import no_results


def test_each_loss_has_a_disc_at_its_means_with_intervals(results):
    figure = figure_of(tradeoff, results, "orl-faces")
    disc = next(t for t in figure.data if t.name == "triplet")
    rows = [r for r in results.summaries if r["dataset"] == "orl-faces" and r["loss"] == "triplet"]
    assert disc.x[0] == pytest.approx(np.mean([r["compaction_epochs"] for r in rows]))
    assert disc.y[0] == pytest.approx(np.mean([r["test_intra"] for r in rows]))
    assert disc.error_y.array[0] > 0
    dots = next(t for t in figure.data if t.legendgroup == "triplet" and len(t.x) == 3)
    assert list(dots.y) == [r["test_intra"] for r in rows]


def test_whiskers_are_the_intervals_of_their_own_axis_and_the_largest_disc_has_the_best_recall(
    results,
):
    figure = figure_of(tradeoff, results, "orl-faces")
    rows = [r for r in results.summaries if r["dataset"] == "orl-faces"]
    of = {
        loss: {
            column: [r[column] for r in rows if r["loss"] == loss]
            for column in ("compaction_epochs", "test_intra", "recall_at_1")
        }
        for loss in COLORS
    }
    recalls = {loss: np.mean(columns["recall_at_1"]) for loss, columns in of.items()}
    low, high = min(recalls.values()), max(recalls.values())
    for loss, columns in of.items():
        disc = next(t for t in figure.data if t.name == loss)
        for error, column in ((disc.error_x, "compaction_epochs"), (disc.error_y, "test_intra")):
            half = stats.t.ppf(0.975, 2) * stats.sem(columns[column])
            assert error.array[0] == pytest.approx(half, abs=1e-12)
        wide = 11 + 19 * (recalls[loss] - low) / (high - low)
        assert disc.marker.size == pytest.approx(wide, abs=0.06)  # a tenth of a pixel is kept


def test_a_loss_without_a_finished_run_is_not_said_to_have_no_compaction(results):
    rows = [r for r in results.summaries if (r["dataset"], r["loss"]) != ("digits", "ccl")]
    failed = results._replace(summaries=rows)  # it failed in every seed
    assert not_drawn(StudyView(failed), "digits") == []


def test_a_small_difference_in_compaction_does_not_fill_the_figure(results):
    for r in results.summaries:
        r["compaction_epochs"] = 10 + 0.001 * len(r["loss"])
    low, high = figure_of(tradeoff, results, "orl-faces").layout.xaxis.range
    assert low < 6
    assert high > 10.01


def test_discs_grow_with_recall_and_the_legend_tells_the_scale(results):
    figure = figure_of(tradeoff, results, "orl-faces")
    sizes = {t.name: t.marker.size for t in figure.data if t.name in COLORS}
    assert max(sizes, key=lambda name: sizes[name]) == "scl"
    scale = [t for t in figure.data if t.name and t.name.startswith("R@1")]
    assert len(scale) == 2
    assert {t.marker.size for t in scale} == {min(sizes.values()), max(sizes.values())}


def test_a_loss_that_never_compacted_is_named_and_not_drawn(results):
    for r in results.summaries:
        if r["loss"] == "scl":
            r["compaction_epochs"] = None
    assert [loss.base for loss in not_drawn(StudyView(results), "orl-faces")] == ["scl"]
    assert "scl" not in {t.name for t in figure_of(tradeoff, results, "orl-faces").data}


def test_a_level_above_the_figure_is_named_with_an_arrow(results):
    for r in results.summaries:
        if r["loss"] != "untrained":
            r["test_intra"] = 0.01 + 0.001 * r["seed"]
    texts = [a.text for a in figure_of(tradeoff, results, "orl-faces").layout.annotations]
    assert any(text.startswith("↑ untrained 0.57") for text in texts)


def test_the_tradeoff_keeps_to_the_defaults(varied, results):
    for r in varied.summaries:
        if r["variant"] == "tuned":
            r["compaction_epochs"], r["test_intra"] = 500.0, 3.0
    assert figure_of(tradeoff, varied, "digits") == figure_of(tradeoff, results, "digits")


def test_a_dataset_without_a_finished_run_has_no_figure(results):
    assert tradeoff(StudyView(no_results()), "digits") is None
    assert tradeoff(StudyView(results._replace(summaries=[])), "digits") is None


def test_a_loss_that_is_not_drawn_is_named_below_the_figure(results):
    assert "Not drawn" not in note(StudyView(results), "orl-faces")
    for r in results.summaries:
        if r["loss"] in ("scl", "ccl"):
            r["compaction_epochs"] = None
    assert note(StudyView(results), "orl-faces").endswith("or was not measured: scl, ccl.")

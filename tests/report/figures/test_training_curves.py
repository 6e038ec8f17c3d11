"""The curves over epochs: their numbers, their axes, and the lines of what was never trained."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from lossgauge.report.figures.training_curves import PANELS, numbers, training_curves
from lossgauge.report.naming import COLORS, GREY
from lossgauge.results.view import StudyView
from lossgauge.types import Results
from tests.support.figures import figure_of
from tests.support.made_up_study import EPOCHS, make_results, no_results


def line(figure, loss, panel):
    axis = "y" if panel == 0 else f"y{panel + 1}"
    return next(t for t in figure.data if t.name == loss and t.yaxis == axis and t.fill is None)


def test_curves_draw_the_mean_over_seeds(results):
    drawn = line(figure_of(training_curves, results, "orl-faces"), "scl", 0)
    rows = [r for r in results.epochs if r["dataset"] == "orl-faces" and r["loss"] == "scl"]
    expected = [
        np.mean([r["test_intra"] for r in rows if r["epoch"] == e]) for e in range(EPOCHS + 1)
    ]
    assert list(drawn.x) == list(range(EPOCHS + 1))
    np.testing.assert_allclose(drawn.y, expected, rtol=1e-4)  # five digits are kept


def test_the_log_panel_draws_the_geometric_mean(results):
    number = next(i for i, panel in enumerate(PANELS) if panel.log)
    drawn = line(figure_of(training_curves, results, "orl-faces"), "scl", number)
    rows = [r for r in results.epochs if r["dataset"] == "orl-faces" and r["loss"] == "scl"]
    of_last = [r["embedding_gradient"] for r in rows if r["epoch"] == EPOCHS]
    assert drawn.y[-1] == pytest.approx(math.prod(of_last) ** (1 / 3), rel=1e-4)


def test_epochs_without_a_measurement_are_not_drawn_as_zero(results):
    drawn = line(figure_of(training_curves, results, "orl-faces"), "scl", len(PANELS) - 1)
    assert list(drawn.x) == list(range(0, EPOCHS + 1, 2))
    assert min(drawn.y) > 0.5


def test_a_loss_has_one_colour_and_one_legend_entry_for_all_panels(results):
    figure = figure_of(training_curves, results, "orl-faces")
    for loss, color in COLORS.items():
        lines = [t for t in figure.data if t.legendgroup == loss and t.fill is None]
        assert len(lines) == len(PANELS)
        assert {t.line.color for t in lines} == {color}
        assert [t.showlegend for t in figure.data if t.legendgroup == loss].count(True) == 1
    assert {t.line.color for t in figure.data if t.legendgroup == "untrained"} == {GREY}


def test_bands_are_there_with_seeds_and_not_with_one(results):
    assert any(t.fill == "toself" for t in figure_of(training_curves, results, "orl-faces").data)
    single = figure_of(training_curves, make_results(seeds=(0,)), "orl-faces")
    assert not any(t.fill == "toself" for t in single.data)


def test_no_band_covers_a_line(results):
    fills = [t.fill == "toself" for t in figure_of(training_curves, results, "orl-faces").data]
    assert fills == sorted(fills, reverse=True)
    assert any(fills)


def test_shares_have_bands_between_0_and_1(results):
    for r in results.epochs:
        if r["loss"] == "triplet" and r.get("gradient_active_ratio") is not None:
            r["gradient_active_ratio"] = 0.5 + 0.5 * r["seed"] / 2
    bands = [
        t
        for t in figure_of(training_curves, results, "digits").data
        if t.fill == "toself" and t.yaxis == "y4"
    ]
    assert bands
    assert all(0 <= v <= 1 for t in bands for v in t.y)


def test_a_black_box_loss_is_drawn_where_it_is_known(results):
    for r in results.epochs:
        if r["loss"] == "ccl":
            r["loss"] = r["base"] = "my.py:<b>Pull"
            r["term_active_ratio"] = None
    figure = figure_of(training_curves, results, "orl-faces")
    axes = {t.yaxis for t in figure.data if t.name == "my.py:&lt;b&gt;Pull"}
    assert "y3" not in axes
    assert {"y", "y2", "y4", "y5", "y6"} <= axes


def test_a_tuned_curve_is_dotted_in_its_losses_colour_without_a_band_and_off(varied, results):
    figure = figure_of(training_curves, varied, "orl-faces")
    for loss, color in COLORS.items():
        tuned = [t for t in figure.data if t.legendgroup == f"{loss}(tuned)"]
        assert len(tuned) == len(PANELS)
        assert {(t.line.color, t.line.dash, t.visible, t.fill) for t in tuned} == {
            (color, "dot", False, None)
        }
    others = [t for t in figure.data if "(tuned)" not in t.legendgroup]
    assert [t.to_plotly_json() for t in others] == [
        t.to_plotly_json() for t in figure_of(training_curves, results, "orl-faces").data
    ]


def cut(results: Results, last: int) -> Results:
    return results._replace(epochs=[r for r in results.epochs if r["epoch"] <= last])


@pytest.mark.parametrize(("last", "step"), [(3, 1), (10, 1), (11, None), (30, None)])
def test_whole_epochs_are_marked_where_they_are_few(results, last, step):
    assert figure_of(training_curves, cut(results, last), "orl-faces").layout.xaxis.dtick == step


def test_a_level_is_a_line_from_the_start_to_the_last_epoch(results):
    for last in (30, 7):
        figure = figure_of(training_curves, cut(results, last), "orl-faces")
        levels = [t for t in figure.data if t.name in ("untrained", "frozen features")]
        assert levels
        assert {tuple(t.x) for t in levels} == {(0, last)}


def test_before_the_first_epoch_a_level_is_a_line_all_the_same(results):
    figure = figure_of(training_curves, cut(results, 0), "orl-faces")
    levels = [t for t in figure.data if t.name in ("untrained", "frozen features")]
    assert {tuple(t.x) for t in levels} == {(0, 1)}
    rows = [r for r in results.summaries if (r["dataset"], r["loss"]) == ("orl-faces", "untrained")]
    intra = np.mean([r["test_intra"] for r in rows])
    (line,) = [t for t in levels if (t.name, t.yaxis) == ("untrained", "y")]
    assert list(line.y) == pytest.approx([intra, intra], rel=1e-4)  # five digits are kept
    frozen = {t.yaxis: t.y[0] for t in levels if t.name == "frozen features"}
    assert frozen["y"] == 0.44
    # an untrained head has no dynamics, and a logarithm no level
    recall = f"y{len(PANELS)}"
    assert set(frozen) == {"y", "y2", recall}


def band(figure, panel):
    axis = "y" if panel == 0 else f"y{panel + 1}"
    return next(t for t in figure.data if (t.name, t.fill, t.yaxis) == ("scl", "toself", axis))


def test_a_band_is_the_interval_over_seeds_below_and_above_the_mean():
    results = make_results(datasets=("b",), losses=("scl", "ccl"))
    inter = {0: 1.7, 1: 1.5, 2: 1.9}
    for r in results.epochs:
        r["test_inter"] = inter[r["seed"]]
    drawn = band(figure_of(training_curves, results, "b"), 1)
    half = stats.t.ppf(0.975, 2) * stats.sem(list(inter.values()))
    assert max(drawn.y) == pytest.approx(1.7 + half, rel=1e-4)  # inter has no end at 1
    assert min(drawn.y) == pytest.approx(1.7 - half, rel=1e-4)
    assert list(drawn.x) == [*range(31), *range(30, -1, -1)]
    assert list(drawn.y[:31]) == [max(drawn.y)] * 31


def test_a_gradient_of_0_has_no_logarithm_and_is_left_out():
    results = make_results(datasets=("b",), losses=("scl", "ccl"))
    for r in results.epochs:
        if r["epoch"] == 4:
            r["embedding_gradient"] = 0.0
    number = next(n for n, panel in enumerate(PANELS, start=1) if panel.log)
    figure = figure_of(training_curves, results, "b")
    drawn = next(
        t for t in figure.data if (t.name, t.yaxis) == ("scl", f"y{number}") and not t.fill
    )
    assert list(drawn.x) == [epoch for epoch in range(1, 31) if epoch != 4]


def test_the_interval_of_two_seeds_does_not_fill_the_panel():
    results = make_results(losses=("triplet", "scl"), seeds=(0, 1))
    number = next(n for n, panel in enumerate(PANELS) if panel.column == "recall_at_1")
    figure = figure_of(training_curves, results, "orl-faces")
    low, high = figure.layout[f"yaxis{number + 1}"].range
    means = [y for loss in ("triplet", "scl") for y in line(figure, loss, number).y]
    means += line(figure, "untrained", number).y + line(figure, "frozen features", number).y
    spread = max(means) - min(means)
    assert low < min(means) < max(means) < high
    assert high - low < 1.2 * spread  # the band of two seeds is many times as wide
    assert max(band(figure, number).y) - min(band(figure, number).y) > 2 * (high - low)


def test_panels_lie_in_two_columns_and_in_one_on_a_narrow_screen(results):
    layout = figure_of(training_curves, results, "orl-faces").layout
    places = [
        (layout[f"xaxis{n or ''}"].domain, layout[f"yaxis{n or ''}"].domain)
        for n in ("", *range(2, 7))
    ]
    assert len({x for x, _ in places}) == 2
    assert len({y for _, y in places}) == 3
    narrow = layout.meta["narrow"]
    assert {tuple(narrow[f"xaxis{n or ''}.domain"]) for n in ("", *range(2, 7))} == {(0.0, 1.0)}
    tops = [narrow[f"yaxis{n or ''}.domain"][1] for n in ("", *range(2, 7))]
    assert tops == sorted(set(tops), reverse=True)
    assert narrow["height"] > layout.height


def test_the_numbers_are_those_of_the_lines(results):
    table = numbers(StudyView(results), "orl-faces")[0]
    assert table.columns[0] == "loss"
    assert table.columns[1] == "epoch 0"
    assert table.columns[-1] == f"epoch {EPOCHS}"
    assert len(table.columns) == 9
    assert table.title.endswith(f"on orl-faces (8 of {EPOCHS + 1} epochs)")
    drawn = line(figure_of(training_curves, results, "orl-faces"), "scl", 0)
    row = next(row for row in table.rows if row[0] == "scl")
    assert row[-1].startswith(f"{drawn.y[-1]:.3f} ± ")
    assert row[-1] == drawn.text[-1]


def test_a_dataset_without_epochs_has_no_figure(results):
    assert training_curves(StudyView(no_results()), "digits") is None
    assert training_curves(StudyView(results._replace(epochs=[])), "digits") is None

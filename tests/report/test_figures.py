"""Figures as objects: the right numbers in them, one colour a loss, room for every label."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from lossgauge.report.figures import PANELS, curves, not_in_plane, plane, response, trials
from lossgauge.report.figures.labels import CHARACTER, HEIGHT, Fixed, Spot, label_box, place_labels
from lossgauge.report.naming import COLORS, GREY
from lossgauge.types import Results
from tests.report.conftest import EPOCHS, make_results


def line(figure, loss, panel):
    axis = "y" if panel == 0 else f"y{panel + 1}"
    return next(t for t in figure.data if t.name == loss and t.yaxis == axis and t.fill is None)


def test_curves_draw_the_mean_over_seeds(results):
    drawn = line(curves(results, "orl-faces"), "scl", 0)
    rows = [r for r in results.epochs if r["dataset"] == "orl-faces" and r["loss"] == "scl"]
    expected = [
        np.mean([r["test_intra"] for r in rows if r["epoch"] == e]) for e in range(EPOCHS + 1)
    ]
    assert list(drawn.x) == list(range(EPOCHS + 1))
    np.testing.assert_allclose(drawn.y, expected, rtol=1e-4)  # five digits are kept


def test_the_log_panel_draws_the_geometric_mean(results):
    number = next(i for i, panel in enumerate(PANELS) if panel.log)
    drawn = line(curves(results, "orl-faces"), "scl", number)
    rows = [r for r in results.epochs if r["dataset"] == "orl-faces" and r["loss"] == "scl"]
    of_last = [r["embedding_gradient"] for r in rows if r["epoch"] == EPOCHS]
    assert drawn.y[-1] == pytest.approx(math.prod(of_last) ** (1 / 3), rel=1e-4)


def test_epochs_without_a_measurement_are_not_drawn_as_zero(results):
    drawn = line(curves(results, "orl-faces"), "scl", len(PANELS) - 1)
    assert list(drawn.x) == list(range(0, EPOCHS + 1, 2))
    assert min(drawn.y) > 0.5


def test_a_loss_has_one_colour_and_one_legend_entry_for_all_panels(results):
    figure = curves(results, "orl-faces")
    for loss, color in COLORS.items():
        lines = [t for t in figure.data if t.legendgroup == loss and t.fill is None]
        assert len(lines) == len(PANELS)
        assert {t.line.color for t in lines} == {color}
        assert [t.showlegend for t in figure.data if t.legendgroup == loss].count(True) == 1
    assert {t.line.color for t in figure.data if t.legendgroup == "untrained"} == {GREY}


def test_bands_are_there_with_seeds_and_not_with_one(results):
    assert any(t.fill == "toself" for t in curves(results, "orl-faces").data)
    single = curves(make_results(seeds=(0,)), "orl-faces")
    assert not any(t.fill == "toself" for t in single.data)


def test_no_band_covers_a_line(results):
    fills = [t.fill == "toself" for t in curves(results, "orl-faces").data]
    assert fills == sorted(fills, reverse=True)
    assert any(fills)


def test_shares_have_bands_between_0_and_1(results):
    for r in results.epochs:
        if r["loss"] == "triplet" and r.get("gradient_active_ratio") is not None:
            r["gradient_active_ratio"] = 0.5 + 0.5 * r["seed"] / 2
    bands = [t for t in curves(results, "digits").data if t.fill == "toself" and t.yaxis == "y4"]
    assert bands
    assert all(0 <= v <= 1 for t in bands for v in t.y)


def test_a_black_box_loss_is_drawn_where_it_is_known(results):
    for r in results.epochs:
        if r["loss"] == "ccl":
            r["loss"] = "my.py:<b>Pull"
            r["term_active_ratio"] = None
    figure = curves(results, "orl-faces")
    axes = {t.yaxis for t in figure.data if t.name == "my.py:&lt;b&gt;Pull"}
    assert "y3" not in axes
    assert {"y", "y2", "y4", "y5", "y6"} <= axes


def test_the_plane_has_a_disc_a_loss_at_its_means_with_intervals(results):
    figure = plane(results, "orl-faces")
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
    figure = plane(results, "orl-faces")
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
    assert not_in_plane(failed, "digits") == []


def test_a_small_difference_in_compaction_does_not_fill_the_plane(results):
    for r in results.summaries:
        r["compaction_epochs"] = 10 + 0.001 * len(r["loss"])
    low, high = plane(results, "orl-faces").layout.xaxis.range
    assert low < 6
    assert high > 10.01


def test_discs_grow_with_recall_and_the_legend_tells_the_scale(results):
    figure = plane(results, "orl-faces")
    sizes = {t.name: t.marker.size for t in figure.data if t.name in COLORS}
    assert max(sizes, key=lambda name: sizes[name]) == "scl"
    scale = [t for t in figure.data if t.name and t.name.startswith("R@1")]
    assert len(scale) == 2
    assert {t.marker.size for t in scale} == {min(sizes.values()), max(sizes.values())}


def test_a_loss_that_never_compacted_is_named_and_not_drawn(results):
    for r in results.summaries:
        if r["loss"] == "scl":
            r["compaction_epochs"] = None
    assert not_in_plane(results, "orl-faces") == ["scl"]
    assert "scl" not in {t.name for t in plane(results, "orl-faces").data}


def test_a_level_above_the_plane_is_told_with_an_arrow(results):
    for r in results.summaries:
        if r["loss"] != "untrained":
            r["test_intra"] = 0.01 + 0.001 * r["seed"]
    texts = [a.text for a in plane(results, "orl-faces").layout.annotations]
    assert any(text.startswith("↑ untrained 0.57") for text in texts)


WIDE = (290.0, 1000.0)


def overlap(a, b):
    return min(a[2], b[2]) - max(a[0], b[0]) > 1e-6 and min(a[3], b[3]) - max(a[1], b[1]) > 1e-6


@pytest.mark.parametrize(("across", "up"), [(0.5, 170), (0.97, 170), (0.13, 40), (0.6, 335)])
def test_labels_keep_clear_of_labels_discs_and_edges_at_all_widths(across, up):
    generator = np.random.default_rng(3)
    spots = [
        Spot(
            float(np.clip(across + 0.08 * generator.standard_normal(), 0, 1)),
            float(np.clip(up + 25 * generator.standard_normal(), 0, 340)),
            7.0,
            name,
        )
        for name in COLORS
    ]
    fixed = [Fixed(True, 250.0, "untrained"), Fixed(False, 252.0, "frozen features")]
    offsets = place_labels(spots, widths=WIDE, height=340.0, fixed=fixed)
    for width in WIDE:
        labels = [label_box(s, o, width) for s, o in zip(spots, offsets, strict=True)]
        assert not any(overlap(a, b) for a, b in combinations(labels, 2))
        untrained = (0, 250, 9 * CHARACTER, 250 + HEIGHT)
        frozen = (width - 15 * CHARACTER, 252, width, 252 + HEIGHT)
        assert not any(overlap(label, text) for label in labels for text in (untrained, frozen))
        for left, bottom, right, top in labels:
            assert min(left, bottom) > -1  # a pixel
            assert right < width + 1
            assert top < 341


def test_a_label_keeps_off_its_neighbours_disc_at_all_widths():
    spots = [Spot(0.80, 100.0, 14.0, "ccl"), Spot(0.85, 100.0, 14.0, "arcface")]
    offsets = place_labels(spots, widths=WIDE, height=340.0)
    for width in WIDE:
        for spot, offset in zip(spots, offsets, strict=True):
            for other in spots:
                x = other.across * width
                disc = (x - 14, other.y - 14, x + 14, other.y + 14)
                assert not overlap(label_box(spot, offset, width), disc)


def test_a_study_without_rows_gives_empty_figures():
    nothing = Results({}, {}, [], [], [], [], [], {})
    assert len(curves(nothing, "digits").data) == 0
    assert len(plane(nothing, "digits").data) == 0


def test_a_tuned_curve_is_dotted_in_its_losses_colour_without_a_band_and_off(varied, results):
    figure = curves(varied, "orl-faces")
    for loss, color in COLORS.items():
        tuned = [t for t in figure.data if t.legendgroup == f"{loss}(tuned)"]
        assert len(tuned) == len(PANELS)
        assert {(t.line.color, t.line.dash, t.visible, t.fill) for t in tuned} == {
            (color, "dot", False, None)
        }
    others = [t for t in figure.data if "(tuned)" not in t.legendgroup]
    assert [t.to_plotly_json() for t in others] == [
        t.to_plotly_json() for t in curves(results, "orl-faces").data
    ]


def test_the_plane_keeps_to_the_defaults(varied, results):
    assert plane(varied, "digits") == plane(results, "digits")


def test_trials_are_dots_and_the_chosen_one_a_ring(varied):
    figure = trials(varied, "orl-faces")
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
        rings = [symbol == "circle-open" for symbol in drawn.marker.symbol]
        assert rings == [r["trial"] == chosen[loss] for r in rows]
    assert any(chosen[loss] for loss in of_margin)  # not the first trial of each


def test_trials_without_a_searched_number_have_no_figure(varied, results):
    assert trials(results, "digits") is None
    for r in varied.trials:
        r["objective"] = None
    assert trials(varied, "digits") is None


def test_a_setting_that_may_be_0_has_an_even_axis(varied):
    for r in varied.trials:
        r["setting_margin"] = 0.0 if r["trial"] == 1 else r.get("setting_margin")
    assert trials(varied, "orl-faces").layout.xaxis2.type is None


def test_the_response_is_the_mean_over_seeds_at_each_multiple_with_the_plans_at_1(varied):
    figure = response(varied, "orl-faces")
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
    drawn = [t for t in response(varied, "digits").data if t.name == "arcface" and t.yaxis == "y"]
    assert [t.line.dash for t in drawn] == ["solid", "dot"]
    assert [t.showlegend for t in drawn] == [True, False]


def test_a_study_that_varies_nothing_has_no_response(results):
    assert response(results, "digits") is None

"""The curves' axes, and the lines of what was never trained."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lossgauge.report.figures.training_curves import PANELS, curves
from lossgauge.types import Results
from tests.report.conftest import make_results


def cut(results: Results, last: int) -> Results:
    return results._replace(epochs=[r for r in results.epochs if r["epoch"] <= last])


@pytest.mark.parametrize(("last", "step"), [(3, 1), (10, 1), (11, None), (30, None)])
def test_whole_epochs_are_marked_where_they_are_few(results, last, step):
    assert curves(cut(results, last), "orl-faces").layout.xaxis.dtick == step


def test_a_level_is_a_line_from_the_start_to_the_last_epoch(results):
    for last in (30, 7):
        figure = curves(cut(results, last), "orl-faces")
        levels = [t for t in figure.data if t.name in ("untrained", "frozen features")]
        assert levels
        assert {tuple(t.x) for t in levels} == {(0, last)}


def test_before_the_first_epoch_a_level_is_a_line_all_the_same(results):
    figure = curves(cut(results, 0), "orl-faces")
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
    drawn = band(curves(results, "b"), 1)
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
    figure = curves(results, "b")
    drawn = next(
        t for t in figure.data if (t.name, t.yaxis) == ("scl", f"y{number}") and not t.fill
    )
    assert list(drawn.x) == [epoch for epoch in range(1, 31) if epoch != 4]


@pytest.mark.parametrize(("least", "step"), [(0.009, 1), (0.011, None)])
def test_whole_decades_are_marked_where_there_are_any(least, step):
    results = make_results(datasets=("b",))
    for r in results.epochs:
        if r.get("embedding_gradient") is not None:
            r["embedding_gradient"] = 0.1 if r["epoch"] > 1 else least
    number = next(n for n, panel in enumerate(PANELS, start=1) if panel.log)
    assert curves(results, "b").layout[f"yaxis{number}"].dtick == step

"""The curves' axes, and the lines of what was never trained."""

from __future__ import annotations

import numpy as np
import pytest

from lossgauge.report.curves import PANELS, curves
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


@pytest.mark.parametrize(("least", "step"), [(0.009, 1), (0.011, None)])
def test_whole_decades_are_marked_where_there_are_any(least, step):
    results = make_results(datasets=("b",))
    for r in results.epochs:
        if r.get("embedding_gradient") is not None:
            r["embedding_gradient"] = 0.1 if r["epoch"] > 1 else least
    number = next(n for n, panel in enumerate(PANELS, start=1) if panel.log)
    assert curves(results, "b").layout[f"yaxis{number}"].dtick == step

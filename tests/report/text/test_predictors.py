"""Which diagnostic goes with retrieval: against a slow loop, and what may not be mixed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from lossgauge.report.text.predictors import EARLY, FEWEST_POINTS, Cell, predictors
from lossgauge.results.run_files import RunFiles
from lossgauge.results.view import StudyView
from lossgauge.types import Record
from tests.support.made_up_study import no_results

LOSSES = ("contrastive", "triplet", "scl")
FACTORS = (0.25, 0.5, 2.0, 4.0)


def study(datasets=("a", "b", "c"), seeds=(0, 1), *, epochs: int = 7, trials: int = 0) -> StudyView:
    """Runs with random diagnostics; `train_intra` of the last epoch falls as MAP@R rises, but for some noise."""
    generator = np.random.default_rng(0)
    default: list[Record] = []
    varied: list[Record] = []
    tried: list[Record] = []
    tables: dict[str, pa.Table] = {}

    def add(rows: list[Record], target: str, **columns: object) -> None:
        value = float(generator.random())
        run = f"run {len(tables)}"
        rows.append({"run": run, "epochs": epochs, target: value, **columns})
        drawn = generator.random((epochs + 1, 3))
        drawn[-1, 0] = 1 - value + 0.2 * generator.random()
        tables[run] = pa.table(
            {
                "epoch": list(range(epochs + 1)),
                "train_intra": drawn[:, 0],
                "term_active_ratio": [None, *drawn[1:, 1]],
                "test_intra": drawn[:, 2],
                "pull": [1.0] * (epochs + 1),
            }
        )

    for dataset in datasets:
        for loss in LOSSES:
            named = {"dataset": dataset, "loss": loss, "base": loss}
            for seed in seeds:
                add(default, "map_at_r", **named, variant="default", seed=seed)
                for factor in FACTORS:
                    at = {"variant": "sensitivity", "setting": "margin", "factor": factor}
                    add(varied, "map_at_r", **named, **at, seed=seed)
            for trial in range(trials):
                at = {"variant": "trial", "trial": trial, "seed": 0}
                add(tried, "validation_map_at_r", **named, **at)
    results = no_results()._replace(summaries=default, sensitivity=varied, trials=tried)
    return StudyView(results, RunFiles(Path(), (), {}, tables, {}))


def slowly(
    view: StudyView, rows: list[Record], target: str, column: str, epoch: int
) -> list[float]:
    """Spearman's correlation on each dataset, with scipy, of means over seeds."""
    found = []
    for dataset in ("a", "b", "c"):
        points: dict[object, list[tuple[float, float]]] = {}
        for row in rows:
            if row["dataset"] == dataset:
                value = view.files.epochs[row["run"]][column][epoch].as_py()
                key = row["base"], row.get("factor"), row.get("trial")
                points.setdefault(key, []).append((value, row[target]))
        means = np.array([np.mean(of, axis=0) for of in points.values()])
        found.append(float(stats.spearmanr(*means.T).statistic))
    return found


@pytest.mark.parametrize(
    ("title", "column"), [("intra, train", "train_intra"), ("active terms", "term_active_ratio")]
)
def test_a_cell_is_the_mean_of_the_datasets_and_its_range_without_one(title, column):
    view = study()
    (found,) = predictors(view)
    assert found.kind == "runs"
    assert found.points == dict.fromkeys("abc", len(LOSSES) * (1 + len(FACTORS)))
    assert found.epochs == ("epoch 1", "epoch 2", "epoch 5", "last epoch")
    rows = [*view.results.summaries, *view.results.sensitivity]
    cells = dict(found.rows)[title]
    for cell, epoch in zip(cells, (*EARLY, 7), strict=True):
        values = slowly(view, rows, "map_at_r", column, epoch)
        without = [np.mean(values[:i] + values[i + 1 :]) for i in range(3)]
        assert cell == pytest.approx(Cell(np.mean(values), min(without), max(without), 3))


def test_a_diagnostic_that_goes_with_retrieval_is_seen_and_one_that_does_not_is_near_zero():
    cells = dict(predictors(study())[0].rows)["intra, train"]
    assert cells[-1].mean < -0.9
    assert abs(cells[0].mean) < 0.4


def test_trials_are_judged_by_the_validation_slice_and_are_not_mixed_with_runs():
    view = study(trials=4)
    runs, trials = predictors(view)
    assert runs.points == predictors(study())[0].points
    assert trials.kind == "trials"
    assert trials.points == dict.fromkeys("abc", 12)
    cells = dict(trials.rows)["intra, train"]
    values = slowly(view, view.results.trials, "validation_map_at_r", "train_intra", 7)
    assert cells[-1].mean == pytest.approx(np.mean(values))


def test_no_number_of_the_test_side_is_a_diagnostic():
    for found in predictors(study(trials=4)):
        assert not any("test" in title for title, _ in found.rows)
        assert "intra" not in dict(found.rows)


def test_a_constant_diagnostic_is_not_shown():
    assert "pull" not in dict(predictors(study())[0].rows)


def test_one_dataset_has_no_range():
    (found,) = predictors(study(("a",)))
    cell = dict(found.rows)["intra, train"][0]
    assert (cell.low, cell.high, cell.datasets) == (cell.mean, cell.mean, 1)


def test_short_runs_have_fewer_epochs_and_few_points_no_table():
    cells = dict(predictors(study(epochs=3))[0].rows)["intra, train"]
    assert cells[2] is None
    assert cells[3] is not None
    view = study()
    few = [r for r in view.results.sensitivity if r["factor"] == 2.0]
    assert len(LOSSES) * 2 < FEWEST_POINTS
    assert predictors(StudyView(view.results._replace(sensitivity=few), view.files)) == []
    assert predictors(StudyView(view.results)) == []

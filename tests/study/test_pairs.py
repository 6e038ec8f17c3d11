"""A study of queries and documents, from the plan to the page, on vectors whose truth is known."""

from __future__ import annotations

import html
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from lossgauge.data.pairs import load
from lossgauge.errors import InputError, PlanError
from lossgauge.files import read_table
from lossgauge.plan.study import Plan
from lossgauge.ranking.judged import judged_retrieval
from lossgauge.report.page import page
from lossgauge.report.text.centering import centering_sentence
from lossgauge.report.text.rankings import in_points
from lossgauge.report.text.selection import selection
from lossgauge.report.text.short_answer import short_answer
from lossgauge.results.columns import CLOCK_COLUMNS
from lossgauge.results.layout import Layout
from lossgauge.results.query_changes import read_query_changes
from lossgauge.results.reader import read_study
from lossgauge.study.engines import Resources
from lossgauge.study.prepare import check_plan
from lossgauge.study.run import execute
from lossgauge.study.runner import run_study
from lossgauge.study.schedule.run_config import RunConfig
from lossgauge.study.schedule.runs import Run
from lossgauge.types import FeatureSet
from tests.support.finished import once
from tests.support.studies import Quiet

SIGNAL, WIDTH = 6, 20


def write_pairs(path: Path, queries: int = 90, *, noise: float = 2) -> None:
    """A query and its right documents agree in the first directions; the others are noise, of twice their size by default."""
    g = np.random.default_rng(0)
    with path.open("w") as file:
        for number in range(queries):
            signal = g.normal(size=SIGNAL)
            query = [*signal, *noise * g.normal(size=WIDTH - SIGNAL)]
            for _ in range(1 + (number % 4 == 0)):
                right = [
                    *signal + 0.2 * g.normal(size=SIGNAL),
                    *noise * g.normal(size=WIDTH - SIGNAL),
                ]
                row = {"query": query, "positive": right}
                row = {name: [round(float(x), 4) for x in of] for name, of in row.items()}
                file.write(json.dumps(row) + "\n")


def plan(place: Path, **changes: object) -> Plan:
    keys: dict[str, object] = {
        "datasets": [f"pairs:{place / 'pairs.jsonl'}"],
        "losses": ["mnrl", "gist"],
        "seeds": 2,
        "epochs": 8,
        "batch_size": 16,
        "learning_rate": 0.03,
        "head": "residual",
        "rank": 6,
        "negatives": {"per_query": 1, "from_rank": 2, "to_rank": 20},
    }
    return Plan.model_validate({**keys, **changes})


@pytest.fixture(scope="session")
def made(tmp_path_factory):  # type: ignore[no-untyped-def]
    def make(place: Path) -> None:
        write_pairs(place / "pairs.jsonl")
        outcome = run_study(plan(place), place / "study", progress=Quiet())
        assert (outcome.done, outcome.failed) == (6, 0)

    return once(tmp_path_factory, "planted-pairs", make)


def test_before_training_a_residual_head_is_the_raw_model(made: Path) -> None:
    view = read_study(made / "study")
    (dataset,) = view.datasets
    raw = next(r for r in view.references(dataset) if r["reference"] == "frozen features")
    assert raw["anisotropy"] is not None
    assert raw["pair_alignment"] is not None
    for loss in view.losses:
        start = next(row for row in view.epochs(dataset, loss) if row["epoch"] == 0)
        for column in ("ndcg_at_10", "mrr_at_10", "found_at_10", "recall_at_1", "map_at_r"):
            assert start[column] == raw[column]
        for column in ("intra", "inter", "pair_alignment", "anisotropy"):
            assert start[f"test_{column}"] == pytest.approx(raw[column], abs=1e-6)


def test_the_numbers_of_the_raw_model_are_those_of_the_features(made: Path) -> None:
    features = load(made / "pairs.jsonl")
    assert isinstance(features, FeatureSet)
    assert features.pairs is not None
    pairs, test = features.pairs, features.test
    asked = torch.isin(pairs.query, test)
    expected = judged_retrieval(
        *(features.features[test], features.features[pairs.corpus]),
        query=torch.searchsorted(test, pairs.query[asked]),
        document=torch.searchsorted(pairs.corpus, pairs.document[asked]),
        similarity="cosine",
    )
    view = read_study(made / "study")
    raw = next(r for r in view.references(view.datasets[0]) if r["reference"] == "frozen features")
    assert raw["ndcg_at_10"] == pytest.approx(expected.ndcg_at_10)
    assert raw["found_at_10"] == pytest.approx(expected.found_at[10])
    table = view.frozen_queries(view.datasets[0])
    assert table["query"].to_pylist() == test.tolist()
    right = set(zip(pairs.query.tolist(), pairs.document.tolist(), strict=True))
    named = zip(table["query"].to_pylist(), table["nearest_right"].to_pylist(), strict=True)
    assert set(named) <= right


def test_training_finds_the_planted_directions_and_the_page_says_so(made: Path) -> None:
    view = read_study(made / "study")
    (dataset,) = view.datasets
    mnrl = next(loss for loss in view.losses if loss.name == "mnrl")
    gain = view.contrast(
        [view.runs(dataset, mnrl)],
        [view.reference_runs(dataset, mnrl, "frozen features")],
        "ndcg_at_10",
    )
    assert gain is not None
    assert gain.queries == 45
    assert gain.low is not None
    assert gain.low > 0
    answer = short_answer(view)[0]
    assert "train with" in answer
    assert "nDCG@10" in answer
    text = html.unescape(page(view))
    assert "better than the raw model" in text
    assert "MAP@R of each loss" not in text


def test_the_list_of_changed_queries_is_that_of_the_tables(made: Path) -> None:
    view = read_study(made / "study")
    (dataset,) = view.datasets
    changes = read_query_changes(Layout(made / "study"), dataset)
    assert changes is not None
    loss = next(loss for loss in view.losses if loss.base == changes.loss)
    frozen = view.frozen_queries(dataset)["ndcg_at_10"].to_numpy()
    runs = [view.queries(str(row["run"])) for row in view.runs(dataset, loss).values()]
    change = np.mean([run["ndcg_at_10"].to_numpy() for run in runs], axis=0) - frozen
    assert changes.better_count == int((change > 1e-12).sum())
    assert changes.worse_count == int((change < -1e-12).sum())
    gains = [one.after - one.before for one in changes.better]  # type: ignore[operator]
    assert gains == sorted(gains, reverse=True)
    assert gains[0] == pytest.approx(change.max())


def test_the_centered_raw_model_has_an_interval_over_queries(made: Path) -> None:
    view = read_study(made / "study")
    (dataset,) = view.datasets
    rows = {row["reference"]: row for row in view.references(dataset)}
    raw, centered = (rows[name] for name in ("frozen features", "centered raw model"))
    level = view.reference_interval(dataset, centered, "ndcg_at_10")
    assert level is not None
    assert level.mean == pytest.approx(centered["ndcg_at_10"])
    assert level.half_width is not None
    gain = view.contrast([{0: centered}], [{0: raw}], "ndcg_at_10")
    assert gain is not None
    assert gain.queries == 45
    assert gain.mean == pytest.approx(centered["ndcg_at_10"] - raw["ndcg_at_10"])
    words = centering_sentence(view, dataset, "ndcg_at_10")
    assert f"({in_points(gain)} points" in words
    assert ("cannot be told from no change)" in words) is not gain.excludes_zero
    assert "no interval was measured" not in words


class _Stopped(Quiet):
    """Stops a study in the second epoch of a trained run."""

    def epoch(self, run: Run, epoch: int) -> None:
        if epoch == 2:
            raise KeyboardInterrupt


def without_times(folder: Path) -> dict[str, pa.Table]:
    """Run → its rows of epochs, without measured times."""
    tables = {path.parent.name: read_table(path) for path in folder.glob("runs/*/epochs.parquet")}
    return {
        run: table.drop_columns([name for name in table.column_names if name in CLOCK_COLUMNS])
        for run, table in tables.items()
    }


def test_after_a_stop_the_numbers_are_the_same(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execute, "CHECKPOINT_SECONDS", -1.0)
    short = plan(made, losses=["gist"], seeds=1, epochs=3, sides="query")
    run_study(short, tmp_path / "whole", progress=Quiet())
    with pytest.raises(KeyboardInterrupt):
        run_study(short, tmp_path / "stopped", progress=_Stopped())
    assert list((tmp_path / "stopped").glob("partial/*/1"))
    run_study(short, tmp_path / "stopped", progress=Quiet())
    whole = without_times(tmp_path / "whole")
    assert len(whole) == 2
    assert without_times(tmp_path / "stopped") == whole


@pytest.mark.slow
def test_in_processes_the_numbers_are_the_same(made: Path, tmp_path: Path) -> None:
    short = plan(made, losses=["gist"], seeds=1, epochs=3, selection="best-validation")
    run_study(short, tmp_path / "one", progress=Quiet())
    two = Resources(engine="processes", jobs=2)
    run_study(short, tmp_path / "two", progress=Quiet(), resources=two)
    assert without_times(tmp_path / "two") == without_times(tmp_path / "one")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"center_features": True}, "center_features has no effect on queries and documents"),
        ({"sampler": "m_per_class"}, "m_per_class needs classes, and queries have none"),
        ({"sample": 100}, "sample draws rows of classes"),
        ({"embedding_size": 16}, "embedding_size has no effect with head: residual"),
        ({"head": "linear"}, "rank has no effect with head: linear"),
        ({"datasets": ["pairs:a", "digits"]}, "not both, but digits has classes"),
        ({"datasets": ["digits"]}, "negatives has no effect without queries and documents"),
        ({"negatives": {"from_rank": 9, "to_rank": 9}}, "from_rank must be below to_rank"),
    ],
)
def test_keys_that_contradict_pairs_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        plan(Path("/data"), **change)


def test_a_loss_without_a_form_for_its_data_is_refused(made: Path) -> None:
    with pytest.raises(PlanError, match="arcface needs classes and has no form for queries"):
        check_plan(plan(made, losses=["arcface"]))
    classes = Plan.model_validate(
        {
            "datasets": "digits",
            "losses": "gist",
            "seeds": 1,
            "epochs": 1,
            "batch_size": 8,
            "learning_rate": 0.03,
        }
    )
    with pytest.raises((PlanError, InputError), match="needs queries and documents"):
        check_plan(classes)
    assert plan(made).selection_metric == "ndcg_at_10"
    assert not plan(made).center_features


def test_where_every_epoch_is_worse_the_raw_model_is_picked_and_the_answer_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after a stop: the head of epoch 0 comes out of the checkpoint."""
    monkeypatch.setattr(execute, "CHECKPOINT_SECONDS", 0)
    write_pairs(tmp_path / "pairs.jsonl", noise=0.2)
    # right pairs are pushed apart, so that no epoch can be better
    (tmp_path / "own.py").write_text(
        "from lossgauge.losses.mnrl import MNRL\n\n\nclass Worse(MNRL):\n"
        "    def terms(self, matrix, positive, negative):\n"
        "        of = super().terms(-matrix, positive, negative)\n"
        "        return of._replace(gradient=-of.gradient)\n"
    )
    keys = {
        "losses": [f"{tmp_path / 'own.py'}:Worse"],
        "selection": "best-validation",
        "epochs": 6,
        "batch_size": 8,
        "negatives": "none",
    }

    class Stops(Quiet):
        def epoch(self, run: Run, epoch: int) -> None:
            if epoch == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(plan(tmp_path, **keys), tmp_path / "study", progress=Stops())
    outcome = run_study(plan(tmp_path, **keys), tmp_path / "study", progress=Quiet())
    assert outcome.failed == 0
    view = read_study(tmp_path / "study")
    (dataset,), (loss,) = view.datasets, view.losses
    raw = next(r for r in view.references(dataset) if r["reference"] == "frozen features")
    epochs = view.epochs(dataset, loss)
    start = next(row["validation_ndcg_at_10"] for row in epochs if row["epoch"] == 0)
    assert all(row["validation_ndcg_at_10"] <= start for row in epochs)
    assert all(row["validation_ndcg_at_10"] < start for row in epochs if row["epoch"] == 6)
    for row in view.runs(dataset, loss).values():
        assert row["selected_epoch"] == 0
        assert row["ndcg_at_10"] == raw["ndcg_at_10"]
        table, frozen = view.queries(row["run"]), view.frozen_queries(dataset)
        assert table["ndcg_at_10"].to_pylist() == frozen["ndcg_at_10"].to_pylist()
    sentence = short_answer(view)[0]
    assert "do not train: on the validation slice, no epoch of any loss is better" in sentence
    assert "In 2 of 2 runs it is epoch 0, the raw model" in selection(view).sentence


def test_epoch_0_counts_where_it_is_the_raw_model_and_never_in_a_trial(made: Path) -> None:
    features = load(made / "pairs.jsonl")
    assert isinstance(features, FeatureSet)
    of = plan(made, selection="best-validation")
    loss = of.losses[0].at({})
    assert RunConfig.trained(of, features, loss, 0).start_counts
    assert not RunConfig.trial(of, features, loss).start_counts
    linear = of.model_copy(update={"head": "linear"})
    assert not RunConfig.trained(linear, features, loss, 0).start_counts


def test_the_centered_model_is_each_side_minus_its_own_mean(made: Path) -> None:
    features = load(made / "pairs.jsonl")
    assert isinstance(features, FeatureSet)
    assert features.pairs is not None
    pairs, test = features.pairs, features.test
    unit = torch.nn.functional.normalize(features.features.double())
    asked = torch.isin(pairs.query, test)
    sides = (
        unit[test] - unit[features.train].mean(dim=0),
        unit[pairs.corpus] - unit[pairs.corpus].mean(dim=0),
    )
    expected = judged_retrieval(
        *map(torch.nn.functional.normalize, sides),
        query=torch.searchsorted(test, pairs.query[asked]),
        document=torch.searchsorted(pairs.corpus, pairs.document[asked]),
    )
    view = read_study(made / "study")
    rows = {row["reference"]: row for row in view.references(view.datasets[0])}
    assert rows["centered raw model"]["ndcg_at_10"] == pytest.approx(expected.ndcg_at_10, abs=1e-12)
    assert rows["centered raw model"]["ndcg_at_10"] != rows["frozen features"]["ndcg_at_10"]
    assert any("Centering the raw model alone" in line for line in short_answer(view))

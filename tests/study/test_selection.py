import numpy as np
import pytest

from lossgauge.files import read_rows
from lossgauge.results.columns import CLOCK_COLUMNS
from lossgauge.results.reader import read_study
from lossgauge.results.writer import Store
from lossgauge.study.runner import run_study
from tests.support.finished import once
from tests.support.studies import Quiet, vectors_plan, write_vectors

TURNING = """
import torch
from lossgauge.losses.info_nce import InfoNCE

class Turning(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.loss = InfoNCE()
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def forward(self, embeddings, labels):
        self.batches += 1
        value = self.loss(embeddings, labels)
        return value if self.batches <= 25 else -value
"""
"""A loss that brings classes together for some epochs and then drives them apart: on every machine, the best
epoch is not the last."""


def write_files(place):
    """The embeddings and the loss of the studies here."""
    write_vectors(place / "vectors.npz")
    (place / "turning.py").write_text(TURNING)
    return place


def study(place, out, *overrides, vectors=None, progress=None):
    """A finished study's results; in `place` are its files."""
    overrides = [str(one).replace("turning.py", f"{place}/turning.py") for one in overrides]
    plan = vectors_plan(vectors or place / "vectors.npz", *overrides)
    assert run_study(plan, place / out, progress=progress or Quiet()).failed == 0
    return read_study(place / out).results


def of_loss(rows, loss="Turning"):
    return [row for row in rows if row["loss"].endswith(loss)]


def numbers(rows):
    return [{k: v for k, v in row.items() if k not in CLOCK_COLUMNS} for row in rows]


LONG = ("losses=turning.py:Turning", "epochs=14")
"""So long that the last epoch is not the best."""


def best_by_hand(rows, column):
    """The first epoch with the largest value that was measured, epoch 0 aside."""
    best, at = None, None
    for row in rows:
        value = row.get(column)
        if row["epoch"] > 0 and value is not None and (best is None or value > best):
            best, at = value, row["epoch"]
    return at


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    return once(tmp_path_factory, "selection", write_files)


@pytest.fixture(scope="session")
def whole(tmp_path_factory, files):
    """Folders of the long study, by how its epoch is selected: each is run once, and only read."""

    def folder(selection):
        def make(place):
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("LOSSGAUGE_CACHE", str(place / "cache"))
                study(files, place / "out", *LONG, f"selection={selection}")

        return once(tmp_path_factory, f"selection-{selection}", make) / "out"

    return folder


@pytest.mark.parametrize(
    ("selection", "metric", "every"),
    [
        ("last", None, 5),
        ("best-validation", "map_at_r", 1),
        ("best-validation", "recall_at_1", 5),
        ("oracle", "map_at_r", 5),
        ("oracle", "recall_at_1", 1),
    ],
)
def test_the_selected_epoch_is_the_best_that_was_measured(tmp_path, selection, metric, every):
    chosen = [f"selection_metric={metric}"] if metric else []
    found = study(
        write_files(tmp_path),
        "out",
        *LONG,
        "seeds=2",
        f"selection={selection}",
        f"retrieval_every={every}",
        *chosen,
    )
    summaries = of_loss(found.summaries)
    assert len(summaries) == 2
    for summary in summaries:
        epochs = [row for row in of_loss(found.epochs) if row["seed"] == summary["seed"]]
        measured = [row["epoch"] for row in epochs if row["map_at_r"] is not None]
        assert measured == [0, *(e for e in range(1, 15) if e % every == 0 or e == 14)]
        if selection == "last":
            wanted = 14
        else:
            column = f"validation_{metric}" if selection == "best-validation" else metric
            wanted = best_by_hand(epochs, column)
            assert wanted != 14  # or this would not tell it from `last`
        assert summary["selected_epoch"] == wanted
        assert summary["epochs"] == 14
        row = epochs[wanted]
        geometry = [
            name
            for name in row
            if name.startswith(("test_", "train_", "recall_", "map_", "validation_"))
        ]
        assert len(geometry) > 10
        for name in geometry:
            assert summary[name] == row[name], name
        # the head of that epoch, not the last one
        classes = read_rows(tmp_path / "out" / "runs" / summary["run"] / "classes.parquet")
        for side in ("train", "test"):
            intra = [line["intra"] for line in classes if line["side"] == side]
            assert np.mean(intra) == pytest.approx(row[f"{side}_intra"], rel=1e-6)


def test_training_is_the_same_whatever_epoch_is_selected(whole):
    last, oracle = (read_study(whole(selection)).results for selection in ("last", "oracle"))
    drop = ("run",)
    one, two = (
        [{k: v for k, v in row.items() if k not in drop} for row in numbers(found.epochs)]
        for found in (last, oracle)
    )
    assert one == two
    summary, picked = of_loss(last.summaries)[0], of_loss(oracle.summaries)[0]
    assert picked["map_at_r"] > summary["map_at_r"]
    for name in ("loss_value", "decay_epochs", "compaction_epochs", "term_active_ratio"):
        assert picked[name] == summary[name]


def test_of_equal_epochs_the_earliest_is_selected(tmp_path):
    # a head that hardly moves: all epochs retrieve the same
    found = study(write_files(tmp_path), "out", "learning_rate=1e-12", "selection=oracle")
    assert len({row["map_at_r"] for row in of_loss(found.epochs, "triplet")}) == 1
    assert of_loss(found.summaries, "triplet")[0]["selected_epoch"] == 1


def test_best_validation_never_sees_the_test_side(tmp_path, files, whole):
    poisoned = write_vectors(tmp_path / "vectors.npz", poison=True)
    rules = {}
    for rule in ("best-validation", "oracle"):
        good = read_study(whole(rule)).results
        bad = study(files, tmp_path / rule, *LONG, f"selection={rule}", vectors=poisoned)
        (one,), (two,) = of_loss(good.summaries), of_loss(bad.summaries)
        assert one["map_at_r"] > two["map_at_r"] + 0.1
        rules[rule] = one, two
        if rule == "best-validation":
            for before, after in zip(of_loss(good.epochs), of_loss(bad.epochs), strict=True):
                held = [name for name in before if name.startswith(("validation_", "train_"))]
                assert [before[name] for name in held] == [after[name] for name in held]
                assert before["validation_map_at_r"] is not None
    one, two = rules["best-validation"]
    assert one["selected_epoch"] == two["selected_epoch"]
    one, two = rules["oracle"]
    assert one["selected_epoch"] != two["selected_epoch"]


class Interrupted(Quiet):
    """Presses Ctrl-C after an epoch of a loss, once."""

    def __init__(self, after):
        super().__init__()
        self.after = after

    def epoch(self, run, epoch):
        if epoch == self.after:
            raise KeyboardInterrupt


@pytest.mark.parametrize("selection", ["best-validation", "oracle"])
def test_a_run_that_was_stopped_keeps_the_best_head_it_had(
    tmp_path, selection, files, whole, monkeypatch
):
    monkeypatch.setattr("lossgauge.study.run.execute.CHECKPOINT_SECONDS", 0)
    plan = (*LONG, f"selection={selection}")
    results = read_study(whole(selection)).results
    (summary,) = of_loss(results.summaries)
    stop = 14
    assert summary["selected_epoch"] < stop - 1  # the best head comes out of the checkpoint
    with pytest.raises(KeyboardInterrupt):
        study(files, tmp_path / "stopped", *plan, progress=Interrupted(stop))
    run = summary["run"]
    assert Store(tmp_path / "stopped").checkpoint(run).name == str(stop - 1)
    stopped = study(files, tmp_path / "stopped", *plan)
    assert numbers(stopped.summaries) == numbers(results.summaries)
    assert numbers(stopped.epochs) == numbers(results.epochs)
    one, two = (
        read_rows(folder / "runs" / run / "classes.parquet")
        for folder in (whole(selection), tmp_path / "stopped")
    )
    assert one == two


def test_other_heads_optimizers_and_schedules_give_other_numbers(tmp_path):
    write_files(tmp_path)
    ways = {
        "default": [],
        "mlp": ["head=mlp", "hidden_size=16"],
        "wider": ["head=mlp", "hidden_size=32"],
        "sgd": ["optimizer=sgd"],
        "still": ["optimizer=sgd", "momentum=0"],
        "decay": ["weight_decay=0.1"],
        "adamw": ["optimizer=adamw", "weight_decay=0.1"],
        "cosine": ["schedule=cosine"],
        "warmup": ["warmup_epochs=1"],
        "both": ["schedule=cosine", "warmup_epochs=1"],
    }
    reached = {}
    for name, overrides in ways.items():
        found = study(tmp_path, name, *overrides)
        (summary,) = of_loss(found.summaries, "triplet")
        reached[name] = summary["loss_value"], summary["test_intra"], summary["train_intra"]
    assert len({values[1] for values in reached.values()}) == len(ways)
    assert len({values[2] for values in reached.values()}) == len(ways)


def test_the_baseline_is_the_same_beside_any_training(tmp_path):
    write_files(tmp_path)
    one = study(tmp_path, "out", "selection=best-validation", "optimizer=sgd")
    two = study(tmp_path, "out", "epochs=2")
    untrained = [of_loss(found.summaries, "untrained") for found in (one, two)]
    assert untrained[0][0]["run"] == untrained[1][0]["run"]
    assert untrained[0][0]["selected_epoch"] == 0

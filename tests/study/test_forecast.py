import dataclasses
import json
import shutil
from collections import Counter
from threading import Lock

import numpy as np
import pytest
from PIL import Image

from lossgauge.backbones import load_backbone
from lossgauge.data import load_dataset
from lossgauge.data.estimate import estimate
from lossgauge.data.features import features
from lossgauge.errors import DataError, PlanError
from lossgauge.plan.study import Plan
from lossgauge.results.reader import read_study
from lossgauge.stats.planning import ASSUMED_NDCG, assumed, detectable_difference
from lossgauge.study.forecast import Cost, cost_of, forecast
from lossgauge.study.prepare import prepare
from lossgauge.study.run.measure import Measurement, measure
from lossgauge.study.run.setup import set_up
from lossgauge.study.runner import run_study
from lossgauge.study.sentences import forecast_lines
from lossgauge.training import train_epoch
from tests.support.studies import Quiet, small_plan, vectors_plan, write_vectors


def tree(*folders):
    """Every file below with its bytes, and every folder."""
    return {
        str(path): path.read_bytes() if path.is_file() else None
        for folder in folders
        for path in sorted(folder.rglob("*"))
    }


def told(plan, folder, progress=None):
    return forecast(plan, folder, progress=progress or Quiet())


TUNED = ("tune={trials: 7, epochs: 2}", "losses=triplet,ccl", "seeds=2", "sensitivity=[0.5,2]")


def test_a_forecast_writes_nothing_at_all(tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    vectors = write_vectors(tmp_path / "vectors.npz")
    before = tree(tmp_path)
    found = told(vectors_plan(vectors, *TUNED), tmp_path / "out")
    assert found.runs > 0
    assert tree(tmp_path) == before
    assert not (tmp_path / "out").exists()


def test_a_forecast_of_a_finished_study_changes_no_file_of_it_nor_of_the_cache(tmp_path):
    run_study(small_plan(epochs=1), tmp_path / "out", progress=Quiet())
    before = tree(tmp_path)
    found = told(small_plan(epochs=1, seeds=2), tmp_path / "out")
    assert (found.runs, found.there) == (6, 3)
    assert tree(tmp_path) == before


def test_a_forecast_says_what_difference_the_planned_seeds_and_queries_can_show(tmp_path):
    three = told(small_plan(seeds=3, losses="triplet,ccl,scl"), tmp_path / "out")
    (of,) = three.detectable
    queries = len(load_dataset("digits").test)
    assert (of.dataset, of.seeds, of.queries) == ("digits", 3, queries)
    assert of.difference == detectable_difference(assumed(3), 3, queries, family=2)
    (more,) = told(small_plan(seeds=9, losses="triplet,ccl,scl"), tmp_path / "out").detectable
    assert more.difference < of.difference
    lines = list(forecast_lines(three, tmp_path / "out"))
    words = f"digits: with 3 seeds and {queries} queries, a difference of {100 * of.difference:.1f}"
    assert any(line.startswith(words) for line in lines)
    one_seed = told(small_plan(losses="triplet,ccl"), tmp_path / "out")
    assert any("one seed shows nothing" in line for line in forecast_lines(one_seed, tmp_path))
    assert told(small_plan(losses="triplet"), tmp_path / "out").detectable == []


def test_of_queries_and_documents_the_difference_is_in_ndcg(tmp_path):
    generator = np.random.default_rng(0)
    rows = [
        {k: generator.normal(size=8).tolist() for k in ("query", "positive")} for _ in range(40)
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    keys = {"losses": ["mnrl", "gist"], "seeds": 3, "epochs": 2, "batch_size": 8}
    plan = Plan(
        datasets=[f"pairs:{tmp_path / 'pairs.jsonl'}"],
        head="residual",
        rank=4,
        learning_rate=0.01,
        **keys,
    )
    found = told(plan, tmp_path / "out")
    (of,) = found.detectable
    parts = assumed(2, ASSUMED_NDCG)._replace(query_degrees=(of.queries - 1) / of.queries)
    assert (of.measure, of.queries) == ("nDCG@10", 20)
    assert of.difference == detectable_difference(parts, 3, of.queries)
    lines = list(forecast_lines(found, tmp_path / "out"))
    assert any(
        f"{100 * of.difference:.1f} points of nDCG@10 between two losses" in x for x in lines
    )
    assert not any("R@1" in line for line in lines)


def test_new_classes_count_as_the_units_of_a_class_disjoint_split(tmp_path):
    vectors = write_vectors(tmp_path / "vectors.npz")
    arrays = dict(np.load(vectors))
    arrays["labels"][arrays["split"] == "test"] += 6
    np.savez(vectors, **arrays)
    plan = vectors_plan(vectors, "losses=triplet,ccl", "seeds=2")
    (of,) = told(plan, tmp_path / "out").detectable
    (prepared,) = prepare(plan, progress=Quiet())[0]
    assert not set(prepared.labels[prepared.test].tolist()) & set(
        prepared.labels[prepared.train].tolist()
    )
    classes = len(prepared.labels[prepared.test].unique())
    parts = assumed(2)._replace(query_degrees=(classes - 1) / of.queries)
    assert of.difference == detectable_difference(parts, 2, of.queries)


def test_a_forecast_counts_a_damaged_run_as_to_be_done_and_leaves_it_as_it_is(tmp_path):
    run_study(small_plan(epochs=1), tmp_path / "out", progress=Quiet())
    (path,) = tmp_path.glob("out/runs/digits_triplet*/epochs.parquet")
    path.write_bytes(path.read_bytes()[:-1])
    before = tree(tmp_path)
    assert told(small_plan(epochs=1), tmp_path / "out").there == 2
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    "overrides",
    [
        ("losses=triplet,ccl", "seeds=2"),
        ("sensitivity=[0.5,2]",),
        # one that is asked for twice: as it stands and as a variant of another
        ("losses=[triplet, {triplet: {margin: 0.4}}]", "sensitivity=[2]"),
        ("tune={trials: 2, epochs: 1}",),
        pytest.param(TUNED, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_forecast_counts_the_runs_that_a_study_then_does(tmp_path, overrides):
    plan = vectors_plan(write_vectors(tmp_path / "vectors.npz"), *overrides)
    before = told(plan, tmp_path / "out")
    watcher = Quiet()
    outcome = run_study(plan, tmp_path / "out", progress=watcher)
    # what a loss was tuned to may be its own defaults, which are done then
    again = {
        row["run"]
        for row in read_study(tmp_path / "out").results.summaries
        if row["variant"] == "default"
    }
    found = read_study(tmp_path / "out").results
    own = [row for row in found.summaries if row["variant"] == "tuned" and row["run"] in again]
    assert before.there == 0
    assert before.runs == outcome.done + len(own)
    after = told(plan, tmp_path / "out")
    assert (after.runs, after.there) == (outcome.done, outcome.done)
    assert (after.seconds, after.bytes) == (0, 0)


def test_a_forecast_of_a_study_that_was_stopped_counts_the_trials_that_are_there(tmp_path):
    vectors = write_vectors(tmp_path / "vectors.npz")
    plan = vectors_plan(vectors, "tune={trials: 12, epochs: 2}")
    run_study(plan, tmp_path / "out", progress=Quiet())
    trials = sorted(read_study(tmp_path / "out").results.trials, key=lambda row: row["trial"])
    # the sixth trial is of the second round, which only the first one's ends open
    for row in trials[7:]:
        for path in sorted((tmp_path / "out" / "runs" / row["run"]).iterdir()):
            path.unlink()
        (tmp_path / "out" / "runs" / row["run"]).rmdir()
    found = told(plan, tmp_path / "out")
    assert (found.runs, found.there) == (2 + 12 + 1, 2 + 7)
    assert found.seconds > 0


def test_what_is_left_of_a_search_is_the_trials_that_are_not_there(tmp_path, monkeypatch):
    plan = vectors_plan(write_vectors(tmp_path / "vectors.npz"), "tune={trials: 12, epochs: 2}")
    monkeypatch.setattr(
        "lossgauge.study.forecast.cost_of",
        lambda run, found: Cost({"trial": 1.0, "default": 100.0, "tuned": 100.0}[run.variant], 0),
    )
    # the baseline, the loss as it stands and tuned
    assert told(plan, tmp_path / "out").seconds == 3 * 100 + 12
    run_study(plan, tmp_path / "out", progress=Quiet())
    for there in (11, 7, 5, 4, 0):
        for row in read_study(tmp_path / "out").results.trials:
            if row["trial"] >= there:
                shutil.rmtree(tmp_path / "out" / "runs" / row["run"])
        for row in read_study(tmp_path / "out").results.summaries:
            if row["variant"] == "tuned":
                shutil.rmtree(tmp_path / "out" / "runs" / row["run"])
        assert told(plan, tmp_path / "out").seconds == 100 + (12 - there)


class Clock:
    """A clock that moves only as it is told."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


STEP, RETRIEVAL, GEOMETRY = 3.0, 500.0, 20.0


@pytest.mark.parametrize("epochs", [1, 7])
@pytest.mark.parametrize("every", [1, 3, 30])
def test_a_run_is_forecast_with_as_many_steps_and_measurements_as_it_does(
    tmp_path, monkeypatch, epochs, every
):
    plan = vectors_plan(
        write_vectors(tmp_path / "vectors.npz"),
        f"epochs={epochs}",
        f"retrieval_every={every}",
        "tune={trials: 2, epochs: 4}",
    )
    spent: Counter[str] = Counter()  # by the kind of a run, in a study that does it
    costs: dict[str, float] = {}  # by the kind of a run, as it is forecast
    with monkeypatch.context() as patch:
        running = ""

        def slow(seconds):
            spent[running] += seconds

        def start(run, *rest):
            nonlocal running
            running = run.variant if run.config.epochs else "untrained"
            return set_up(run, *rest)

        def measure_slowly(head, features, *, with_retrieval, **more):
            slow(GEOMETRY + RETRIEVAL * with_retrieval)
            return measure(head, features, with_retrieval=with_retrieval, **more)

        def train_slowly(training, features, labels, batches, *, on_step):
            slow(STEP * len(batches))
            train_epoch(training, features, labels, batches, on_step=on_step)

        patch.setattr("lossgauge.study.run.execute.set_up", start)
        patch.setattr("lossgauge.study.run.execute.measure", measure_slowly)
        patch.setattr("lossgauge.study.run.execute.train_epoch", train_slowly)
        run_study(plan, tmp_path / "out", progress=Quiet())
        kinds = Counter(
            row["variant"] if row["epochs"] else "untrained"
            for rows in (read_study(tmp_path / "out").results,)
            for row in (*rows.summaries, *rows.trials)
        )
    with monkeypatch.context() as patch:
        clock = Clock()

        def count_steps(training, features, labels, batches, *, on_step):
            def tick(step):
                clock.now += STEP * (100 if step.number == 4 else 1)  # one is slow by chance
                on_step(step)

            train_epoch(training, features, labels, batches, on_step=tick)

        def count_measurement(head, features, *, with_retrieval, **more):
            clock.now += GEOMETRY + RETRIEVAL * with_retrieval
            return Measurement({}, {}, None)

        def keep(run, found):
            cost = cost_of(run, found)
            costs[run.variant if run.config.epochs else "untrained"] = cost.seconds
            return cost

        patch.setattr("lossgauge.study.forecast.time", clock)
        patch.setattr("lossgauge.study.forecast.train_epoch", count_steps)
        patch.setattr("lossgauge.study.forecast.measure", count_measurement)
        patch.setattr("lossgauge.study.forecast.cost_of", keep)
        told(plan, tmp_path / "nowhere")
    assert costs.keys() == {"untrained", "default", "trial"}
    for kind, seconds in costs.items():
        assert seconds == pytest.approx(spent[kind] / kinds[kind]), kind


@pytest.mark.slow
def test_a_forecast_of_disk_is_about_what_a_study_takes(tmp_path):
    for name, plan in {
        "short": small_plan(epochs=3),
        "long": small_plan(epochs=12, losses="triplet", retrieval_every=4),
        "tuned": small_plan(epochs=4, losses="triplet", tune="{trials: 3, epochs: 2}"),
    }.items():
        run_study(small_plan(epochs=1), tmp_path / "features", progress=Quiet())
        found = told(plan, tmp_path / name)
        run_study(plan, tmp_path / name, progress=Quiet())
        size = sum(path.stat().st_size for path in (tmp_path / name).rglob("*") if path.is_file())
        assert size / 2 < found.bytes < size * 2, name
        assert found.seconds > 0, name  # of what: see the test by a clock that counts


def test_more_epochs_seeds_and_trials_take_more_room(tmp_path):
    vectors = write_vectors(tmp_path / "vectors.npz")
    few = "tune={trials: 5, epochs: 3}"
    for less, more in (
        ([], ["epochs=100"]),
        ([], ["seeds=20"]),
        ([few], ["tune={trials: 50, epochs: 3}"]),  # of which a study begins with five
    ):
        small, large = (
            told(vectors_plan(vectors, *overrides), tmp_path / "out") for overrides in (less, more)
        )
        assert large.bytes > 2 * small.bytes, more


def test_the_grid_names_each_dataset_with_what_it_is_asked_for(tmp_path):
    vectors = write_vectors(tmp_path / "vectors.npz")
    (line,) = told(vectors_plan(vectors, *TUNED), tmp_path / "out").grid
    assert line == (
        "embeddings:vectors.npz: 180 training and 180 test rows of 24 features, given split: "
        "2 losses and untrained × 2 seeds; 6 further settings × the same seeds; "
        "2 losses × 7 trials, then the same seeds"
    )


def test_features_that_are_not_in_the_cache_are_estimated_and_not_extracted(tmp_path, quiet):
    vectors = write_vectors(tmp_path / "vectors.npz")
    plan = vectors_plan(vectors, f"datasets=['embeddings:{vectors}', digits]", "backbone=pixels")
    before = tree(tmp_path)
    found = told(plan, tmp_path / "out", quiet)
    assert quiet.missing == {}
    assert tree(tmp_path) == before
    assert found.runs == 2 + 2
    assert len(found.grid) == 2
    assert found.grid[1].startswith("digits: 896 training and 901 test rows of 64 features, halves")
    assert "first its features, about" in found.grid[1]
    assert found.grid[1].endswith("0.5 MB in the cache")
    alone = told(plan.model_copy(update={"datasets": ["digits"]}), tmp_path / "out")
    run_study(plan, tmp_path / "out", progress=Quiet())
    # the same runs as with the real features, and less to do once they are there
    there = told(plan, tmp_path / "out")
    assert (there.runs, there.there, there.seconds, there.bytes) == (4, 4, 0, 0)
    fresh = told(plan.model_copy(update={"datasets": ["digits"]}), tmp_path / "new")
    assert alone.bytes - fresh.bytes == 1797 * 64 * 4
    assert alone.seconds > 0
    with pytest.raises(DataError, match="no dataset of the study can be used: cub200: "):
        told(small_plan(datasets="cub200"), tmp_path / "out")


def test_the_time_of_an_extraction_is_that_of_a_few_images_times_their_number(monkeypatch, quiet):
    digits = load_dataset("digits")
    read = []
    clock = 0.0
    lock = Lock()  # several threads read

    def slow(row):
        nonlocal clock
        with lock:
            clock += 0.5
            read.append(row)
            return digits.read(row)

    monkeypatch.setattr("lossgauge.data.estimate.time.perf_counter", lambda: clock)
    images = dataclasses.replace(digits, read=slow)
    found = estimate(images, load_backbone("pixels"))
    assert len(read) == 64
    assert (min(read), max(read)) == (0, 1796)
    assert found.seconds == pytest.approx(1797 * 0.5)
    assert found.features.fingerprint == features(digits, load_backbone("pixels")).fingerprint


def test_a_forecast_tells_of_images_that_cannot_be_read(tmp_path):
    for label in ("ant", "bee"):
        (tmp_path / "pets" / label).mkdir(parents=True)
        for number in range(20):
            path = tmp_path / "pets" / label / f"{number:02}.png"
            Image.new("L", (8, 8), 5 * number).save(path)
            if label == "bee" and number < 11:
                path.write_bytes(path.read_bytes()[:40])

    class Listens(Quiet):
        def __init__(self):
            super().__init__()
            self.told = []

        def warning(self, dataset, words):
            self.told.append(words)

    quiet = Listens()
    plan = small_plan(datasets=f"['folder:{tmp_path / 'pets'}']", batch_size=8)
    told(plan, tmp_path / "out", quiet)
    assert quiet.told[:2] == [
        "left out because they cannot be read (11 of the 40 tried): bee/00.png, bee/01.png, bee/02.png and 8 more",
        "a study would stop here: about 11 of the 40 images cannot be read, but at most 10 or 1% are allowed: "
        "repair or remove them",
    ]


FAILS = """
import torch
class Fails(torch.nn.Module):
    def forward(self, z, y):
        raise RuntimeError("not this one")
"""


def test_a_loss_that_fails_is_told_of_and_does_not_stop_the_forecast(tmp_path, quiet):
    (tmp_path / "own.py").write_text(FAILS)
    vectors = write_vectors(tmp_path / "vectors.npz")
    plan = vectors_plan(vectors, f"losses=['{tmp_path / 'own.py'}:Fails', triplet]")
    found = told(plan, tmp_path / "out", quiet)
    assert (found.runs, found.there) == (3, 0)
    assert found.seconds > 0
    (words,) = quiet.warnings.values()
    assert words.endswith(
        "own.py:Fails fails in its first steps, so the estimate does not include its time: RuntimeError: not this one"
    )


def test_a_forecast_refuses_what_a_study_would_refuse(tmp_path):
    with pytest.raises(PlanError, match="did you mean 'digits'"):
        told(small_plan(datasets="digit"), tmp_path / "out")

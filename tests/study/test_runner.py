import contextlib
import fcntl
import json
import signal
import threading

import numpy as np
import pytest

from lossgauge.errors import DataError, InputError, PlanError, StudyError
from lossgauge.files import folder_with_manifest, read_rows, write_rows
from lossgauge.results.reader import read_study
from lossgauge.results.writer import Store
from lossgauge.study.runner import run_study
from lossgauge.study.status import read_status
from lossgauge.training import training_state
from tests.support.forking import fork_script
from tests.support.studies import Quiet, small_plan

CLOCK_COLUMNS = ("seconds", "step_milliseconds", "probe_milliseconds", "probe_share")


def numbers(rows):
    """Rows without the columns that tell the time."""
    return [{key: value for key, value in row.items() if key not in CLOCK_COLUMNS} for row in rows]


def test_a_study_leaves_one_whole_directory_a_run(tmp_path, quiet):
    outcome = run_study(small_plan(), tmp_path / "out", progress=quiet)
    assert (outcome.done, outcome.reused, outcome.failed, outcome.left_out) == (3, 0, 0, [])
    folders = sorted((tmp_path / "out" / "runs").iterdir())
    assert [f.name.rsplit("_", 1)[0] for f in folders] == [
        "digits_ccl_0",
        "digits_triplet_0",
        "digits_untrained_0",
    ]
    for folder in folders:
        names = {path.name for path in folder.iterdir()}
        assert names == {
            "config.json",
            "environment.json",
            "summary.json",
            "timing.json",
            "epochs.parquet",
            "steps.parquet",
            "manifest.json",
            "classes.parquet",
            "queries.parquet",
            "head.safetensors",
            *(() if "untrained" in folder.name else ("heads.safetensors",)),
        }
    config = json.loads((folders[1] / "config.json").read_text())
    assert len(config["fingerprint"]) == 64
    assert config["settings"] == {"margin": 0.2, "power": 2, "reduction": "mean", "tolerance": 1e-6}
    steps = read_rows(folders[1] / "steps.parquet")
    assert len(steps) == 2 * (896 // 64)
    assert steps[-1]["gradient_active_ratio"] is not None
    assert [row["epoch"] for row in read_rows(folders[1] / "epochs.parquet")] == [0, 1, 2]
    assert list((tmp_path / "out" / "partial").glob("*/*")) == []


def test_the_untrained_baseline_is_epoch_zero_of_every_loss(tmp_path, quiet):
    run_study(small_plan(), tmp_path, progress=quiet)
    results = read_study(tmp_path).results
    at_start = [row for row in results.epochs if row["epoch"] == 0]
    assert len(at_start) == 3
    for column in ("test_intra", "recall_at_1", "map_at_r"):
        assert len({row[column] for row in at_start}) == 1, column
    (baseline,) = [row for row in results.summaries if row["loss"] == "untrained"]
    assert baseline["recall_at_1"] == at_start[0]["recall_at_1"]
    assert baseline.get("term_active_ratio") is None
    names = [row["reference"] for row in results.references]
    assert names == ["frozen features", "random unit vectors", "full collapse"]
    assert results.references[2]["cdnv"] is None
    assert "recall_at_1" not in results.references[2]


def test_the_same_command_goes_on_where_it_was_and_a_changed_setting_makes_other_runs(
    tmp_path, quiet
):
    run_study(small_plan(losses="triplet"), tmp_path, progress=quiet)
    outcome = run_study(small_plan(), tmp_path, progress=quiet)
    assert (outcome.done, outcome.reused) == (1, 2)
    outcome = run_study(small_plan(losses="[{triplet: {margin: 0.1}}]"), tmp_path, progress=quiet)
    assert (outcome.done, outcome.reused) == (1, 1)
    outcome = run_study(small_plan(epochs=3), tmp_path, progress=quiet)
    assert (outcome.done, outcome.reused) == (2, 1)
    assert len(read_study(tmp_path).results.summaries) == 3


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(tmp_path, quiet):
    for out, seed in (("one", 0), ("two", 0), ("three", 1)):
        run_study(small_plan(losses="triplet", seeds=f"[{seed}]"), tmp_path / out, progress=quiet)
    one, two, three = (read_study(tmp_path / out).results for out in ("one", "two", "three"))
    assert numbers(one.epochs) == numbers(two.epochs)
    assert one.epochs[-1]["test_intra"] != three.epochs[-1]["test_intra"]


BROKEN_LOSS = """
import torch
class Broken(torch.nn.Module):
    calls = 0
    def forward(self, z, y):
        Broken.calls += 1
        if Broken.calls > 5:
            raise RuntimeError("the fifth time is too much")
        return ((y[:, None] == y) * (z @ z.T)).sum() * -1.0
class Pull(torch.nn.Module):
    def forward(self, z, y):
        return -((y[:, None] == y) * (z @ z.T)).mean()
"""


def test_a_run_that_fails_is_kept_as_failed_and_the_others_go_on(tmp_path, quiet):
    file = tmp_path / "mine.py"
    file.write_text(BROKEN_LOSS)
    plan = small_plan(losses=f"{file}:Broken,{file}:Pull")
    outcome = run_study(plan, tmp_path / "out", progress=quiet)
    assert (outcome.done, outcome.failed) == (2, 1)
    results = read_study(tmp_path / "out").results
    assert results.failures[0]["error"] == "RuntimeError: the fifth time is too much"
    assert "the fifth time" in results.failures[0]["traceback"]
    (black_box,) = [row for row in results.summaries if row["loss"].endswith("Pull")]
    assert black_box["term_active_ratio"] is None
    assert black_box["gradient_active_ratio"] > 0
    # mended, it is another loss, and the old failure is no longer of this study
    file.write_text(BROKEN_LOSS.replace("> 5", "> 5000"))
    outcome = run_study(plan, tmp_path / "out", progress=quiet)
    assert (outcome.done, outcome.failed, outcome.reused) == (2, 0, 1)
    assert read_study(tmp_path / "out").results.failures == []


def test_a_dataset_that_is_not_there_is_left_out_with_its_reason(tmp_path, quiet):
    outcome = run_study(
        small_plan(datasets="cub200,digits", losses="triplet"), tmp_path, progress=quiet
    )
    assert [row["dataset"] for row in outcome.left_out] == ["cub200"]
    assert "CUB_200_2011.tgz" in quiet.missing["cub200"]
    assert read_study(tmp_path).results.left_out == outcome.left_out
    with pytest.raises(DataError, match="no dataset of the study can be used: cub200"):
        run_study(small_plan(datasets="cub200"), tmp_path / "out", progress=quiet)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"datasets": "digit"}, PlanError, "did you mean 'digits'"),
        ({"losses": "tripplet"}, InputError, "did you mean 'triplet'"),
        ({"losses": "[{triplet: {margn: 1}}]"}, InputError, "no setting 'margn'"),
        (
            {"losses": "[{triplet: {margin: -1}}]"},
            InputError,
            "margin of the loss 'triplet' must be at least 0",
        ),
        ({"backbone": "pixel"}, InputError, "did you mean 'pixels'"),
        ({"backbone": "{digits: pixels, oorl: pixels}"}, PlanError, "not in the study: 'oorl'"),
        (
            {"losses": "[triplet, {triplet: {margin: 0.2}}]"},
            PlanError,
            "are the same loss with the same settings; keep one",
        ),
        (
            {"losses": "[{scl: {temperature: warm}}]"},
            InputError,
            "temperature of the loss '[a-z_]+' must be a number, got 'warm'",
        ),
        ({"losses": "[{arcface: {class_count: 0}}]"}, InputError, "must be at least 1"),
    ],
)
def test_a_wrong_name_is_found_before_anything_is_written(tmp_path, quiet, changes, error, message):
    with pytest.raises(error, match=message):
        run_study(small_plan(**changes), tmp_path / "out", progress=quiet)
    assert not (tmp_path / "out").exists()


def test_a_flipped_byte_in_a_run_is_seen_and_the_run_is_done_anew(tmp_path, quiet):
    run_study(small_plan(losses="triplet"), tmp_path, progress=quiet)
    (path,) = tmp_path.glob("runs/digits_triplet*/epochs.parquet")
    good = path.read_bytes()
    path.write_bytes(good[:100] + bytes([good[100] ^ 1]) + good[101:])
    results = read_study(tmp_path).results
    assert f"{path} is damaged (its SHA-256 differs" in results.failures[0]["error"]
    assert len(results.summaries) == 1
    outcome = run_study(small_plan(losses="triplet"), tmp_path, progress=quiet)
    assert (outcome.done, outcome.reused) == (1, 1)
    assert read_study(tmp_path).results.failures == []


def test_a_folder_at_work_is_not_shared(tmp_path, quiet):
    run_study(small_plan(losses="triplet"), tmp_path, progress=quiet)
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StudyError, match="another lossgauge study is running"):
            run_study(small_plan(), tmp_path, progress=quiet)


def test_a_folder_that_cannot_be_written_is_said(tmp_path, quiet):
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match=r"cannot write to .*give another folder with --out"):
        run_study(small_plan(), tmp_path / "file" / "out", progress=quiet)


KILLED = """
import os, signal, sys
from pathlib import Path
import lossgauge.study.run.execute as run
from lossgauge.study.runner import run_study
from tests.support.studies import Quiet, small_plan
run.CHECKPOINT_SECONDS = 0
class Killed(Quiet):
    def epoch(self, run, epoch):
        if epoch == 6:
            os.kill(os.getpid(), signal.SIGKILL)

run_study(small_plan(losses="ccl", epochs=12), Path(sys.argv[1]), progress=Killed())
"""


def test_a_run_killed_with_sigkill_goes_on_to_the_same_numbers(tmp_path, quiet):
    out = tmp_path / "killed"
    process = fork_script(KILLED, out)
    assert process.wait() == -signal.SIGKILL, process.output
    assert [path.name for path in (out / "partial").glob("*ccl*/[0-9]*")] == ["5"]
    run_study(small_plan(losses="ccl", epochs=12), out, progress=quiet)
    run_study(small_plan(losses="ccl", epochs=12), tmp_path / "whole", progress=Quiet())
    killed, whole = read_study(out).results, read_study(tmp_path / "whole").results
    assert numbers(killed.epochs) == numbers(whole.epochs)
    assert numbers(killed.summaries) == numbers(whole.summaries)
    steps = [
        read_rows(next(f.glob("runs/digits_ccl*/steps.parquet"))) for f in (out, tmp_path / "whole")
    ]
    assert numbers(steps[0]) == numbers(steps[1])


def test_a_collapsed_class_stays_visible_in_a_run(tmp_path, quiet):
    run_study(small_plan(losses="triplet"), tmp_path, progress=quiet)
    rows = read_rows(next(tmp_path.glob("runs/digits_triplet*/classes.parquet")))
    assert [(row["side"], row["label"]) for row in rows] == [
        (side, digit) for side in ("train", "test") for digit in range(10)
    ]
    (summary,) = [row for row in read_study(tmp_path).results.summaries if row["loss"] == "triplet"]
    test_side = [row["intra"] for row in rows if row["side"] == "test"]
    assert summary["test_smallest_class_intra"] == min(test_side)
    assert summary["test_intra"] == pytest.approx(sum(test_side) / 10)


OWN_LOSSES = """
import torch
from dataclasses import dataclass
from sibling import SCALE

@dataclass
class Settings:
    scale: float = SCALE

class Unused(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.idle = torch.nn.Parameter(torch.ones(2))
    def forward(self, z, y):
        return -((y[:, None] == y) * (z @ z.T)).mean()

class Random(torch.nn.Module):
    def forward(self, z, y):
        keep = torch.rand(len(z)) < 0.5
        return -((y[:, None] == y) * (z @ z.T))[keep].mean()

class Positional(torch.nn.Module):
    def __init__(self, margin):
        super().__init__()

class Broken(torch.nn.Module):
    def __init__(self):
        raise RuntimeError("not today")
"""


@pytest.fixture
def own_losses(tmp_path):
    (tmp_path / "sibling.py").write_text("SCALE = 2.0\n")
    (tmp_path / "own_losses.py").write_text("from __future__ import annotations\n" + OWN_LOSSES)
    return tmp_path / "own_losses.py"


class Interrupted(Quiet):
    """Presses Ctrl-C after an epoch, once."""

    def __init__(self, after):
        super().__init__()
        self.after = after

    def epoch(self, run, epoch):
        if epoch == self.after:
            raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["Unused", "Random"])
def test_odd_losses_resume_to_the_same_numbers(tmp_path, quiet, own_losses, monkeypatch, name):
    monkeypatch.setattr("lossgauge.study.run.execute.CHECKPOINT_SECONDS", 0)
    plan = small_plan(losses=f"{own_losses}:{name}", epochs=5)
    with pytest.raises(KeyboardInterrupt):
        run_study(plan, tmp_path / "stopped", progress=Interrupted(after=4))
    assert list((tmp_path / "stopped" / "partial").glob("*/[0-9]*"))
    outcome = run_study(plan, tmp_path / "stopped", progress=quiet)
    assert outcome.failed == 0
    run_study(plan, tmp_path / "whole", progress=quiet)
    stopped, whole = (
        read_study(tmp_path / "stopped").results,
        read_study(tmp_path / "whole").results,
    )
    assert numbers(stopped.epochs) == numbers(whole.epochs)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Positional", "needs the setting 'margin'"),
        ("Broken", "cannot be created: RuntimeError: not today"),
    ],
)
def test_a_loss_of_ones_own_that_cannot_be_made_is_said_before_anything_is_written(
    tmp_path, quiet, own_losses, name, message
):
    with pytest.raises(InputError, match=message):
        run_study(small_plan(losses=f"{own_losses}:{name}"), tmp_path / "out", progress=quiet)
    assert not (tmp_path / "out").exists()


def test_a_full_disk_fails_the_run_and_keeps_its_checkpoint(tmp_path, quiet, monkeypatch):
    monkeypatch.setattr("lossgauge.study.run.execute.CHECKPOINT_SECONDS", 0)
    calls = []

    def state_of(training):
        calls.append(training.epoch)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        return training_state(training)

    monkeypatch.setattr("lossgauge.study.run.checkpoint.training_state", state_of)
    outcome = run_study(small_plan(losses="triplet", epochs=5), tmp_path, progress=quiet)
    assert outcome.failed == 1
    (run,) = read_study(tmp_path).results.failures
    assert "No space left" in run["error"]
    assert Store(tmp_path).checkpoint(run["run"]).name == "2"


def test_what_a_killed_process_was_about_to_publish_is_swept(tmp_path, quiet):
    (tmp_path / "runs" / ".new-abc").mkdir(parents=True)
    run_study(small_plan(losses="triplet"), tmp_path, progress=quiet)
    assert not list(tmp_path.rglob(".new-*"))


class Deaf(Quiet):
    """Is interrupted where the interrupt is lost, as inside a compiler's callback."""

    def start(self, run):
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_an_interrupt_that_was_lost_is_heeded_at_the_next_epoch(tmp_path, quiet):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run_study(small_plan(losses="triplet", epochs=50), tmp_path, progress=Deaf())
    assert signal.getsignal(signal.SIGINT) is before
    assert not read_status(tmp_path).failed


@pytest.mark.parametrize("sampler", ["m_per_class", "stratified", "stratified_kmeans", "drawn"])
def test_a_sampler_makes_other_runs_and_the_same_again_after_a_stop(sampler, tmp_path, quiet):
    changes = {"losses": "triplet", "sampler": sampler}
    if sampler == "m_per_class":
        changes["samples_per_class"] = 8
    for out in ("one", "two"):
        outcome = run_study(small_plan(**changes), tmp_path / out, progress=quiet)
        assert (outcome.done, outcome.failed) == (2, 0)
    one, two = (read_study(tmp_path / out).results for out in ("one", "two"))
    assert numbers(one.epochs) == numbers(two.epochs)
    run_study(small_plan(losses="triplet"), tmp_path / "random", progress=quiet)
    random = read_study(tmp_path / "random").results
    assert {row["run"] for row in one.summaries if row["loss"] == "triplet"}.isdisjoint(
        row["run"] for row in random.summaries
    )


def test_a_loss_that_leaves_by_sys_exit_fails_and_the_others_go_on(tmp_path, quiet):
    file = tmp_path / "own.py"
    file.write_text("import sys\ndef leaves(z, y):\n    sys.exit('bye')\n")
    plan = small_plan(losses=f"{file}:leaves,triplet", epochs=1)
    outcome = run_study(plan, tmp_path / "out", progress=quiet)
    assert (outcome.done, outcome.failed) == (2, 1)
    assert list(quiet.failures.values()) == ["SystemExit: bye"]


def test_a_loss_may_ask_for_the_width_and_the_number_of_classes_of_the_study(tmp_path, quiet):
    file = tmp_path / "own.py"
    file.write_text(
        "import torch\nclass Wide(torch.nn.Module):\n"
        "    def __init__(self, *, embedding_size, class_count):\n        super().__init__()\n"
        "        if embedding_size != 16 or class_count < 10: raise ValueError('too small')\n"
        "    def forward(self, z, y):\n        return -((y[:, None] == y) * (z @ z.T)).mean()\n"
    )
    plan = small_plan(losses=f"{file}:Wide", epochs=1)
    assert run_study(plan, tmp_path / "out", progress=quiet).failed == 0


def test_anchors_that_will_have_no_positive_are_told_of_before_training(tmp_path, quiet):
    run_study(small_plan(losses="triplet", epochs=1), tmp_path / "one", progress=quiet)
    assert quiet.warnings == {}
    run_study(
        small_plan(losses="triplet", epochs=1, batch_size=4), tmp_path / "two", progress=quiet
    )
    assert "no other sample of their class in their batch" in quiet.warnings["digits"]


def test_more_samples_a_class_than_there_are_is_one_clear_error_before_training(tmp_path, quiet):
    plan = small_plan(
        losses="triplet", sampler="m_per_class", samples_per_class=128, batch_size=256
    )
    words = (
        r"^digits, sampler m_per_class: batch_size 256 with samples_per_class 128 needs 2 classes per batch, "
        r"but there are 0 of at least 128 rows: "
    )
    with pytest.raises(PlanError, match=words):
        run_study(plan, tmp_path / "out", progress=quiet)
    assert not (tmp_path / "out").exists()


def test_ready_embeddings_are_a_dataset_without_a_backbone(tmp_path, quiet):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), 40)
    embeddings = (rng.normal(size=(240, 12)) + np.eye(6, 12)[labels] * 3).astype(np.float32)
    np.savez(tmp_path / "vectors.npz", z=embeddings, who=labels)
    data = f"embeddings:{tmp_path / 'vectors.npz'}"
    names = {"embeddings_name": "z", "labels_name": "who", "split": "class-disjoint"}
    plan = small_plan(losses="triplet", datasets=data, **names)
    outcome = run_study(plan, tmp_path / "out", progress=quiet)
    assert (outcome.done, outcome.failed) == (2, 0)
    assert {row["dataset"] for row in read_study(tmp_path / "out").results.summaries} == {
        "embeddings:vectors.npz"
    }


def test_two_datasets_of_one_name_are_not_mixed_up(tmp_path, quiet):
    rng = np.random.default_rng(0)
    paths = []
    for part in ("a", "b"):
        (tmp_path / part).mkdir()
        paths.append(tmp_path / part / "x.npz")
        embeddings = rng.normal(size=(40, 8)).astype(np.float32)
        np.savez(paths[-1], embeddings=embeddings, labels=np.arange(40) % 4)
    plan = small_plan(datasets=",".join(f"embeddings:{path}" for path in paths))
    with pytest.raises(PlanError, match=r"two datasets have the same name, embeddings:x\.npz"):
        run_study(plan, tmp_path / "out", progress=quiet)
    assert not (tmp_path / "out").exists()


def test_a_study_runs_in_a_thread_of_a_program_too(tmp_path):
    quiet, outcome = Quiet(), []
    study = threading.Thread(
        target=lambda: outcome.append(
            run_study(small_plan(losses="triplet"), tmp_path, progress=quiet)
        )
    )
    study.start()
    study.join()
    assert (outcome[0].done, outcome[0].failed) == (len(quiet.ended), 0)


def test_a_table_that_lacks_an_epoch_makes_a_damaged_run(tmp_path, quiet):
    run_study(small_plan(losses="triplet"), tmp_path, progress=quiet)
    name = next(name for name in quiet.ended if "triplet" in name)
    folder, store = tmp_path / "runs" / name, Store(tmp_path)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    rows = read_rows(folder / "epochs.parquet")
    assert store.damage(name) is None
    with folder_with_manifest(folder, of=name) as again:
        for file, content in files.items():
            (again / file).write_bytes(content)
        write_rows(again / "epochs.parquet", [row for row in rows if row["epoch"] != 1])
        (again / "manifest.json").unlink()
    assert f"{folder / 'epochs.parquet'} is damaged" in str(store.damage(name))

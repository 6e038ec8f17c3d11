"""A checkpoint of a run, written and read back: complete, or an error that names the damaged file."""

import pytest
import torch

from lossgauge.errors import CacheError
from lossgauge.files import read_json, write_json
from lossgauge.heads import LinearHead
from lossgauge.losses.registry import load_loss
from lossgauge.results.writer import CHECKPOINT_FILES, Store
from lossgauge.study.run.checkpoint import Checkpoints, streamed_steps
from lossgauge.study.run.run_log import RunLog
from lossgauge.training import start_training
from tests.study.run.test_run_log import step

RUN = "a-run"


def training():
    return start_training(
        seed=0,
        make_head=lambda: LinearHead(3, 2),
        make_loss=lambda: load_loss("triplet"),
        schedule=lambda time: 0.1,
    )


@pytest.fixture
def store(tmp_path):
    (tmp_path / "partial").mkdir()
    return Store(tmp_path)


@pytest.fixture
def saved(store):
    """A log of 25 steps as the second checkpoint holds it: 12 streamed by the first, then all."""
    run, log, checkpoints = training(), RunLog(), Checkpoints(store, RUN)
    head, best = run.head, "map_at_r"
    log.add_epoch({"epoch": 0}, head, selects_by=best)
    log.start_clock()
    for number in range(12):
        log.take(step(number))
    log.add_epoch({"epoch": 1, "map_at_r": 0.5}, head, selects_by=best)
    run.epoch, run.step = 1, 12
    checkpoints.save(run, log)
    torch.nn.init.constant_(head.linear.weight, 2.0)
    for number in range(12, 25):
        log.take(step(number))
    log.add_epoch({"epoch": 2, "map_at_r": 0.4}, head, selects_by=best)
    run.epoch, run.step = 2, 25
    checkpoints.save(run, log)
    return run, log, store.checkpoint(RUN)


def resumed(store):
    run, log, checkpoints = training(), RunLog(), Checkpoints(store, RUN)
    checkpoints.resume(run, log)
    return run, log, checkpoints


def test_a_run_resumes_with_the_state_and_the_rows_that_were_saved(store, saved):
    run, log, folder = saved
    assert folder.name == "2"
    assert {path.name for path in folder.iterdir()} == {*CHECKPOINT_FILES, "manifest.json"}
    assert [path.name for path in sorted(folder.parent.iterdir())] == ["2", "steps"]
    again, rows, further = resumed(store)
    assert (again.epoch, again.step) == (2, 25)
    assert again.head.linear.weight.equal(run.head.linear.weight)
    assert rows.steps == log.steps
    assert rows.epochs == [{"map_at_r": None} | row for row in log.epochs]
    assert rows.best_epoch == log.best_epoch == 1
    assert all(rows.best_head[name].equal(log.best_head[name]) for name in log.best_head)
    assert not rows.best_head["linear.weight"].equal(run.head.linear.weight)
    # and it goes on: no row is streamed twice
    rows.start_clock()
    rows.take(step(25))
    again.epoch, again.step = 3, 26
    rows.add_epoch({"epoch": 3}, again.head, selects_by=None)
    further.save(again, rows)
    assert sorted(path.name for path in streamed_steps(folder).iterdir()) == [
        "000000000.parquet",
        "000000012.parquet",
        "000000025.parquet",
    ]
    last = resumed(store)[1]
    assert [row["step"] for row in last.steps] == list(range(26))


def test_without_a_checkpoint_a_run_starts_and_step_rows_of_none_are_deleted(store):
    folder = streamed_steps(store.folder / "partial" / RUN / "1")
    folder.mkdir(parents=True)
    (folder / "000000000.parquet").write_text("of a checkpoint that was never finished")
    run, log, _ = resumed(store)
    assert (run.epoch, log.epochs, log.steps) == (0, [], [])
    assert not folder.exists()


@pytest.mark.parametrize("name", ["000000025.parquet", "000000030.parquet", "000000007.parquet"])
def test_streamed_rows_that_no_checkpoint_names_are_deleted(store, saved, name):
    _, log, folder = saved
    stream = streamed_steps(folder)
    (stream / name).write_bytes((stream / "000000012.parquet").read_bytes())
    assert resumed(store)[1].steps == log.steps
    assert not (stream / name).exists()


@pytest.mark.parametrize("name", ["000000000.parquet", "000000012.parquet"])
def test_a_flipped_bit_or_a_lost_file_of_streamed_rows_is_an_error(store, saved, name):
    path = streamed_steps(saved[-1]) / name
    content = path.read_bytes()
    for place in range(0, len(content), 97):
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        with pytest.raises(CacheError, match=rf"{name} is damaged"):
            resumed(store)
    path.unlink()
    with pytest.raises(CacheError, match=rf"{name} is damaged"):
        resumed(store)


def without_checksums(monkeypatch):
    """What the checks of content find where a manifest of the same names vouches for the files."""
    monkeypatch.setattr(Store, "check_checkpoint", lambda self, folder: None)


def test_a_checkpoint_with_rows_of_other_steps_is_an_error(store, saved, monkeypatch):
    without_checksums(monkeypatch)
    path = saved[-1] / "streamed.json"
    record = read_json(path)
    del record["parts"]["000000012.parquet"]
    write_json(path, record)
    with pytest.raises(CacheError, match="its rows are not those of 25 steps"):
        resumed(store)


def test_a_checkpoint_with_bytes_that_are_no_state_is_an_error(store, saved, monkeypatch):
    without_checksums(monkeypatch)
    folder = saved[-1]
    for name in ("state.safetensors", "probe.safetensors", "best.safetensors"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(b"short")
        with pytest.raises(CacheError, match=f"the checkpoint {folder} cannot be read"):
            resumed(store)
        (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        ({"epoch": 1, "step": 12}, "it is of epoch 1"),
        ({"epoch": 2}, "it does not count epochs and steps"),
        ({"epoch": 2, "step": True}, "it does not count epochs and steps"),
        ({"epoch": 2, "step": -1}, "it does not count epochs and steps"),
    ],
)
def test_a_checkpoint_that_does_not_count_its_epochs_is_an_error(
    store, saved, monkeypatch, progress, words
):
    without_checksums(monkeypatch)
    write_json(saved[-1] / "progress.json", progress)
    with pytest.raises(CacheError, match=words):
        resumed(store)

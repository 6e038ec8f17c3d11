import pytest
import torch
from torch import nn

from lossgauge.diagnostics.probe import Probe
from lossgauge.errors import CacheError
from lossgauge.files import read_json, write_json
from lossgauge.study.run import run_log
from lossgauge.study.run.run_log import STREAM, RunLog
from lossgauge.types import Evaluation, Step


def step(number: int) -> Step:
    embeddings = torch.full((4, 2), 0.5)
    embeddings.grad = torch.full((4, 2), float(number + 1))
    return Step(
        number=number,
        epoch=1,
        evaluation=Evaluation(value=torch.tensor(1.0)),
        embeddings=embeddings,
        head_parameters=(),
        loss_parameters=(),
    )


def test_times_of_steps_are_those_of_the_clock(monkeypatch):
    clock = iter([10.0, 10.5, 10.6, 12.0, 12.3, 20.0, 20.25])
    monkeypatch.setattr(run_log.time, "perf_counter", lambda: next(clock))
    log = RunLog(Probe())
    log.start_clock()  # 10.0
    log.take(step(0))  # the probe from 10.5 to 10.6
    log.take(step(1))  # from 12.0 to 12.3
    log.stop_clock()  # the probe works off what it kept from 20.0 to 20.25
    assert [row["probe_milliseconds"] for row in log.times] == pytest.approx([100, 300 + 250])
    assert [row["step_milliseconds"] for row in log.times] == pytest.approx([600, 1700 + 250])


@pytest.fixture
def saved(tmp_path):
    """A log of 25 steps as a checkpoint holds it: 12 streamed, then all."""
    log = RunLog(Probe())
    log.epochs = [{"epoch": 0}, {"epoch": 1, "map_at_r": 0.5}]
    log.start_clock()
    for number in range(12):
        log.take(step(number))
    (tmp_path / "1").mkdir()
    log.save(tmp_path / "1")
    for number in range(12, 25):
        log.take(step(number))
    log.keep_if_best(
        nn.Linear(2, 2),
        {"selection": "oracle", "selection_metric": "map_at_r", "measured_on": "test"},
    )
    (tmp_path / "2").mkdir()
    log.save(tmp_path / "2")
    return log, tmp_path / "2"


def loaded(folder) -> RunLog:
    log = RunLog(Probe())
    log.load(folder, epoch=1, step_count=25)
    return log


def test_a_log_is_taken_up_as_it_was_put_down(saved):
    log, folder = saved
    again = loaded(folder)
    assert again.steps == log.steps
    assert again.epochs == [{"map_at_r": None} | row for row in log.epochs]
    assert again.best_epoch == log.best_epoch == 1
    assert all(again.best_head[name].equal(log.best_head[name]) for name in log.best_head)
    assert again.streamed == log.streamed == 25
    # and it goes on: nothing is streamed twice
    for one in (log, again):
        one.start_clock()
        one.take(step(25))
    again.save(folder)
    assert sorted(p.name for p in (folder.parent / STREAM).iterdir()) == [
        "000000000.parquet",
        "000000012.parquet",
        "000000025.parquet",
    ]
    assert [row["step"] for row in again.steps] == list(range(26))


@pytest.mark.parametrize("name", ["000000025.parquet", "000000030.parquet", "000000007.parquet"])
def test_streamed_rows_that_no_checkpoint_knows_are_dropped(saved, name):
    log, folder = saved
    stream = folder.parent / STREAM
    (stream / name).write_bytes((stream / "000000012.parquet").read_bytes())
    assert loaded(folder).steps == log.steps
    assert not (stream / name).exists()


@pytest.mark.parametrize("name", ["000000000.parquet", "000000012.parquet"])
def test_a_flipped_bit_or_a_lost_file_of_streamed_rows_is_told(saved, name):
    _, folder = saved
    path = folder.parent / STREAM / name
    content = path.read_bytes()
    for place in range(0, len(content), 97):
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        with pytest.raises(CacheError, match=rf"{name} is damaged"):
            loaded(folder)
    path.unlink()
    with pytest.raises(CacheError, match=rf"{name} is damaged"):
        loaded(folder)


def test_a_checkpoint_of_other_steps_is_told(saved):
    _, folder = saved
    record = read_json(folder / "streamed.json")
    del record["parts"]["000000012.parquet"]
    write_json(folder / "streamed.json", record)
    with pytest.raises(CacheError, match="its rows are not those of 25 steps"):
        loaded(folder)

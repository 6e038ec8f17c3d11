import pytest
import torch
from torch import nn

from lossgauge.study.run import run_log
from lossgauge.study.run.run_log import RunLog
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
    log = RunLog()
    log.start_clock()  # 10.0
    log.take(step(0))  # the probe from 10.5 to 10.6
    log.take(step(1))  # from 12.0 to 12.3
    log.stop_clock()  # the probe computes what it has put off, from 20.0 to 20.25
    assert [row["probe_milliseconds"] for row in log.steps] == pytest.approx([100, 300 + 250])
    assert [row["step_milliseconds"] for row in log.steps] == pytest.approx([600, 1700 + 250])


def test_rows_of_steps_are_final_once_the_probe_has_its_start():
    log = RunLog()
    log.start_clock()
    for number in range(12):
        log.take(step(number))
        before = log.steps[: log.final_steps]
        assert log.final_steps in (0, number + 1)
    assert log.final_steps == 12
    log.take(step(12))
    assert log.steps[:12] == before


def test_the_head_of_the_best_epoch_is_kept_and_the_earlier_of_equals():
    log, head = RunLog(), nn.Linear(1, 1)
    for epoch, value in enumerate([0.9, 0.2, None, 0.5, 0.5, 0.4]):
        nn.init.constant_(head.weight, epoch)
        log.add_epoch({"epoch": epoch, "map_at_r": value}, head, selects_by="map_at_r")
    assert log.best_epoch == 3
    assert log.best_head["weight"].item() == 3
    log = RunLog()
    log.add_epoch({"epoch": 1, "map_at_r": 0.9}, head, selects_by=None)
    assert (log.best_epoch, log.best_head) == (0, {})

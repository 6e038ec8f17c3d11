"""A study with a limit of minutes: what is started is decided by a clock of the test, not by how fast this machine is."""

from __future__ import annotations

import math
import shutil
from types import SimpleNamespace

import pytest

from lossgauge.errors import InputError
from lossgauge.results.layout import Layout
from lossgauge.study.runner import run_study
from lossgauge.study.sentences import outcome_line
from lossgauge.study.status import read_status
from lossgauge.study.time_limit import TimeLimit
from tests.support.command_line import assert_refused, run_cli
from tests.support.studies import Quiet, small_plan


class Clock:
    """Stands still unless it is moved."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def run_of(loss: str, *, dataset: str = "digits", epochs: int = 10, rows: int = 100, seed: int = 0):
    config = SimpleNamespace(dataset=dataset, loss=loss, epochs=epochs, train_samples=rows)
    return SimpleNamespace(name=f"{dataset}_{loss}_{seed}_{epochs}", config=config, loss=loss)


def do(limit: TimeLimit, clock: Clock, run, seconds: float) -> None:
    limit.start(run)
    clock.now += seconds
    limit.end(run)


def test_a_run_is_started_if_one_like_it_would_have_ended_in_time():
    clock = Clock()
    limit = TimeLimit(1, clock=clock)
    assert limit.allows(run_of("triplet"))  # nothing is known
    do(limit, clock, run_of("triplet"), 20)
    assert limit.allows(run_of("triplet", seed=1))
    clock.now += 20  # 20 seconds are left
    assert limit.allows(run_of("triplet", seed=1))
    assert not limit.allows(run_of("triplet", epochs=11))
    clock.now += 0.1
    assert not limit.allows(run_of("triplet", seed=1))
    assert limit.allows(run_of("triplet", epochs=9))
    clock.now += 20
    assert not limit.allows(run_of("untrained", epochs=0))


def test_of_other_losses_the_slowest_on_the_dataset_counts():
    clock = Clock()
    limit = TimeLimit(10, clock=clock)
    do(limit, clock, run_of("triplet"), 20)
    do(limit, clock, run_of("scl"), 30)
    do(
        limit, clock, run_of("scl", dataset="faces", rows=50), 100
    )  # 0.2 seconds for each pass over a row
    do(limit, clock, run_of("untrained", epochs=0), 50)
    clock.now = 1_600 - 30
    assert limit.allows(run_of("ccl"))
    assert not limit.allows(run_of("untrained", epochs=0, seed=1))
    assert not limit.allows(run_of("ccl", dataset="letters", rows=20))  # the slowest of all
    assert limit.allows(run_of("ccl", dataset="letters", rows=15))
    clock.now += 1
    assert not limit.allows(run_of("ccl"))


def test_imports_and_features_count_and_no_limit_is_no_limit():
    clock = Clock()
    limit = TimeLimit(1, began=clock.now - 61, clock=clock)
    assert not limit.allows(run_of("triplet"))
    limit = TimeLimit(None, clock=clock)
    do(limit, clock, run_of("triplet"), 1e9)
    assert limit.allows(run_of("triplet"))


@pytest.mark.parametrize("minutes", [0, -1, math.nan, math.inf, 2e6])
def test_minutes_that_are_none_are_refused(minutes):
    with pytest.raises(InputError, match=r"minutes must be above 0 and at most 1,000,000, got"):
        TimeLimit(minutes)
    assert_refused(
        run_cli("study", "demo", "--minutes", minutes, "--out", "none"), "minutes must be above 0"
    )


def test_the_same_call_does_what_a_limit_left_out(finished_small_study, monkeypatch):
    folder = finished_small_study
    monkeypatch.setenv("LOSSGAUGE_CACHE", str(folder / "cache"))
    (left,) = Layout(folder).runs.glob("digits_ccl*")
    shutil.rmtree(left)
    clock = Clock()
    over = TimeLimit(1, began=clock.now - 60, clock=clock)
    outcome = run_study(small_plan(), folder, progress=Quiet(), limit=over)
    assert (outcome.done, outcome.reused, outcome.failed, outcome.not_started) == (0, 2, 0, 1)
    assert outcome_line(outcome, 1) == (
        "0 runs done, 2 reused, 0 failed, 1 not started, because it would end after 1 minute; to continue, run the same "
        "command again"
    )
    status = read_status(folder)
    assert (len(status.done), status.waiting, status.at_work) == (2, [left.name], False)
    again = run_study(small_plan(), folder, progress=Quiet(), limit=TimeLimit(60))
    assert (again.done, again.reused, again.not_started) == (1, 2, 0)
    log = Layout(folder).log.read_text().splitlines()
    assert sum("study started: lossgauge 0.1.0" in line for line in log) == 3
    assert [line.split("  ", 1)[1] for line in log if "study ended" in line] == [
        "study ended: 3 runs done, 0 reused, 0 failed",
        "study ended: 0 runs done, 2 reused, 0 failed, 1 not started",
        "study ended: 1 run done, 2 reused, 0 failed",
    ]
    assert sum(f"started {left.name}" in line for line in log) == 2


def test_trials_that_a_search_has_not_asked_for_are_counted_too(tmp_path, small_study, monkeypatch):
    monkeypatch.setenv("LOSSGAUGE_CACHE", str(small_study.parent / "cache"))
    over = TimeLimit(1, began=Clock.now - 60, clock=Clock())
    plan = small_plan(tune="{trials: 7, epochs: 1}")
    outcome = run_study(plan, tmp_path / "study", progress=Quiet(), limit=over)
    # untrained and two losses; for each loss seven trials and its tuned form
    assert (outcome.done, outcome.not_started) == (0, 1 + 2 + 2 * (7 + 1))


def test_a_dry_run_takes_no_minutes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wrong = run_cli("study", "demo", "--dry-run", "--minutes", 5)
    assert_refused(wrong, "--minutes has no effect with --dry-run")

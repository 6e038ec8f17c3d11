"""Processes beside the study: equal numbers, and what becomes of one that dies. Real processes, real signals."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lossgauge.errors import InputError, MissingExtra, StudyError
from lossgauge.study.disk import read_rows
from lossgauge.study.engines import Workforce
from lossgauge.study.launch import run_study
from lossgauge.study.status import read_status
from lossgauge.study.store import TIMING, Store
from tests.study.conftest import Quiet, small_plan
from tests.waiting import PATIENCE, wait_for

OWN = """
import os, signal, sys
import torch

class Loud(torch.nn.Module):
    def forward(self, z, y):
        print('{"ended": true, "error": null, "summary": {}}', flush=True)
        sys.stdout.write("no line end")
        return -((y[:, None] == y) * (z @ z.T)).mean()

class Deadly(torch.nn.Module):
    def forward(self, z, y):
        os.kill(os.getpid(), signal.SIGKILL)

class Once(torch.nn.Module):
    def forward(self, z, y):
        try:
            os.close(os.open("died", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return -((y[:, None] == y) * (z @ z.T)).mean()
        os.kill(os.getpid(), signal.SIGKILL)

class Crash(torch.nn.Module):
    def forward(self, z, y):
        import ctypes
        ctypes.string_at(0)

class Slow(torch.nn.Module):
    def forward(self, z, y):
        import time
        time.sleep(0.01)
        return -((y[:, None] == y) * (z @ z.T)).mean()
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path


def numbers(folder: Path) -> dict[str, object]:
    """All that a study came to, without what the clock wrote."""
    results = Store(folder).load()
    rows = {
        name: [{k: v for k, v in row.items() if k not in TIMING} for row in getattr(results, name)]
        for name in ("summaries", "epochs", "sensitivity", "trials", "tuned", "failures")
    }
    steps = {
        row["run"]: [
            {k: v for k, v in step.items() if k not in TIMING}
            for step in read_rows(folder / "runs" / row["run"] / "steps.parquet")
        ]
        for row in rows["summaries"]
    }
    return {**rows, "steps": steps}


def test_two_jobs_come_to_the_numbers_of_one_and_leave_nobody_behind(tmp_path, quiet):
    plan = small_plan(tune="{trials: 6, epochs: 1}", sensitivity="2")
    one = run_study(plan, tmp_path / "one", progress=quiet)
    told = Quiet()
    two = run_study(plan, tmp_path / "two", progress=told, workforce=Workforce(jobs=2))
    assert one == two
    assert numbers(tmp_path / "one") == numbers(tmp_path / "two")
    assert sorted(told.ended) == sorted(quiet.ended)
    assert not list((tmp_path / "two" / "partial").iterdir())
    assert not (tmp_path / "two" / ".work").exists()
    environments = [
        json.loads(path.read_text()) for path in tmp_path.glob("*/runs/*/environment.json")
    ]
    assert len({record["threads"] for record in environments}) == 1
    again = run_study(plan, tmp_path / "two", progress=Quiet(), workforce=Workforce(jobs=2))
    assert (again.done, again.reused) == (0, two.done)


def test_what_a_loss_prints_does_not_come_between(own, quiet):
    outcome = run_study(
        small_plan(losses="own.py:Loud"), own / "out", progress=quiet, workforce=Workforce(jobs=2)
    )
    assert (outcome.done, outcome.failed) == (2, 0)


def test_a_run_whose_worker_was_killed_is_done_by_another(own, quiet):
    outcome = run_study(
        small_plan(losses="own.py:Once"), own / "out", progress=quiet, workforce=Workforce(jobs=2)
    )
    assert (own / "died").exists()
    assert (outcome.done, outcome.failed) == (2, 0)


@pytest.mark.parametrize(
    ("loss", "cause", "trace"),
    [("Deadly", "SIGKILL", ""), ("Crash", "SIGSEGV", "own.py")],
)
def test_a_run_that_kills_its_workers_is_given_up_with_what_they_left(
    own, quiet, loss, cause, trace
):
    plan = small_plan(losses=f"own.py:{loss},triplet")
    outcome = run_study(plan, own / "out", progress=quiet, workforce=Workforce(jobs=2))
    assert (outcome.done, outcome.failed) == (2, 1)
    (failure,) = Store(own / "out").load().failures
    assert failure["error"] == f"its worker was ended by {cause} 3 times in the same place"
    assert trace in failure["traceback"]
    assert failure["error"] in read_status(own / "out").failed.values()


STUDY = """
import sys
from pathlib import Path
import lossgauge.study.run as run
from lossgauge.study.engines import Workforce
from lossgauge.study.launch import run_study
from tests.study.conftest import Quiet, small_plan
run_study(small_plan(losses="own.py:Slow", epochs=4000, seeds=2), Path("out"), progress=Quiet(), workforce=Workforce(jobs=2))
"""


def workers_of(folder: Path) -> list[int]:
    """Processes that are workers of the study in a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"lossgauge.study.engines.worker" in words and str(folder).encode() in words:
            found.append(int(entry.name))
    return found


@pytest.fixture
def at_work(own):
    """A study with two workers in the middle of its runs."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-c", STUDY],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    running = own / "out" / ".work" / "running.json"
    wait_for(
        lambda: running.is_file() and len(read_status(Path("out")).running) == 2, process=process
    )
    yield process
    process.kill()
    process.communicate()


def test_workers_end_with_their_study_whatever_ends_it(at_work):
    # a run is said to have started before its worker's process has the worker's name
    wait_for(lambda: len(workers_of(Path("out"))) == 2, process=at_work)
    at_work.send_signal(signal.SIGKILL)
    at_work.wait()
    wait_for(lambda: not workers_of(Path("out")))


def test_a_second_study_on_the_folder_is_told_and_the_status_can_be_asked_meanwhile(at_work, quiet):
    status = read_status(Path("out"))
    assert status.at_work
    assert status.expected == 4
    with pytest.raises(StudyError, match="another lossgauge study is at work in out"):
        run_study(small_plan(), Path("out"), progress=quiet)
    wait_for(lambda: read_status(Path("out")).seconds_left, process=at_work)


def test_an_interrupt_ends_the_workers_and_what_is_done_stays(at_work, quiet):
    wait_for(lambda: list(Path("out/runs").glob("*untrained*")), process=at_work)
    at_work.send_signal(signal.SIGINT)
    at_work.wait(timeout=PATIENCE)
    assert not workers_of(Path("out"))
    assert not Store(Path("out")).is_held()
    assert not list(Path("out").rglob(".new-*"))


def test_an_unknown_engine_or_no_job_is_refused_before_anything_is_written(tmp_path, quiet):
    with pytest.raises(InputError, match="unknown engine 'rai'; did you mean 'ray'"):
        run_study(small_plan(), tmp_path / "out", progress=quiet, workforce=Workforce("rai"))
    with pytest.raises(InputError, match="jobs must be at least 1, got 0"):
        run_study(small_plan(), tmp_path / "out", progress=quiet, workforce=Workforce(jobs=0))
    assert not (tmp_path / "out").exists()


def test_an_engine_that_is_not_installed_names_the_pip_install(tmp_path, quiet, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"pip install 'lossgauge\[ray\]'"):
        run_study(small_plan(), tmp_path / "out", progress=quiet, workforce=Workforce("ray"))
    assert not (tmp_path / "out").exists()

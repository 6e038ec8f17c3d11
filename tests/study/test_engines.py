"""Processes beside the study: equal numbers, and what becomes of one that dies. Real processes, real signals."""

import json
import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lossgauge.errors import InputError, MissingExtra, StudyError
from lossgauge.files import read_rows
from lossgauge.results.columns import CLOCK_COLUMNS
from lossgauge.results.reader import read_study
from lossgauge.results.writer import Store
from lossgauge.study.engines import (
    ENGINES,
    Engine,
    Resources,
    Setup,
    check_resources,
    engine_class,
)
from lossgauge.study.engines.base import TRIES
from lossgauge.study.engines.processes import Processes
from lossgauge.study.runner import run_study
from lossgauge.study.schedule.runs import plan_runs
from lossgauge.study.status import read_status
from lossgauge.worker_process import exit_cause
from tests.study.schedule.test_runs import plan
from tests.support.forking import ForkedProcess, fork_script
from tests.support.studies import Quiet, fake_features, small_plan
from tests.support.waiting import PATIENCE, wait_for

OWN = """
import os, signal, sys
import torch

class Loud(torch.nn.Module):
    def forward(self, z, y):
        print('{"ended": true, "error": null, "summary": {}}', flush=True)
        sys.stdout.write("no line end")
        return -((y[:, None] == y) * (z @ z.T)).mean()

class Deadly(torch.nn.Module):
    "Leaves a process behind that holds the worker's end of the pipe."
    def forward(self, z, y):
        import time
        if os.fork() == 0:
            while os.path.exists("stay"):
                time.sleep(0.05)
            os._exit(0)
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
        for number in range(100):
            print("line", number, flush=True)
        ctypes.string_at(0)

class Tires(torch.nn.Module):
    "Dies in its second epoch, of whatever process it is in."
    def __init__(self):
        super().__init__()
        self.batches = 0

    def forward(self, z, y):
        self.batches += 1
        if self.batches > 20:
            os.kill(os.getpid(), signal.SIGKILL)
        return -((y[:, None] == y) * (z @ z.T)).mean()

class Published(torch.nn.Module):
    "Dies once its run is in its place, before anybody is told."
    def forward(self, z, y):
        from lossgauge.results.writer import Store
        publish = Store.publish
        def publish_and_die(*given, **more):
            publish(*given, **more)
            os.kill(os.getpid(), signal.SIGKILL)
        Store.publish = publish_and_die
        with open("batches", "a") as file:
            file.write("x")
        return -((y[:, None] == y) * (z @ z.T)).mean()

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
    results = read_study(folder).results
    rows = {
        name: [
            {k: v for k, v in row.items() if k not in CLOCK_COLUMNS}
            for row in getattr(results, name)
        ]
        for name in ("summaries", "epochs", "sensitivity", "trials", "tuned", "failures")
    }
    steps = {
        row["run"]: [
            {k: v for k, v in step.items() if k not in CLOCK_COLUMNS}
            for step in read_rows(folder / "runs" / row["run"] / "steps.parquet")
        ]
        for row in rows["summaries"]
    }
    return {**rows, "steps": steps}


def test_two_jobs_come_to_the_numbers_of_one_and_leave_nobody_behind(tmp_path, quiet):
    plan = small_plan(tune="{trials: 6, epochs: 1}", sensitivity="2")
    one = run_study(plan, tmp_path / "one", progress=quiet)
    told = Quiet()
    two = run_study(plan, tmp_path / "two", progress=told, resources=Resources(jobs=2))
    assert one == two
    assert numbers(tmp_path / "one") == numbers(tmp_path / "two")
    assert sorted(told.ended) == sorted(quiet.ended)
    assert not list((tmp_path / "two" / "partial").iterdir())
    assert not (tmp_path / "two" / ".work").exists()
    environments = [
        json.loads(path.read_text()) for path in tmp_path.glob("*/runs/*/environment.json")
    ]
    assert len({record["threads"] for record in environments}) == 1
    again = run_study(plan, tmp_path / "two", progress=Quiet(), resources=Resources(jobs=2))
    assert (again.done, again.reused) == (0, two.done)


ONE_CORE = """
import os
from pathlib import Path
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from lossgauge import startup
startup.end_quickly()
with startup.imports():
    import torch
    from lossgauge.study.job_count import default_jobs
    from lossgauge.study.engines import Resources
    from lossgauge.study.runner import run_study
    from tests.support.studies import Quiet, small_plan
assert default_jobs(Resources()) == 1
run_study(small_plan(), Path("one-core"), progress=Quiet())
"""


@pytest.mark.slow
def test_a_study_on_one_core_comes_to_the_same_numbers(tmp_path, small_study, monkeypatch):
    """The child has no thread counts in its environment, as a user has none."""
    monkeypatch.chdir(tmp_path)
    environment = {name: v for name, v in os.environ.items() if not name.endswith("NUM_THREADS")}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    subprocess.run([sys.executable, "-c", ONE_CORE], env=environment, check=True)
    assert numbers(Path("one-core")) == numbers(small_study)


@pytest.mark.usefixtures("forked_workers")
def test_what_a_loss_prints_and_a_worker_that_is_killed_cost_no_run(own, quiet):
    """A killed worker's run is done by another, unless it is already in its place."""
    plan = small_plan(losses="own.py:Loud,own.py:Once,own.py:Published", epochs=1)
    outcome = run_study(plan, own / "out", progress=quiet, resources=Resources(jobs=2))
    assert (own / "died").exists()
    assert (outcome.done, outcome.failed) == (4, 0)
    assert len((own / "batches").read_text()) == 14  # once


@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize(
    ("loss", "cause", "trace", "tries"),
    [("Deadly", "SIGKILL", "", TRIES), ("Crash", "SIGSEGV", "own.py", 1)],
)
def test_a_run_that_kills_its_workers_is_given_up_with_what_they_left(
    own, quiet, monkeypatch, loss, cause, trace, tries
):
    monkeypatch.setattr("lossgauge.study.engines.processes.TRIES", tries)
    monkeypatch.setattr("lossgauge.study.engines.processes.SILENT_SECONDS", 0.1)
    plan = small_plan(losses=f"own.py:{loss},triplet")
    (own / "stay").touch()
    try:
        outcome = run_study(plan, own / "out", progress=quiet, resources=Resources(jobs=2))
    finally:
        (own / "stay").unlink()
    assert (outcome.done, outcome.failed) == (2, 1)
    (failure,) = read_study(own / "out").results.failures
    assert failure["error"] == f"its worker was ended by {cause} {tries} times in the same place"
    assert trace in failure["traceback"]
    if trace:  # the last lines of a long log
        assert "line 99" in failure["traceback"]
        assert "line 9\n" not in failure["traceback"]
    assert failure["error"] in read_status(own / "out").failed.values()


@pytest.mark.usefixtures("forked_workers")
def test_a_run_that_gets_further_between_two_deaths_is_not_given_up(own, quiet, monkeypatch):
    monkeypatch.setenv("LOSSGAUGE_CHECKPOINT_SECONDS", "0")
    monkeypatch.setattr("lossgauge.study.engines.processes.TRIES", 2)
    # dies twice: in batch 21, and 20 batches after it went on from the first of its epochs of 14 batches
    plan = small_plan(losses="own.py:Tires", epochs=3)
    outcome = run_study(plan, own / "out", progress=quiet, resources=Resources(jobs=2))
    assert (outcome.done, outcome.failed) == (2, 0)
    (run,) = (own / "out" / "runs").glob("*Tires*")
    assert [row["epoch"] for row in read_rows(run / "epochs.parquet")] == [0, 1, 2, 3]


def test_what_ended_a_worker_is_told_by_its_signal_or_its_exit_code():
    assert [exit_cause(code) for code in (0, 3, -9, -63)] == [
        "exit code 0",
        "exit code 3",
        "SIGKILL",
        "signal 63",
    ]


@pytest.mark.parametrize(
    ("cpus", "in_environment", "threads"),
    [(None, None, "1"), (None, "7", "1"), (2.0, "7", "2"), (0.5, None, "1")],
)
def test_a_worker_has_one_thread_or_those_that_were_asked_for(
    tmp_path, monkeypatch, cpus, in_environment, threads
):
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    for name in names:
        monkeypatch.delenv(name, raising=False)
        if in_environment is not None:
            monkeypatch.setenv(name, in_environment)
    given = {}
    popen = subprocess.Popen

    def start(command, *, env, **more):
        given.update(env)
        return popen(["cat"], env=env, **more)

    monkeypatch.setattr("lossgauge.worker_process.subprocess.Popen", start)
    store = Store(tmp_path)
    store.work.mkdir()
    features = fake_features()
    run = plan_runs(plan(), features)[0]
    setup = Setup(Resources(jobs=3, cpus=cpus), {"fake": features}, store, lambda run, epoch: None)
    with Processes(setup) as engine:
        engine.start(run)
    assert [given[name] for name in names] == [threads, threads]


@pytest.mark.parametrize(("cpus", "threads"), [(3.0, 3), (0.5, 1), (None, 1)])
def test_a_study_in_this_process_has_one_thread_or_those_that_were_asked_for(
    tmp_path, quiet, cpus, threads
):
    before = torch.get_num_threads()
    seen = []
    quiet.start = lambda run: seen.append(torch.get_num_threads())
    plan = small_plan(losses="triplet", epochs=1)
    run_study(plan, tmp_path, progress=quiet, resources=Resources(jobs=1, cpus=cpus))
    assert set(seen) == {threads}
    assert torch.get_num_threads() == before


STUDY = """
from pathlib import Path
from lossgauge.study.engines import Resources
from lossgauge.study.runner import run_study
from tests.support.forking import fork_workers
from tests.support.studies import Quiet, small_plan
fork_workers()
run_study(small_plan(losses="own.py:Slow", epochs=4000, seeds=2), Path("out"), progress=Quiet(), resources=Resources(jobs=2))
"""


def workers_of(study: ForkedProcess) -> list[int]:
    """Processes in the folder of this test, other than the study's and this one."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            here = Path.cwd() == (entry / "cwd").readlink()
        except OSError:
            continue
        if here and entry.name.isdecimal() and int(entry.name) not in (study.pid, os.getpid()):
            found.append(int(entry.name))
    return found


@pytest.fixture
def at_work(own):
    """A study with two workers in the middle of its runs."""
    process = fork_script(STUDY)
    running = own / "out" / ".work" / "running.json"
    try:
        wait_for(
            lambda: running.is_file() and len(read_status(Path("out")).running) == 2,
            process=process,
        )
        # a run is said to have started before its worker is in this folder
        wait_for(lambda: len(workers_of(process)) == 2, process=process)
        yield process
    finally:
        process.kill()
        process.wait()


def test_workers_end_with_a_study_that_is_killed(at_work):
    at_work.send_signal(signal.SIGKILL)
    at_work.wait()
    wait_for(lambda: not workers_of(at_work))


def test_a_study_at_work_is_not_disturbed_until_it_is_interrupted(at_work, quiet):
    """One study in the steps below, because its three processes take seconds to start."""
    is_told_to_others(at_work, quiet)
    goes_on_after_an_interrupt_of_its_workers(at_work)
    wait_for(lambda: list(Path("out/runs").glob("*untrained*")), process=at_work)
    at_work.send_signal(signal.SIGINT)
    at_work.wait(timeout=PATIENCE)
    assert not workers_of(at_work)
    assert not Store(Path("out")).is_locked()
    assert not list(Path("out").rglob(".new-*"))
    assert list(Path("out/runs").glob("*untrained*"))


def is_told_to_others(at_work, quiet):
    status = read_status(Path("out"))
    assert status.at_work
    assert status.expected == 4
    with pytest.raises(StudyError, match="another lossgauge study is running in out"):
        run_study(small_plan(), Path("out"), progress=quiet)
    wait_for(lambda: read_status(Path("out")).seconds_left, process=at_work)


def goes_on_after_an_interrupt_of_its_workers(at_work):
    """Ctrl-C in a terminal reaches the workers too: the study answers it, not they."""

    def reached() -> dict[str, int]:
        return {run: epoch for run, (epoch, _) in read_status(Path("out")).running.items()}

    wait_for(lambda: sum(epoch > 0 for epoch in reached().values()) == 2, process=at_work)
    before, workers = reached(), set(workers_of(at_work))
    for worker in workers:
        os.kill(worker, signal.SIGINT)
    wait_for(
        lambda: all(reached().get(run, 0) > epoch + 1 for run, epoch in before.items()),
        process=at_work,
    )
    assert set(workers_of(at_work)) == workers


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        (Resources(cpus=0.0), "cpus of a run must be at least 0.01 and finite, got 0"),
        (Resources(cpus=1e300), "cpus of a run must be at most 10,000, got 1e+300"),
        (Resources(cpus=math.inf), "cpus of a run must be at least 0.01 and finite, got inf"),
        (Resources(cpus=math.nan), "cpus of a run must be at least 0.01 and finite, got nan"),
        (Resources(gpus=1.5), "gpus of a run must be from 0 to 1, or a whole number, got 1.5"),
        (Resources(gpus=-1.0), "gpus of a run must be from 0 to 1, or a whole number, got -1"),
        (Resources(gpus=math.inf), "gpus of a run must be from 0 to 1, or a whole number, got inf"),
        (Resources(gpus=2.0), "gpus has an effect only with engine ray, got gpus 2"),
        (Resources(device="tpu"), "device must be cpu or cuda, got 'tpu'"),
    ],
)
def test_a_workforce_that_cannot_be_is_refused_with_the_rule(resources, message):
    with pytest.raises(InputError, match=re.escape(message)):
        check_resources(resources)


def test_every_engine_of_the_registry_is_one():
    for name in ENGINES:
        assert issubclass(engine_class(name), Engine)


def test_an_unknown_engine_or_no_job_is_refused_before_anything_is_written(tmp_path, quiet):
    with pytest.raises(InputError, match=r"unknown engine 'rai' \(did you mean 'ray'"):
        run_study(small_plan(), tmp_path / "out", progress=quiet, resources=Resources("rai"))
    with pytest.raises(InputError, match="jobs must be at least 1, got 0"):
        run_study(small_plan(), tmp_path / "out", progress=quiet, resources=Resources(jobs=0))
    assert not (tmp_path / "out").exists()


def test_an_engine_that_is_not_installed_names_the_pip_install(tmp_path, quiet, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"pip install 'lossgauge\[ray\]'"):
        run_study(small_plan(), tmp_path / "out", progress=quiet, resources=Resources("ray"))
    assert not (tmp_path / "out").exists()

"""SIGINT and SIGTERM at any moment: one line, the exit code of the signal, soon, and no traceback."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.command_line import run_cli
from tests.support.waiting import PATIENCE, wait_for

BOUND = 60.0
"""Seconds until a stopped process must have ended, on a machine that is busy with other things."""

STUDY = """
datasets: [digits]
backbone: pixels
losses: [triplet, ccl]
seeds: 2
epochs: 300
batch_size: 64
learning_rate: 0.001
embedding_size: 16
"""
LINE = re.compile(
    r"lossgauge: stopped( before anything was done; run the same command again"
    r"|\. To start again, run the same command: lossgauge .*"
    r"|; .*\. To continue, run the same command: lossgauge .*)"
)
BOTH = (signal.SIGINT, signal.SIGTERM)


class Stopped(NamedTuple):
    """A command that got a signal."""

    code: int
    seconds: float
    """From the signal to its end."""
    errors: list[str]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOSSGAUGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    Path("small.yaml").write_text(STUDY)
    return tmp_path


def start(*arguments: str, ignored: bool = False) -> subprocess.Popen[str]:
    """A command whose handlers are set: from here on, the signals are its own.

    Where Ctrl-C is `ignored`, it was started as by a script with `&`.
    """
    in_background = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"] if ignored else []
    process = subprocess.Popen(
        [*in_background, sys.executable, "-m", "lossgauge", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: process.poll() is not None or handles_signals(process.pid))
    return process


def handles_signals(pid: int) -> bool:
    """Whether a process catches SIGTERM, the last of the two to be set. Python itself leaves it alone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = re.search(r"SigCgt:\s*(\w+)", status)
    return caught is not None and bool(int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


def stop(
    process: subprocess.Popen[str], number: int, after: float = 0.0, *, group: bool = False
) -> Stopped:
    """Send a signal so many seconds from now, to the whole group as a terminal does, or to the process alone."""
    try:
        process.wait(timeout=after)
    except subprocess.TimeoutExpired:
        (os.killpg if group else os.kill)(process.pid, number)
    sent = time.monotonic()
    _, errors = process.communicate(timeout=PATIENCE)
    return Stopped(process.returncode, time.monotonic() - sent, errors.splitlines())


def assert_one_line(stopped: Stopped, number: int) -> None:
    lines = [line for line in stopped.errors if line and not is_progress(line)]
    assert stopped.code == 128 + number, stopped
    assert len(lines) == 1, stopped
    assert LINE.fullmatch(lines[0]), stopped
    assert stopped.seconds < BOUND


def is_progress(line: str) -> bool:
    return re.match(r"\[\d+/\d+\] |\d+ runs?, |features of ", line) is not None


def test_signals_are_handled_before_anything_else_is_imported():
    code = """
import os, sys, signal
loaded = []
original = signal.signal
signal.signal = lambda *given: (loaded.append(sorted(sys.modules)), original(*given))[1]
before = set(sys.modules)
sys.argv = ["lossgauge", "--version"]
from lossgauge.__main__ import main
try:
    main()
except SystemExit:
    pass
import json
print(json.dumps(sorted(set(loaded[0]) - before)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = json.loads(done.stdout.splitlines()[-1])
    assert {name for name in imported if name.startswith("lossgauge")} == {
        "lossgauge",
        "lossgauge.__main__",
        "lossgauge.stopping",
    }
    assert {name for name in imported if not name.startswith("lossgauge")} <= {"__future__"}


@pytest.mark.process
@pytest.mark.parametrize("number", BOTH)
@pytest.mark.parametrize("after", [0.0, 0.05, 0.4, 1.5])
def test_a_study_ends_with_one_line_from_its_first_moment_on(place: Path, number, after):
    assert_one_line(
        stop(start("study", "small.yaml", "--set", "epochs=9000"), number, after), number
    )


@pytest.mark.process
@pytest.mark.parametrize("arguments", [["--version"], ["losses"], ["cache", "ls"]])
def test_a_short_command_ends_with_one_line_too(place: Path, arguments):
    process = start(*arguments)
    os.kill(process.pid, signal.SIGSTOP)  # so that it cannot have ended before the signal comes
    os.kill(process.pid, signal.SIGTERM)
    os.kill(process.pid, signal.SIGCONT)
    assert_one_line(stop(process, signal.SIGTERM, PATIENCE), signal.SIGTERM)


@pytest.mark.process
def test_a_study_that_a_script_started_in_the_background_stops_whole_and_the_same_command_goes_on(
    place: Path,
):
    """Signals reach the study and its two workers, as in a terminal; a second and a third change nothing."""
    process = start("study", "small.yaml", "--set", "epochs=9000", "--jobs", "2", ignored=True)
    wait_for(in_the_middle_of_a_run, process=process)
    for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
        os.killpg(process.pid, number)
    stopped = stop(process, signal.SIGINT, PATIENCE)
    # the kernel may deliver what is sent together in any order
    assert stopped.code - 128 in BOTH
    assert_one_line(stopped, stopped.code - 128)
    assert stopped.errors[-1].endswith(
        "stopped; finished runs are kept in lossgauge-results/small. To continue, run the same command: "
        "lossgauge study small.yaml --set epochs=9000 --jobs 2"
    )
    folder = Path("lossgauge-results/small")
    done = len(list(folder.glob("runs/*untrained*")))
    status = run_cli("status", folder).stdout
    assert f"done     {done}" in status
    assert "no study is running here; to continue, run the same `lossgauge study` command" in status
    # with fewer epochs, to be done soon: a baseline is there already
    again = run_cli("study", "small.yaml", "--set", "epochs=1")
    assert f"{6 - done} runs done, {done} reused, 0 failed" in again.stdout
    # on a busy machine the clean-up of a stopped study may have no time
    assert not list(folder.glob("**/.new-*"))


@pytest.mark.process
def test_a_lost_interrupt_ends_the_process_all_the_same(place: Path):
    code = """
import sys
from lossgauge import stopping
stopping.GRACE_SECONDS = 0.2
stopping.handle_signals()
stopping.describe = lambda: "stopped. To start again, run the same command: lossgauge x"
with stopping.orderly():
    print("ready", flush=True)
    while True:
        try:
            while True:
                pass
        except KeyboardInterrupt:
            pass  # as a library does that catches everything
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert_one_line(stop(process, signal.SIGINT), signal.SIGINT)


@pytest.mark.process
def test_a_forked_child_dies_of_its_signal_alone(place: Path):
    code = """
import os, signal, time
from lossgauge import stopping
stopping.handle_signals()
child = os.fork()
if child == 0:
    signal.pause()
os.kill(child, signal.SIGTERM)
_, status = os.waitpid(child, 0)
time.sleep(0.5)  # the parent would have ended by now
print(os.WTERMSIG(status))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{int(signal.SIGTERM)}\n", "")


def in_the_middle_of_a_run() -> bool:
    """Whether a baseline is done and a loss has come some epochs far."""
    folder = Path("lossgauge-results/small")
    status = folder / ".work" / "running.json"
    return bool(list(folder.glob("runs/*untrained*"))) and any(
        json.loads(status.read_text())["running"].values() if status.is_file() else ()
    )


COMMANDS = {
    "study": ("study", "small.yaml"),
    "two jobs": ("study", "small.yaml", "--jobs", "2", "--set", "tune.trials=3"),
    "ray": ("study", "small.yaml", "--engine", "ray", "--jobs", "2"),
    "dry run": ("study", "small.yaml", "--dry-run"),
    "features": ("features", "orl-faces"),
    "report": ("report", "done", "--out", "page.html"),
    "csv": ("export", "done", "--to", "csv"),
    "mlflow": ("export", "done", "--to", "mlflow"),
    "check": ("check", "triplet"),
}
MOMENTS = (0.0, 0.01, 0.05, 0.2, 0.8, 2.4, 6.4)
"""Seconds after the handlers are set: each command gets both signals at each, give or take a fifth."""


def in_the_start_of_ray(stopped: Stopped) -> bool:
    """Whether SIGTERM came between Ray's own handler, which aborts with a stack, and ours, which is set again after its start."""
    return stopped.code == -signal.SIGABRT and "*** SIGTERM received" in stopped.errors[0]


@pytest.mark.slow
@pytest.mark.process
def test_a_hundred_and_twenty_six_signals_at_many_moments(place: Path):
    run = (sys.executable, "-m", "lossgauge", "study", "small.yaml", "--set", "epochs=2")
    subprocess.run([*run, "--out", "done"], check=True, capture_output=True)
    chance = random.Random(0)
    counts: Counter[str] = Counter()
    slowest: dict[str, float] = {}
    for name, arguments in COMMANDS.items():
        for moment in MOMENTS:
            for number in BOTH:
                after = moment * chance.uniform(0.8, 1.2)
                process = start(*arguments)
                stopped = stop(process, number, after, group=chance.random() < 0.5)
                if stopped.code == 0 or stopped.code == -number:
                    # it had ended before, or was past its last line
                    counts[f"{name}: done before"] += 1
                    assert "Traceback" not in "\n".join(stopped.errors), stopped
                    continue
                if name == "ray" and in_the_start_of_ray(stopped):
                    counts["ray: in its start"] += 1
                    continue
                assert_one_line(stopped, number)
                counts[f"{name}: stopped"] += 1
                slowest[name] = max(slowest.get(name, 0.0), stopped.seconds)
    print(dict(counts), {name: round(seconds, 2) for name, seconds in slowest.items()})
    assert sum(count for name, count in counts.items() if name.endswith("stopped")) >= 80
    assert counts["ray: in its start"] <= 2

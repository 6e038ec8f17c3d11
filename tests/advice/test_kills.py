"""`kill -9` during a search, and the same command again: finished trials are not repeated, and the answer comes."""

import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.advice.test_phases import a_question, with_schedule
from tests.support.command_line import LOSSGAUGE
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.process]


def runs(folder: Path) -> dict[str, int]:
    """When each finished run came to its place."""
    return {
        path.name: path.stat().st_mtime_ns
        for path in folder.glob("search/runs/*")
        if not path.name.startswith(".")
    }


def test_a_killed_advice_continues_where_it_was(tmp_path):
    question = a_question(tmp_path)
    folder = with_schedule(tmp_path / "out", question, candidates=2, epochs=9)
    command = [*LOSSGAUGE, "advise", question.data, "--out", str(folder), "--quiet"]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for(lambda: len(runs(folder)) >= 3, process=first)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    before = runs(folder)
    assert not (folder / "advice.json").exists()
    again = subprocess.run([*command, "--json"], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert before.items() <= runs(folder).items()
    assert json.loads(again.stdout)["complete"]


def test_ctrl_c_names_the_best_so_far_and_the_same_command_continues(tmp_path):
    question = a_question(tmp_path)
    folder = with_schedule(tmp_path / "out", question, candidates=6, epochs=27)
    command = [*LOSSGAUGE, "advise", question.data, "--out", str(folder)]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(runs(folder)) >= 8, process=first)
    first.send_signal(signal.SIGINT)
    _, errors = first.communicate()
    assert first.returncode == 130
    last = errors.strip().splitlines()[-1]
    assert "stopped; the best so far is" in last
    assert "MAP@R" in last
    assert "To continue, run the same command" in last
    assert "Traceback" not in errors
    # the second call knows what the first one left
    again = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert any("best so far: " in line for line in again.stderr)
    again.send_signal(signal.SIGINT)
    _, errors = again.communicate()
    assert again.returncode == 130
    assert "stopped; the best so far is" in errors

"""The helpers of the tests themselves."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command_line import assert_refused, run_cli, run_process
from tests.support.finished import once
from tests.support.studies import Quiet, small_plan
from tests.support.waiting import PATIENCE, wait_for


def test_a_command_in_this_process_gives_what_a_process_gives():
    here = run_cli("losses")
    assert here.returncode == 0
    assert "triplet" in here.stdout
    assert here.stderr == ""
    wrong = run_cli("report", "no-such-folder")
    assert_refused(wrong, "no-such-folder")
    assert sys.argv[0] != "lossgauge"


@pytest.mark.process
def test_a_suite_started_with_ctrl_c_ignored_gives_it_back_to_its_children(tmp_path):
    """As `make test &` in a script is started. With workers and without."""
    for workers in ("0", "1"):
        command = f"trap '' INT; exec {sys.executable} -m pytest -p no:cacheprovider -n {workers} "
        done = subprocess.run(
            ["sh", "-c", f"{command} -k default_of_the_signal {__file__}"],
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env={**os.environ, "PYTEST_ADDOPTS": f"--basetemp={tmp_path / workers}"},
        )
        assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_a_child_has_the_default_of_the_signal():
    code = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "True\n"


@pytest.mark.process
def test_the_same_command_in_a_process():
    here, there = run_cli("status", "nowhere"), run_process("status", "nowhere")
    assert (here.returncode, here.stdout, here.stderr) == (
        there.returncode,
        there.stdout,
        there.stderr,
    )


def test_a_folder_is_made_once(tmp_path_factory):
    calls = []
    first = once(tmp_path_factory, "try", calls.append)
    assert once(tmp_path_factory, "try", calls.append) == first
    assert len(calls) <= 1, "the other worker may have made it"


def test_a_folder_that_could_not_be_made_is_tried_again(tmp_path_factory):
    def fail(folder):
        (folder / "half").touch()
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        once(tmp_path_factory, "fail", fail)
    folder = once(tmp_path_factory, "fail", lambda folder: (folder / "whole").touch())
    assert not (folder / "half").exists()


def test_a_copy_of_the_finished_study_is_reused_by_the_same_plan(finished_small_study, monkeypatch):
    from lossgauge.study.runner import run_study

    monkeypatch.setenv("LOSSGAUGE_CACHE", str(finished_small_study.parent / "cache"))
    outcome = run_study(small_plan(), finished_small_study, progress=Quiet())
    assert (outcome.done, outcome.reused) == (0, 3)


def test_waiting_ends_where_the_process_has_ended():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    with pytest.raises(AssertionError, match="ended first"):
        wait_for(lambda: False, process=process)

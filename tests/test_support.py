"""The helpers of the tests themselves."""

import subprocess
import sys

import pytest

from tests.support.command_line import assert_refused, run_cli, run_process
from tests.support.finished import once
from tests.support.studies import Quiet, small_plan
from tests.support.waiting import wait_for


def test_a_command_in_this_process_gives_what_a_process_gives():
    here = run_cli("losses")
    assert here.returncode == 0
    assert "triplet" in here.stdout
    assert here.stderr == ""
    wrong = run_cli("report", "no-such-folder")
    assert_refused(wrong, "no-such-folder")
    assert sys.argv[0] != "lossgauge"


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

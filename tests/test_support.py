"""The helpers of the tests themselves."""

import subprocess
import sys

import pytest

from tests.support.command_line import assert_refused, run_cli, run_process
from tests.support.finished import once
from tests.support.forking import fork_script
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


@pytest.mark.parametrize(
    "code",
    [
        "",
        "print(7, flush=True); raise SystemExit(3)",
        "1 / 0",
        "import os; os.kill(os.getpid(), 9)",
    ],
)
def test_a_forked_script_ends_as_one_in_a_new_process(code):
    process = fork_script(code)
    new = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.wait() == new.returncode, process.output
    for words in (new.stdout, *new.stderr.splitlines()[-1:]):
        assert words in process.output


def test_a_forked_script_has_the_arguments_folder_environment_and_signals_of_a_new_one(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOSSGAUGE_CACHE", "mine")
    code = "import os, signal, sys; print(sys.argv, os.getcwd(), os.environ['LOSSGAUGE_CACHE'], "
    code += "[signal.getsignal(n) for n in (2, 15)])"
    process = fork_script(code, 1, "two")
    new = subprocess.run([sys.executable, "-c", code, "1", "two"], capture_output=True, text=True)
    assert (process.wait(), process.output) == (0, new.stdout)


def test_waiting_ends_where_the_process_has_ended():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    with pytest.raises(AssertionError, match="ended first"):
        wait_for(lambda: False, process=process)

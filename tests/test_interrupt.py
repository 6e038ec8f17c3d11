"""A suite that was started with Ctrl-C ignored: in files that import no torch, so that the inner suites start at once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import PATIENCE


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

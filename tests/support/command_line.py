"""The command line, inside the test's process and in a process of its own.

A process imports torch, which takes 2 to 3 seconds: start one only where the process itself is tested (signals, exit,
streams, what is imported).
"""

from __future__ import annotations

import io
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from unittest.mock import patch

from tests.support.waiting import PATIENCE

LOSSGAUGE = [sys.executable, "-m", "lossgauge"]


def run_cli(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The exit code and both streams of `lossgauge ARGUMENTS`, run by `lossgauge.cli.main` in this process.

    An exception that would end a process with a traceback reaches the test. What worker processes print is not in it.
    """
    from lossgauge.cli import main

    words = ["lossgauge", *map(str, arguments)]
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    code: object = 0
    with patch.object(sys, "argv", words), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    assert isinstance(code, int), code
    return subprocess.CompletedProcess(words, code, _text(out), _text(err))


def run_process(*arguments: object, **settings: object) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own. Mark such a test with `pytest.mark.process`."""
    command = [*LOSSGAUGE, *map(str, arguments)]
    settings = {"capture_output": True, "text": True, "timeout": PATIENCE, **settings}
    return subprocess.run(command, **settings)


def assert_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """A mistake of the user: exit code 2 and one line, with `words` in it."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    return stream.buffer.getvalue().decode()  # type: ignore[attr-defined]

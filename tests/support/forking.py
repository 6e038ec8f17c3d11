"""Processes that are forked from one that has imported everything: torch takes 2 s of each process, and its first step 0.7 s more.

For tests of what becomes of a process and what it leaves: its memory, pipes, signals and exit code are its own. Start a real one where
the start itself is tested: imports, threads, the environment, the command line, Ctrl-C for a whole group.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import chdir
from multiprocessing import forkserver
from multiprocessing.reduction import DupFd
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest

ROOT = Path(__file__).parents[2]
FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["tests.support.warm"])


class ForkedProcess:
    """What `WorkerProcess` and the tests use of `subprocess.Popen`."""

    output = ""
    """All that it has printed, once it was waited for; of a worker, nothing."""

    def __init__(
        self,
        target: Callable[..., None],
        arguments: list[str],
        environment: dict[str, str],
        *,
        log: IO[bytes],
        connection: int | None = None,
        daemon: bool = False,
    ) -> None:
        _start_server()
        pipe = None if connection is None else _Descriptor(connection)
        given = (target, arguments, environment, _Descriptor(log.fileno()), pipe)
        self._process = FORKED.Process(target=_run, args=given, daemon=daemon)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        self._log = None if connection else log

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
        if self._log is not None and not self._log.closed:
            self._log.seek(0)
            self.output = self._log.read().decode()
            self._log.close()
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()


def fork_script(code: str, *arguments: object) -> ForkedProcess:
    """A process that runs `code`, as `python -c CODE ARGUMENTS…` would. Wait for it in any case."""
    log = tempfile.TemporaryFile()  # noqa: SIM115  # `wait` closes it
    return ForkedProcess(_script, [code, *map(str, arguments)], dict(os.environ), log=log)


def forked_pool(count: int) -> Any:
    """A `multiprocessing.Pool` of forked processes."""
    _start_server()
    return FORKED.Pool(count)


def fork_workers() -> None:
    """From now on, this process forks the workers of its studies and extractions."""
    from lossgauge import worker_process

    worker_process.subprocess = SimpleNamespace(  # type: ignore[assignment]
        Popen=_fork_worker, DEVNULL=subprocess.DEVNULL
    )


@pytest.fixture
def forked_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers of this test's studies and extractions are forked."""
    monkeypatch.setattr("lossgauge.worker_process.subprocess", subprocess)  # to be restored
    fork_workers()


def _fork_worker(
    command: list[str], *, stdin: int, stdout: Any, stderr: Any, pass_fds: list[int], env: dict
) -> ForkedProcess:
    """In place of `subprocess.Popen`, for the command of `WorkerProcess`."""
    (connection,) = pass_fds
    assert command[:4] == [sys.executable, "-P", "-m", "lossgauge.worker_process"]
    assert command[-1] == str(connection)
    assert (stdin, stdout) == (subprocess.DEVNULL, stderr)
    assert env["OMP_NUM_THREADS"] == os.environ["OMP_NUM_THREADS"] == "1"  # or start a real one
    with open(os.devnull, "wb") as nowhere:
        log = nowhere if stdout == subprocess.DEVNULL else stdout
        return ForkedProcess(
            _worker, command[4:-1], env, log=log, connection=connection, daemon=True
        )


class _Descriptor:
    """A file descriptor that arrives in the process as a number."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __reduce__(self) -> tuple[Any, tuple[Any]]:
        return _number_there, (DupFd(self._number),)


def _number_there(duplicate: Any) -> int:
    return duplicate.detach()


def _start_server() -> None:
    with chdir(ROOT):  # where it finds `tests`, and which is no test's folder
        forkserver.ensure_running()


def _run(
    target: Callable[..., None],
    arguments: list[str],
    environment: dict[str, str],
    log: int,
    connection: int | None,
) -> None:
    """In the forked process: what a new one would have from its start, and the server had before."""
    from lossgauge.study.run import execute

    # else it would start a server of its own
    forkserver._forkserver.ensure_running = forkserver.ensure_running = lambda: None  # type: ignore
    os.environ.clear()
    os.environ.update(environment)
    execute.CHECKPOINT_SECONDS = execute._checkpoint_seconds()  # it is read at the import
    for stream in (1, 2):
        os.dup2(log, stream)
    target(*arguments, *([] if connection is None else [str(connection)]))


def _script(code: str, *arguments: str) -> None:
    sys.argv = ["-c", *arguments]
    exec(compile(code, "<script>", "exec"), {"__name__": "__main__"})


def _worker(*arguments: str) -> None:
    from lossgauge import worker_process

    worker_process._main(*arguments)

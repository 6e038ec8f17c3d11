"""A Python worker process with its own connection to this process: it ends when this process ends.

Why not `multiprocessing.Pool`: it shares locks, and a process that is killed while it holds a lock blocks all others
that wait for it. Why not `multiprocessing.Process`: it runs the caller's script again, so a script without
`if __name__ == "__main__"` would start itself again and again.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import IO, Any

from lossgauge import startup

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class WorkerProcess:
    """A process that calls `main` of a module with ARGUMENTS… NUMBER: the file descriptor for `open_connection`.

    Its output goes to `log`.
    """

    def __init__(self, module: str, *arguments: str, threads: int, log: IO[bytes] | int) -> None:
        self.connection, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                # -P: a file in the working folder must not replace a library
                [sys.executable, "-P", "-m", __name__, module, *arguments, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                env={**os.environ, **dict.fromkeys(THREADS, str(threads))},
            )

    @property
    def exit_code(self) -> int | None:
        """A negative code is the number of a signal; None while the process runs."""
        return self._process.poll()

    def send(self, order: Any) -> None:
        """Send an order. If the process has just ended, the order is lost; `receive` then raises EOFError."""
        with suppress(OSError):
            self.connection.send(order)

    def receive(self) -> Any:
        """The next answer. Raises EOFError if the process has ended."""
        try:
            return self.connection.recv()
        except OSError:  # the process ended before it read its last order
            raise EOFError from None

    def wait(self) -> int:
        """Wait until the process ends, and return its exit code."""
        return self._process.wait()

    def stop(self) -> None:
        """Kill the process, even during a task."""
        self._process.kill()
        self._process.wait()
        self.connection.close()


def open_connection(number: str) -> Connection:
    """In the worker: the connection to the process that started it."""
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one handles Ctrl-C
    return Connection(int(number))


def receive_orders(connection: Connection) -> Iterator[Any]:
    """In the worker: orders as they arrive. If the connection closes, the worker ends at once, even during a task."""
    orders: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def listen() -> None:
        with suppress(EOFError, OSError):
            while True:
                orders.put(connection.recv())
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        yield orders.get()


def exit_cause(code: int) -> str:
    """An exit code in words: `exit code 3`, `SIGKILL`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _main(module: str, *arguments: str) -> None:
    with startup.imports():
        worker = import_module(module)
    gc.freeze()  # the collector looks only through what the worker's tasks make
    startup.end_quickly()
    worker.main(*arguments)


if __name__ == "__main__":
    _main(*sys.argv[1:])

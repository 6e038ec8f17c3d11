"""A Python process beside this one, with a connection of its own: it ends when this process does.

This is not `multiprocessing.Pool`: no lock is shared, because a process that is killed while it holds a lock stops all
that wait for it. And nothing of the caller's script is run again, which `multiprocessing.Process` does: a script
without `if __name__ == "__main__"` would start itself over and over.
"""

from __future__ import annotations

import faulthandler
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import IO, Any

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class WorkerProcess:
    """`python -m module ARGUMENTS… NUMBER`, where NUMBER is the file descriptor for `receive_orders`.

    What it prints goes to `log`.
    """

    def __init__(self, module: str, *arguments: str, threads: int, log: IO[bytes] | int) -> None:
        self.connection, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                # -P: no file of the working folder stands in for a library
                [sys.executable, "-P", "-m", module, *arguments, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                env={**os.environ, **dict.fromkeys(THREADS, str(threads))},
            )

    @property
    def exit_code(self) -> int | None:
        """Negative is the number of a signal; None while it runs."""
        return self._process.poll()

    def send(self, order: Any) -> None:
        """Send an order. To a process that has just ended it is lost: `receive` says so."""
        with suppress(OSError):
            self.connection.send(order)

    def receive(self) -> Any:
        """The next answer. Raises EOFError where the process has ended."""
        try:
            return self.connection.recv()
        except OSError:  # it ended before it read its last order
            raise EOFError from None

    def wait(self) -> int:
        """Wait for its end, and return its exit code."""
        return self._process.wait()

    def stop(self) -> None:
        """End it at once, in the middle of its work."""
        self._process.kill()
        self._process.wait()
        self.connection.close()


def open_connection(number: str) -> Connection:
    """In the worker: the connection to the process that started it."""
    faulthandler.enable()
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C is answered by the process that started it
    return Connection(int(number))


def receive_orders(connection: Connection) -> Iterator[Any]:
    """In the worker: orders as they come. The worker ends with the other side, in the middle of its work too."""
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

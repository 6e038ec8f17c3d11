"""Ctrl-C and SIGTERM end a command within three seconds, with one line and exit code 130 or 143.

`handle_signals` comes before every other import, so this file imports nothing but built-in modules. Python runs a
signal's handler only between two steps of the main thread, and a library may catch or lose what the handler raises.
So a separate thread also waits for the signal, and ends the process itself:

    outside of `orderly`   immediately: no file is half written
    inside of it           first KeyboardInterrupt, so that files and workers are cleaned up; the process ends after
                           GRACE_SECONDS at the latest
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

GRACE_SECONDS = 1.5
"""Time for the clean-up. The next study in the folder removes what a kill leaves."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _State:
    handling = False
    """Whether `handle_signals` was called in this process."""
    received: int | None = None
    """The first of SIGNALS that came."""
    raises = False
    """Whether a signal raises KeyboardInterrupt: inside of `orderly`."""
    raised = False
    """Whether the handler was called: one signal is enough, and those after it change nothing."""
    ending = _thread.allocate_lock()
    """Taken by the thread that ends the process, and never released."""


def _before_all() -> str:
    return "stopped before anything was done; run the same command again"


describe: Callable[[], str] = _before_all
"""The text of the last line, safe for a terminal. A command sets it to say how to continue."""


def handle_signals() -> None:
    """From now on, SIGINT and SIGTERM end this process as above. Its child processes get the default handlers.

    A SIGINT that was ignored, as in a background job of a script, is not ignored any more.
    """
    _State.handling = True
    restore_handlers()
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    _thread.start_new_thread(_watch, (read,))
    os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=_forget)


def restore_handlers() -> None:
    """Set our handlers, also after a library has set its own. No effect in a process that does not handle signals."""
    if _State.handling:
        for number in SIGNALS:
            signal.signal(number, _interrupt)


def default_signals() -> None:
    """All work is done: from now on, a signal ends the process in the usual way."""
    if _State.handling and _State.received is None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)


def hand_over() -> None:
    """From now on the caller handles SIGINT and SIGTERM: a server, which ends by them."""
    if _State.handling and _State.received is None:
        signal.set_wakeup_fd(-1)
        default_signals()
        _State.handling = False


def stopped_by(error: BaseException) -> bool:
    """Whether `error` came up because the process is being stopped."""
    return _State.handling and (_State.received is not None or isinstance(error, KeyboardInterrupt))


def end() -> None:
    """End the process with the one line; exit code 128 + the signal's number."""
    _State.ending.acquire()
    line = f"lossgauge: {describe()}\n"
    if os.isatty(2):
        line = f"\x1b[?25h\r\x1b[K{line}"  # progress bars hide the cursor
    try:
        os.write(2, line.encode(errors="backslashreplace"))
    finally:
        os._exit(128 + (_State.received or signal.SIGINT))


class orderly:  # noqa: N801  # used as a statement, like contextlib.suppress
    """A block in which a signal raises KeyboardInterrupt, so that `with` and `finally` clean up."""

    def __enter__(self) -> None:
        _State.raises = True
        if _State.received is not None:
            end()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _State.raises = False
        if _State.received is not None or (error is not None and stopped_by(error)):
            end()


def _interrupt(number: int, frame: FrameType | None) -> None:
    """The handler."""
    if _State.raised:
        return
    _State.raised = True
    if _State.received is None:
        _State.received = number
    if _State.raises:
        # where Python cannot pass an exception on, it prints it: in a callback from C, in a finalizer
        sys.unraisablehook = lambda _: None
        raise KeyboardInterrupt


def _watch(read: int) -> None:
    """Wait for one of SIGNALS in a separate thread, and end the process if the main thread does not."""
    while (number := os.read(read, 1)[0]) not in SIGNALS:
        pass  # a signal that a library handles
    if _State.received is None:
        _State.received = number
    if _State.raises:
        time.sleep(GRACE_SECONDS)
    end()


def _hold() -> None:
    """Block the signals during a fork: one that reached the child before `_forget` would end the parent instead."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def _release() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _forget() -> None:
    """In a forked child: restore the default handlers, so that its signals do not reach the parent's thread."""
    signal.set_wakeup_fd(-1)
    for number in SIGNALS:
        if signal.getsignal(number) is _interrupt:
            signal.signal(number, signal.SIG_DFL)
    _State.handling = False
    _release()

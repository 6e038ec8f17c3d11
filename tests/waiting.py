"""Waiting for a condition: on a busy machine a step may take a hundred times as long as on an idle one."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

PATIENCE = 300.0
"""Seconds after which something that takes a second or two will never come."""


def wait_for(condition: Callable[[], object], *, process: subprocess.Popen | None = None) -> None:
    """Come back as soon as `condition` holds; fail where it never does, or where `process` ends before."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come"
        assert process is None or process.poll() is None, "the process ended before"
        time.sleep(0.01)

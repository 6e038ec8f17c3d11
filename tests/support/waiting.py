"""Waiting for a condition: on a busy machine a step may take a hundred times as long as on an idle one."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

from tests.support.forking import ForkedProcess

PATIENCE = 900.0
"""Seconds after which something that normally takes a second or two will never happen."""


def wait_for(
    condition: Callable[[], object], *, process: subprocess.Popen | ForkedProcess | None = None
) -> None:
    """Return as soon as `condition` holds; fail where it never does, or where `process` ends first."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true"
        assert process is None or process.poll() is None, "the process ended first"
        time.sleep(0.01)

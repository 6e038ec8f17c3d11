"""The last line of a command that a signal stops. A signal handler must not import anything, so these do not."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from lossgauge.terminal import safe


def stopped() -> str:
    return f"stopped. To start again, run the same command: {_command()}"


def features_stopped() -> str:
    return f"stopped; finished shards of features are kept. To continue, run the same command: {_command()}"


def study_stopped(folder: Path, *, dry_run: bool) -> str:
    if dry_run:
        return stopped()
    done = (
        f"finished runs are kept in {folder}"
        if os.path.isfile(folder / "study.json")
        else "no run has started; finished parts of the features are kept"
    )
    return safe(f"stopped; {done}. To continue, run the same command: {_command()}")


def advice_stopped(best: list[str]) -> str:
    so_far = f"the best so far is {best[0]}" if best else "no trial has ended"
    return safe(f"stopped; {so_far}. To continue, run the same command: {_command()}")


def _command() -> str:
    return safe(shlex.join(["lossgauge", *sys.argv[1:]]))

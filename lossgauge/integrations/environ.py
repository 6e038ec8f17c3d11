"""An environment variable, for a while: how libraries are told what no argument tells them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from lossgauge.errors import CacheError
from lossgauge.user_folders import can_be_written, home, private_folder


@contextmanager
def variable(name: str, value: str) -> Iterator[None]:
    """`name` is `value` within the block, and what it was after it."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def some_home() -> Iterator[None]:
    """Within the block trackers, which keep settings and logs in the user's home, have a private one where it is missing.

    One that is there and cannot be written is still read; only what they would cache in it goes elsewhere.
    """
    own = home()
    if own is not None and (can_be_written(own / ".cache") or "XDG_CACHE_HOME" in os.environ):
        yield
        return
    folder = private_folder("home")
    if folder is None:
        raise CacheError(
            "trackers need a home, and no folder can be written by this user alone: name one in LOSSGAUGE_CACHE"
        )
    with variable("HOME" if own is None else "XDG_CACHE_HOME", str(folder)):
        yield

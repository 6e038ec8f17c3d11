"""The lock of an entry: for this user alone, never through a link, and who waits says for what."""

import fcntl
import os
import threading

import pytest

from lossgauge.data.cache import drafting
from lossgauge.errors import CacheError


def test_nobody_else_can_open_the_lock_of_an_entry(tmp_path):
    old = os.umask(0)
    try:
        with drafting(tmp_path / "digits", refresh=False):
            mode = (tmp_path / ".digits.lock").stat().st_mode
    finally:
        os.umask(old)
    assert mode & 0o777 == 0o600
    assert not list(tmp_path.iterdir())


def test_a_link_in_the_place_of_a_lock_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("kept")
    (tmp_path / ".digits.lock").symlink_to(tmp_path / "precious")
    with (
        pytest.raises(CacheError, match="LOSSGAUGE_CACHE"),
        drafting(tmp_path / "digits", refresh=False),
    ):
        pass
    assert (tmp_path / "precious").read_text() == "kept"


def test_who_waits_for_an_entry_says_for_what(tmp_path, caplog):
    drafted = threading.Event()

    def draft():
        with drafting(tmp_path / "digits", refresh=False):
            drafted.set()

    told = threading.Event()
    caplog.handler.addFilter(lambda record: told.set() or True)
    with (tmp_path / ".digits.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = threading.Thread(target=draft)
        waiting.start()
        assert told.wait(60)
        assert not drafted.is_set()
    waiting.join(60)
    assert drafted.is_set()
    (words,) = caplog.messages
    assert str(tmp_path / ".digits.lock") in words

import fcntl
import os

import pytest

from lossgauge.errors import StudyError
from lossgauge.results import locks
from lossgauge.results.locks import EXCLUSIVE, SHARED, opened


def test_one_holds_it_alone_or_some_share_it(tmp_path):
    with opened(tmp_path / "x", tmp_path) as one, opened(tmp_path / "x", tmp_path) as other:
        assert one.take(EXCLUSIVE, seconds=0)
        assert not other.take(SHARED, seconds=0)
        one.release()
        assert one.take(SHARED, seconds=0)
        assert other.take(SHARED, seconds=0)
    with opened(tmp_path / "x", tmp_path) as lock:
        assert lock.take(EXCLUSIVE, seconds=0)


def test_deleting_the_file_does_not_free_it(tmp_path):
    with opened(tmp_path / "x", tmp_path) as one:
        assert one.take(EXCLUSIVE, seconds=0)
        (tmp_path / "x").unlink()
        with opened(tmp_path / "x", tmp_path, create=False) as other:
            assert not other.take(SHARED, seconds=0)
        with opened(tmp_path / "x", tmp_path) as other:
            assert not other.take(EXCLUSIVE, seconds=0)


def test_where_folders_cannot_be_locked_the_file_is(tmp_path, monkeypatch):
    def flock(handle, kind):
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(9, "Bad file descriptor")
        real(handle, kind)

    real = fcntl.flock
    monkeypatch.setattr(locks.fcntl, "flock", flock)
    with opened(tmp_path / "x", tmp_path) as one, opened(tmp_path / "x", tmp_path) as other:
        assert one.take(EXCLUSIVE, seconds=0)
        assert not other.take(EXCLUSIVE, seconds=0)


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch):
    def flock(handle, kind):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(locks.fcntl, "flock", flock)
    with (
        opened(tmp_path / "x", tmp_path) as lock,
        pytest.raises(StudyError, match="cannot be locked"),
    ):
        lock.take(EXCLUSIVE, seconds=0)


def test_a_pipe_is_no_lock_and_nobody_waits_for_it(tmp_path):
    os.mkfifo(tmp_path / "x")
    with pytest.raises(StudyError, match="is not a regular file"), opened(tmp_path / "x", tmp_path):
        pass

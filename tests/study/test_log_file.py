"""study.log: its lines, its size, and places where it cannot be written."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from lossgauge.study import log_file
from lossgauge.study.log_file import LogFile, append

RUN = SimpleNamespace(name="digits_triplet_0_abc")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "study.log"


def test_each_event_is_a_line_with_its_time(path):
    times = iter([0, 1, 2, 2, 4.5, 4.5, 5, 5, 6, 6, 7])
    with LogFile(path, {"lossgauge": "0.1.0", "device": "cpu"}, clock=lambda: next(times)) as log:
        log.study(2)
        log.start(RUN)
        log.end(RUN, {"recall_at_1": 0.0})
        log.start(RUN)
        log.failed(RUN, "two\nlines \x1b[2J")
        log.summary = "1 run done"
    assert path.read_text().splitlines() == [
        "1970-01-01 00:00:00Z  study started: lossgauge 0.1.0, device cpu",
        "1970-01-01 00:00:01Z  2 runs, 0 of them done before",
        "1970-01-01 00:00:02Z  started digits_triplet_0_abc",
        "1970-01-01 00:00:04Z  ended digits_triplet_0_abc after 2.5 s, R@1 0.0%",
        "1970-01-01 00:00:05Z  started digits_triplet_0_abc",
        "1970-01-01 00:00:06Z  failed digits_triplet_0_abc after 1.0 s: two lines \\x1b[2J",
        "1970-01-01 00:00:07Z  study ended: 1 run done",
    ]


def test_it_is_appended_to_and_says_why_a_study_stopped(path):
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), LogFile(path, {}):
            raise KeyboardInterrupt
    lines = path.read_text().splitlines()
    assert len(lines) == 4
    assert lines[1].endswith("study stopped: KeyboardInterrupt")


def test_it_never_takes_more_than_two_files_of_its_size(path, monkeypatch):
    monkeypatch.setattr(log_file, "MOST_BYTES", 1_000)
    with LogFile(path, {}) as log:
        for number in range(200):
            log.warning("a", f"{number} " + "x" * 5_000)
    older = path.with_name("study.log.1")
    sizes = [of.stat().st_size for of in (path, older) if of.exists()]
    assert max(sizes) < 1_000 + log_file.MOST_LETTERS + 50
    assert sorted(of.name for of in path.parent.iterdir()) == ["study.log", "study.log.1"]
    assert "199 x" in older.read_text() + path.read_text()


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_file_is_left_alone(path, kind):
    other = path.parent / "other"
    other.write_text("mine")
    {
        "link": lambda: path.symlink_to(other),
        "pipe": lambda: os.mkfifo(path),
        "folder": path.mkdir,
    }[kind]()
    with LogFile(path, {}) as log:
        log.warning("a", "b")
    assert other.read_text() == "mine"
    with pytest.raises(OSError, match=r"study\.log"):
        append(path, "line\n")

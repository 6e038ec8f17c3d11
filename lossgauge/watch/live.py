"""What a watcher shows: the status of a study and its page, read again while somebody looks.

A thread reads the folder, so that no request waits for it. After each reading it waits ten times as long as the reading took, so it
uses at most a tenth of a core. If no request has come for half a minute, it does not read at all.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from pathlib import Path
from typing import NamedTuple

from lossgauge.errors import LossgaugeError, StudyError
from lossgauge.portable import portable
from lossgauge.report.page import page
from lossgauge.results.reader import read_study, study_inside
from lossgauge.study.sentences import duration
from lossgauge.study.status import Status, read_status
from lossgauge.terminal import one_line
from lossgauge.types import Record

REST, PART = 1.0, 10
"""Least seconds between two readings; and how much longer the thread rests than it worked."""

PATIENCE = 30.0
"""Seconds after the last request in which the thread goes on."""

MOST_LISTED = 100
"""Failed runs that are listed."""


class Body(NamedTuple):
    """The content of an answer, with the tag that changes when it does."""

    data: bytes
    tag: str


def body(text: str) -> Body:
    """A text with its hash as the tag."""
    data = text.encode(errors="backslashreplace")
    return Body(data, f'"{hashlib.sha256(data).hexdigest()[:32]}"')


class Live:
    """The last known status and page of the study in a folder, which need not exist yet."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.name = folder.resolve().name
        self.page: Body | None = None
        """None before the first run has ended."""
        self.status = body(json.dumps(self._record("reading", "reading the study")))
        self._shown: object = None
        self._asked = threading.Event()

    def start(self) -> None:
        """Read now, and then while somebody asks."""
        self._asked.set()
        threading.Thread(target=self._follow, name="lossgauge-watch", daemon=True).start()

    def ask(self) -> None:
        """Somebody looks."""
        self._asked.set()

    def _follow(self) -> None:
        asked = 0.0
        while True:
            if self._asked.wait(timeout=max(0.0, asked + PATIENCE - time.monotonic()) or None):
                self._asked.clear()
                asked = time.monotonic()
            began = time.monotonic()
            self.refresh()
            time.sleep(max(REST, PART * (time.monotonic() - began)))

    def refresh(self) -> None:
        """Read the status, and make the page again if a run has ended. Any error is a text on the page."""
        try:
            status = read_status(self._folder)
            self._refresh_page(status)
            record = self._of_status(status)
        except StudyError as error:
            if inside := study_inside(self._folder):
                words = f"there is no study in {self.name}; did you mean {self.name}/{inside.name}?"
                record = self._record("error", words)
            elif not (self._folder / "study.json").exists():
                record = self._record("waiting", f"there is no study in {self.name} yet")
            else:
                record = self._record("error", self._words(error))
        except (LossgaugeError, OSError) as error:
            record = self._record("error", self._words(error))
        except Exception as error:  # or the thread would end, and the page would stand still
            record = self._record("error", self._words(f"{type(error).__name__}: {error}"))
        self.status = body(json.dumps(record))

    def _refresh_page(self, status: Status) -> None:
        shown = (sorted(status.done), sorted(status.failed.items()), status.expected)
        if shown != self._shown and (status.done or status.failed):
            self.page = body(page(read_study(self._folder)))
            self._shown = shown

    def _of_status(self, status: Status) -> Record:
        later = status.expected - len(status.done) - len(status.running) - len(status.failed)
        if status.at_work:
            left = status.seconds_left
            words = "running" if left is None else f"running, about {duration(left)} left"
        elif later > 0 or status.failed:
            words = "no study is running here; to continue, run the same lossgauge study command"
        else:
            words = "finished"
        return self._record(
            "running" if status.at_work else "ended",
            words,
            done=len(status.done),
            failed=len(status.failed),
            waiting=max(0, later),
            expected=status.expected,
            running=[
                {"run": run, "epoch": epoch, "epochs": epochs}
                for run, (epoch, epochs) in status.running.items()
            ],
            failures=[
                {"run": run, "error": self._words(error)}
                for run, error in list(status.failed.items())[:MOST_LISTED]
            ],
        )

    def _record(self, state: str, words: str, **more: object) -> Record:
        none = {"done": 0, "failed": 0, "waiting": 0, "expected": 0, "running": [], "failures": []}
        page_tag = self.page.tag if self.page else None
        return {
            "study": self.name,
            "state": state,
            "words": words,
            **none,
            **more,
            "page": page_tag,
        }

    def _words(self, error: object) -> str:
        """An error without the folders of this machine."""
        return portable(one_line(str(error)), self._folder.resolve(), self._folder.resolve().parent)

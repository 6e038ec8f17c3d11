"""What a watcher shows of a folder at each moment of a study: before it, in it, after a kill, and of a damaged one."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from lossgauge.results.layout import Layout
from lossgauge.results.writer import Store
from lossgauge.study.schedule.run_queue import RunQueue
from lossgauge.study.status import StatusFile
from lossgauge.watch import live as module
from lossgauge.watch.live import Live
from tests.support.waiting import wait_for


def status_of(live: Live) -> dict:
    live.refresh()
    return json.loads(live.status.data)


def test_the_folder_of_advise_names_the_study_in_it(tmp_path):
    (tmp_path / "advise-photos" / "study").mkdir(parents=True)
    (tmp_path / "advise-photos" / "study" / "study.json").write_text("{}")
    of = status_of(Live(tmp_path / "advise-photos"))
    assert of["state"] == "error"
    assert of["words"].endswith("; did you mean advise-photos/study?")


def test_a_folder_that_appears_later(tmp_path, small_study):
    live = Live(tmp_path / "study")
    assert json.loads(live.status.data)["state"] == "reading"
    assert status_of(live) | {"state": "waiting", "page": None} == status_of(live)
    assert json.loads(live.status.data)["words"] == "there is no study in study yet"
    shutil.copytree(small_study, tmp_path / "study")
    of = status_of(live)
    assert (of["state"], of["words"], of["done"], of["expected"]) == ("ended", "finished", 3, 3)
    assert of["page"] == live.page.tag
    assert b"triplet" in live.page.data


def test_before_the_first_run_has_ended_and_while_one_runs(finished_small_study, monkeypatch):
    layout = Layout(finished_small_study)
    runs = sorted(layout.runs.iterdir())
    for run in runs:
        run.rename(layout.folder / run.name)
    live = Live(layout.folder)
    of = status_of(live)
    assert (of["state"], of["done"], of["waiting"], of["page"]) == ("ended", 0, 3, None)
    assert "run the same lossgauge study command" in of["words"]
    # now a study runs there, as `read_status` sees it
    monkeypatch.setattr(Store, "is_locked", lambda _: True)
    writer = StatusFile.__new__(StatusFile)
    writer._path, writer._ledger = (
        Store(layout.folder).work / "running.json",
        RunQueue.__new__(RunQueue),
    )
    monkeypatch.setattr(RunQueue, "work", 100)
    writer._began, writer._reused, writer._done = time.time() - 60, 0, 50
    writer._running, writer._failed = {runs[0].name: 1}, []
    writer._write()
    of = status_of(live)
    assert (of["state"], of["words"]) == ("running", "running, about 60 s left")
    assert of["running"] == [{"run": runs[0].name, "epoch": 1, "epochs": 2}]
    assert of["waiting"] == 2
    (layout.folder / runs[1].name).rename(runs[1])
    of = status_of(live)
    assert (of["done"], of["waiting"]) == (1, 1)
    first = live.page
    assert first is not None
    assert status_of(live)["page"] == first.tag
    assert live.page is first  # it is made again only if a run has ended
    (layout.folder / runs[2].name).rename(runs[2])
    assert status_of(live)["page"] != first.tag


def test_a_failed_and_a_damaged_run_are_named_without_folders_of_this_machine(finished_small_study):
    layout = Layout(finished_small_study)
    first, second, _ = sorted(layout.runs.iterdir())
    shutil.rmtree(first)
    Store(layout.folder).fail(
        first.name,
        {"error": f"cannot read {layout.folder}/x.npz and /etc/secret/y.npz", "traceback": ""},
        keep_checkpoint=False,
    )
    (second / "summary.json").write_text("{}")
    of = status_of(Live(layout.folder))
    assert (of["done"], of["failed"]) == (1, 2)
    errors = {row["run"]: row["error"] for row in of["failures"]}
    assert errors[first.name] == "cannot read x.npz and y.npz"
    assert second.name in errors
    assert str(layout.folder.parent) not in json.dumps(of)


def test_a_damaged_study_and_an_error_of_the_page_are_words(finished_small_study, monkeypatch):
    layout = Layout(finished_small_study)
    live = Live(layout.folder)

    def broken(view: object) -> str:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(module, "page", broken)
    of = status_of(live)
    assert (of["state"], of["words"]) == ("error", "ZeroDivisionError: a bug")
    layout.study.write_text("{}")
    assert status_of(live)["state"] == "error"


@pytest.mark.parametrize("name", ["<b>&", "a\x1b[2J\udcff"])
def test_a_hostile_name_is_a_text(tmp_path, name):
    of = status_of(Live(tmp_path / name))
    assert of["study"].startswith(name[0])


def test_it_reads_only_while_somebody_asks(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "REST", 0.0)
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    reads: list[Path] = []
    live = Live(tmp_path)
    monkeypatch.setattr(live, "refresh", lambda: reads.append(tmp_path))
    live.start()
    wait_for(lambda: len(reads) == 1)
    live.ask()
    wait_for(lambda: len(reads) == 2)
    assert len(reads) == 2

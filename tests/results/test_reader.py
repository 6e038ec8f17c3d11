"""Reading a study's folder: each file once, damage as failures, and other formats by one line."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest

from lossgauge.errors import StudyError
from lossgauge.files import read_json, write_json
from lossgauge.results.layout import Layout
from lossgauge.results.reader import damage_of, read_run, read_study
from lossgauge.results.tables import StudyTables
from lossgauge.results.writer import Store

opened: Counter[str] | None = None


def _count(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and opened is not None and isinstance(arguments[0], str):
        opened[arguments[0]] += 1


@pytest.fixture
def opens():
    """How often each file is opened from here on."""
    global opened
    if not _hooked:
        sys.addaudithook(_count)  # for good: there is no way to remove one
        _hooked.append(True)
    opened = Counter()
    yield opened
    opened = None


_hooked: list[bool] = []


def inside(folder: Path, opens: Counter[str]) -> dict[str, int]:
    files = {str(path) for path in folder.rglob("*") if path.is_file()}
    return {name: count for name, count in opens.items() if name in files}


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "study")


def test_reading_a_study_opens_each_file_once(folder, opens):
    view = read_study(folder)
    counts = inside(folder, opens)
    assert set(counts.values()) == {1}
    assert str(folder / "study.json") in counts
    assert {path.name for path in map(Path, counts)} >= {"epochs.parquet", "steps.parquet"}
    # tables add one read of steps and classes, whose rows are not kept, and none of anything else
    tables = StudyTables(view)
    for name in ("runs", "timing", "epochs", "trials", "references", "failures"):
        tables.table(name)
    assert inside(folder, opens) == counts
    tables.table("steps")
    again = inside(folder, opens)
    assert {Path(name).name for name in again if again[name] > counts[name]} == {"steps.parquet"}
    assert max(again.values()) == 2 or len(tables.runs) > len({r["run"] for r in tables.runs})


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_damaged_run_is_a_failure_and_a_line_of_damage(copy):
    whole = read_study(copy)
    assert whole.damage == ()
    run = whole.results.summaries[0]["run"]
    flip(Layout(copy).table(run, "epochs"))
    view = read_study(copy)
    (line,) = view.damage
    assert line.startswith(f"{Layout(copy).table(run, 'epochs')} is damaged (its SHA-256 differs")
    assert [r["error"] for r in view.results.failures if r["run"] == run] == [line]
    assert run not in {r["run"] for r in view.results.summaries}
    assert len(view.results.summaries) == len(whole.results.summaries) - 1


def test_a_damaged_record_of_a_failure_is_a_line_of_damage_too(copy):
    path = next(Layout(copy).failures.glob("*.json"))
    flip(path)
    (line,) = read_study(copy).damage
    assert line.startswith(f"{path} is damaged")


def test_asking_whether_a_run_is_done_changes_nothing(copy):
    store = Store(copy)
    run = read_study(copy).results.summaries[0]["run"]
    assert store.is_done(run)
    assert damage_of(store.layout, run) is None
    flip(store.layout.record(run, "summary"))
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    assert not store.is_done(run)
    assert "summary.json is damaged" in (store.damage(run) or "")
    assert not store.is_done("another")
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("number", [1, 2, 3, 4, None])
def test_a_folder_of_another_format_is_one_line_that_says_what_to_do(copy, number):
    if number in (1, 2):  # they had no checksum, and another name for it
        (copy / "study.json").write_text(json.dumps({"schema": number}))
    else:
        write_json(copy / "study.json", {**read_json(copy / "study.json"), "format": number})
    for act in (lambda: read_study(copy), Store(copy).check_format):
        with pytest.raises(StudyError) as caught:
            act()
        assert str(caught.value) == (
            f"{copy / 'study.json'} is of format {number}, and this version of lossgauge reads format 5: "
            "run the study again with --out and a new folder, or use the version that wrote it"
        )


def test_a_run_is_read_with_its_config_and_its_clock(folder):
    layout = Layout(folder)
    run = read_study(folder).results.summaries[0]["run"]
    finished = read_run(layout, run)
    assert finished.config == read_json(layout.record(run, "config"))
    timing = read_json(layout.record(run, "timing"))
    assert finished.summary == {**read_json(layout.record(run, "summary")), **timing}
    assert finished.epochs.column("epoch").to_pylist() == list(range(finished.epochs.num_rows))


def test_no_thread_of_arrow_reads_a_study(folder):
    """One that still holds a buffer of Python's when the interpreter ends aborts the process."""
    import subprocess

    words = (
        "import gc, os, pathlib, sys\n"
        "gc.disable()\n"  # the imports leave nothing to collect
        "from lossgauge.files import read_rows\n"
        "before = len(os.listdir('/proc/self/task'))\n"
        "for path in pathlib.Path(sys.argv[1]).glob('runs/*/*.parquet'): read_rows(path)\n"
        "print(len(os.listdir('/proc/self/task')) - before)\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", words, str(folder)], capture_output=True, text=True
    )
    assert (shown.stdout.strip(), shown.returncode) == ("0", 0), shown.stderr

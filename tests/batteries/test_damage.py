"""Flips and cuts of every file of a study at every stage: nothing that was damaged is shown, or trained on, as the truth.

A try is silent where what comes out differs from the undisturbed study and no line says so.
"""

from __future__ import annotations

import math
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lossgauge.errors import CacheError, LossgaugeError
from lossgauge.files import read_rows
from lossgauge.results.columns import CLOCK_COLUMNS, TABLES
from lossgauge.results.reader import read_study
from lossgauge.results.tables import StudyTables
from lossgauge.results.writer import Store
from lossgauge.study.engines.features_file import read_features_file, write_features_file
from lossgauge.study.prepare import prepare
from lossgauge.study.run.guarded import run_guarded
from lossgauge.study.runner import run_study
from lossgauge.study.schedule.run_queue import RunQueue
from lossgauge.study.schedule.runs import Run
from lossgauge.study.status import read_status
from tests.support.stages import finished, quick_plan, stopped, stopped_plan
from tests.support.studies import Quiet
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.slow

READS, RESUMES, STUDIES, HANDOVERS, COMMANDS = 1500, 500, 100, 200, 120


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOSSGAUGE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(tmp_path_factory.mktemp("finished"))


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stopped(tmp_path_factory.mktemp("stopped"))


def files(folder: Path) -> list[Path]:
    """Every file that is read back."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and path.stat().st_size
        and path.name not in ("report.html", "study.log")  # for people
    )


def damage(path: Path, chance: random.Random) -> str:
    """Change a file in one of the ways of disks and editors, and say which."""
    content = path.read_bytes()
    place = chance.randrange(len(content))
    ways: dict[str, Callable[[], bytes]] = {
        "bit": lambda: _with(content, place, content[place] ^ 1 << chance.randrange(8)),
        "digit": lambda: _digit(content, chance),
        "byte": lambda: _with(content, place, (content[place] + chance.randrange(1, 256)) % 256),
        "cut": lambda: content[:place],
        "zeros": lambda: (
            content[:place] + bytes(min(64, len(content) - place)) + content[place + 64 :]
        ),
        "longer": lambda: content[:place] + chance.randbytes(3) + content[place:],
        "gone": lambda: b"",
    }
    way = chance.choices(list(ways), weights=[8, 4, 3, 2, 1, 1, 1])[0]
    path.write_bytes(ways[way]())
    return way


def _with(content: bytes, place: int, byte: int) -> bytes:
    return content[:place] + bytes([byte]) + content[place + 1 :]


def _digit(content: bytes, chance: random.Random) -> bytes:
    """One digit becomes another: still a number, and valid JSON."""
    places = [place for place, byte in enumerate(content) if byte in b"0123456789"]
    return _with(content, chance.choice(places), chance.choice(b"0123456789")) if places else b""


def shown(folder: Path) -> dict[str, object]:
    """All that is read of a study by the report, the tables and the status."""
    tables = StudyTables(read_study(folder))
    status = read_status(folder)
    return {
        "results": without_nan(read_study(folder).results._asdict()),
        "tables": {name: without_nan(tables.table(name).to_pylist()) for name in TABLES},
        "configs": [tables.config(row) for row in tables.runs],
        "failed": status.failed,
        "counts": [sorted(status.done), sorted(status.waiting), status.expected],
    }


def without_nan(value: object) -> object:
    """NaN is not equal to itself."""
    if isinstance(value, dict):
        return {name: without_nan(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(part) for part in value]
    return "nan" if isinstance(value, float) and math.isnan(value) else value


def verdict(damaged: Path, folder: Path, whole: dict[str, object]) -> str:
    """`error`, `failure`, `same` or `SILENT`."""
    try:
        found = without_nan(read_study(folder).results._asdict())
        if found == whole["results"]:
            return "same" if shown(folder) == whole else "SILENT"
    except LossgaugeError as error:
        words = str(error)
        named = str(damaged) in words or str(damaged.parent) in words
        says_what_to_do = "`lossgauge study`" in words or "give another folder" in words
        return "error" if named and says_what_to_do and "\n" not in words else f"BAD {words}"
    told = [row["error"] for row in found["failures"] + found["trials"] if row.get("error")]
    if not any(str(damaged.parent) in words and "is damaged" in words for words in told):
        return "SILENT"
    # all others are as they were
    same = all(
        row in whole["results"][kind]
        for kind in ("summaries", "sensitivity", "epochs")
        for row in found[kind]
    ) and all(
        found[part] == whole["results"][part]
        for part in ("plan", "assumptions", "references", "left_out", "environment", "tuned")
    )
    return "failure" if same else "SILENT"


def test_a_damaged_file_of_a_finished_study_is_never_read_as_the_truth(done, tmp_path, capsys):
    chance = random.Random(0)
    folder = Path(shutil.copytree(done, tmp_path / "study"))
    whole = shown(folder)
    counts: Counter[tuple[str, str]] = Counter()
    silent = []
    for number in range(READS):
        path = files(folder)[number % len(files(folder))]
        content = path.read_bytes()
        way = damage(path, chance)
        end = verdict(path, folder, whole)
        counts[path.name if path.parent.parent.name == "runs" else path.parent.name, end] += 1
        if end not in ("error", "failure", "same"):
            silent.append((path, way, end))
        path.write_bytes(content)
    assert shown(folder) == whole
    say(capsys, "reads of a finished study", counts)
    assert not silent


def published(folder: Path, run: str) -> dict[str, object]:
    """What a run came to, less the clock."""
    store = Store(folder)
    store.check(run)
    rows = {
        name: without_nan(
            [
                {column: value for column, value in row.items() if column not in CLOCK_COLUMNS}
                for row in read_rows(folder / "runs" / run / f"{name}.parquet")
            ]
        )
        for name in ("epochs", "steps", "classes")
    }
    return {"summary": without_nan(store.summary(run)), **rows}


def test_a_damaged_checkpoint_changes_no_number_and_is_told(begun, tmp_path, capsys):
    chance = random.Random(1)
    plan = stopped_plan(begun.parent)
    prepared, _ = prepare(plan, progress=Quiet())
    features = prepared[0]
    run: Run = next(run for run in RunQueue(plan, prepared).given if run.loss.name == "triplet")
    counts: Counter[tuple[str, str]] = Counter()
    silent = []

    def resumed(folder: Path) -> tuple[dict[str, object], tuple[str, ...]]:
        end = run_guarded(run, lambda: features, Store(folder), on_epoch=lambda epoch: None)
        assert end.error is None, end.error
        return published(folder, run.name), tuple(end.notes)

    whole, notes = resumed(Path(shutil.copytree(begun, tmp_path / "whole")))
    assert not notes
    for number in range(RESUMES):
        folder = tmp_path / "study"
        shutil.copytree(begun, folder)
        parts = files(folder / "partial")
        path = parts[number % len(parts)]
        way = damage(path, chance)
        found, notes = resumed(folder)
        end = "SILENT" if found != whole else "told" if notes else "same"
        assert all("is damaged" in note or "cannot be read" in note for note in notes)
        assert len(notes) <= 1
        counts[path.name if not path.name.startswith("0") else "streamed steps", end] += 1
        if end == "SILENT":
            silent.append((path, way))
        shutil.rmtree(folder)
    say(capsys, "resumes from a checkpoint", counts)
    assert not silent


@pytest.mark.parametrize("stage", ["finished", "stopped"])
def test_the_same_study_heals_any_damage_and_says_so(stage, done, begun, tmp_path, capsys):
    chance = random.Random(2)
    source = done if stage == "finished" else begun
    plan = (quick_plan if stage == "finished" else stopped_plan)(source.parent)
    run_study(plan, shutil.copytree(source, tmp_path / "whole"), progress=Quiet())
    whole = timeless(shown(tmp_path / "whole"))
    counts: Counter[tuple[str, str]] = Counter()
    for number in range(STUDIES // 2):
        folder = Path(shutil.copytree(source, tmp_path / "study"))
        parts = files(folder)
        # the record of a failure is written again by any study: the run is tried again
        path = parts[number * 7 % len(parts)]
        way = damage(path, chance)
        quiet = Quiet()
        run_study(plan, folder, progress=quiet)
        lines = [words for words in quiet.warnings.values() if "damaged" in words]
        found = timeless(shown(folder))
        assert found == whole, (path, way)
        counts[
            path.parent.name if path.suffix == ".json" else path.name, "told" if lines else "same"
        ] += 1
        assert (
            lines
            or stage == "stopped"
            or path.read_bytes() == (source / path.relative_to(folder)).read_bytes()
        ), path
        shutil.rmtree(folder)
    say(capsys, f"the same study in a {stage} folder", counts)


def timeless(found: dict[str, object]) -> dict[str, object]:
    """Without what the clock wrote, and without tracebacks."""

    def strip(value: object) -> object:
        if isinstance(value, dict):
            return {
                k: strip(v)
                for k, v in value.items()
                if k not in (*CLOCK_COLUMNS, "traceback", "timing")
            }
        return [strip(part) for part in value] if isinstance(value, list) else value

    return strip(found)


def test_features_for_workers_are_taken_as_they_were_handed_over_or_not_at_all(
    done, tmp_path, capsys
):
    chance = random.Random(3)
    prepared, _ = prepare(quick_plan(done.parent), progress=Quiet())
    path = tmp_path / "features.safetensors"
    write_features_file(prepared[0], path)
    content = path.read_bytes()
    whole = read_features_file(path)
    counts: Counter[tuple[str, str]] = Counter()
    for _ in range(HANDOVERS):
        damage(path, chance)
        try:
            found = read_features_file(path)
        except CacheError:
            counts["features", "error"] += 1
        else:
            same = all(
                (a == b) if not hasattr(a, "equal") else a.equal(b)
                for a, b in zip(found, whole, strict=True)
            )
            counts["features", "same" if same else "SILENT"] += 1
        path.write_bytes(content)
    say(capsys, "features for workers", counts)
    assert not counts["features", "SILENT"]


def lossgauge(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lossgauge", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)


def test_the_command_line_tells_damage_in_one_line(done, begun, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    chance = random.Random(4)
    study = tmp_path / "study.yaml"
    counts: Counter[tuple[str, str]] = Counter()
    whole = {}
    for source, plan in ((done, quick_plan(done.parent)), (begun, stopped_plan(begun.parent))):
        folder = Path(shutil.copytree(source, tmp_path / source.parent.name))
        run_study(plan, folder, progress=Quiet())
        whole[source] = timeless(shown(folder))
    untouched = shown(done)
    for number in range(COMMANDS):
        command = ("report", "export", "status", "study")[number % 4]
        # a study has both stages; what reads has a finished one
        source = begun if command == "study" and number % 8 == 3 else done
        folder = Path(shutil.copytree(source, tmp_path / "study"))
        parts = [
            p
            for p in files(folder)
            if command != "status" or p.name == "study.json" or p.parent.name == "failed"
        ]
        path = parts[number * 5 % len(parts)]
        way = damage(path, chance)
        if command == "study":
            (tmp_path / "study.yaml").write_text(plan_text(begun if source is begun else done))
            end = lossgauge("study", study, "--out", folder)
        else:
            end = lossgauge(command, folder)
        told = "is damaged" in end.stderr + end.stdout
        assert "Traceback" not in end.stderr, (path, way, end.stderr)
        if command == "study":
            same = timeless(shown(folder)) == whole[source]
        else:
            found = verdict(path, folder, untouched)
            same = found == "same"
            # on the page and in the tables, a damaged run is among the failures
            told = told or found == "failure"
            assert (end.returncode == 2) == (
                found == "error" or (command == "status" and "holds" in end.stderr)
            ) or command == "status", end
            assert len(end.stderr.splitlines()) <= 1 or end.returncode == 0, end.stderr
        result = "told" if told else "same" if same else "SILENT"
        counts[command, result] += 1
        assert result != "SILENT", (path, way, end)
        shutil.rmtree(folder)
    say(capsys, "commands", counts)


def plan_text(source: Path) -> str:
    import yaml

    stage = stopped_plan if source.parent.name.startswith("stopped") else quick_plan
    plan = stage(source.parent)
    return yaml.safe_dump(plan.model_dump(mode="json", exclude_unset=True))


def say(capsys: pytest.CaptureFixture[str], what: str, counts: Counter[tuple[str, str]]) -> None:
    ends = Counter[str]()
    for (_, end), count in counts.items():
        ends[end] += count
    with capsys.disabled():
        print(f"\n{what}: {sum(ends.values())} tries, {ends['SILENT']} silent; {dict(ends)}")

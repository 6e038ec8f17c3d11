"""A full disk at each writer: one line, the exit code, nothing half-written, and with room the same command ends well."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lossgauge.backbones import load_backbone
from lossgauge.data import archives, load_dataset
from lossgauge.data import features as extraction
from lossgauge.data.cache import entries
from lossgauge.errors import LossgaugeError, StudyError
from lossgauge.export import export_study
from lossgauge.report.output import write_page
from lossgauge.results.reader import read_study
from lossgauge.results.tables import StudyTables
from lossgauge.results.view import StudyView
from lossgauge.study.runner import run_study
from tests.support.studies import Quiet, make_study, small_plan
from tests.support.waiting import PATIENCE

# SQLAlchemy 2.1 about the mappers of MLflow
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),
]

ROOM = 2**26


class Disk:
    """A file system in memory with as much room as it is given."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(place)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
            pytest.skip(
                "no file system can be mounted here: run as root, in a container with --cap-add SYS_ADMIN"
            )

    def room(self, free: int) -> None:
        """So many bytes more than what is there."""
        found = os.statvfs(self.place)
        size = (found.f_blocks - found.f_bfree) * found.f_frsize + free
        # size=0 would be no limit
        subprocess.run(
            ["mount", "-o", f"remount,size={max(size, 4096)}", str(self.place)], check=True
        )

    def used(self) -> int:
        found = os.statvfs(self.place)
        return (found.f_blocks - found.f_bfree) * found.f_frsize

    def clear(self) -> None:
        self.room(ROOM)
        for path in self.place.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.fixture
def disk(tmp_path):
    made = Disk(tmp_path / "disk")
    yield made
    subprocess.run(
        ["umount", "--lazy", str(made.place)], check=True
    )  # MLflow keeps its database open


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("full"))


def content(folder: Path) -> dict[str, str]:
    """All files with their digests."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def leftovers(folder: Path) -> list[str]:
    """Names of what was to be renamed into its place."""
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.name.startswith(".new-") or path.name.endswith((".tmp", ".new"))
    ]


def sizes(needed: int, steps: int) -> list[int]:
    """Room from nothing to a page less than what is needed."""
    return sorted({int(needed * step / steps) // 4096 * 4096 for step in range(steps)})


def try_all(
    disk: Disk, write: Callable[[], object], look: Callable[[], object], *, steps: int
) -> tuple[Counter, list[str]]:
    """`write` with too little room, then with enough: how it ended, and what was wrong."""
    write()
    expected, needed = look(), disk.used()
    counts: Counter = Counter()
    bad = []
    for free in sizes(needed, steps):
        disk.clear()
        disk.room(free)
        try:
            write()
            counts["worked"] += 1
        except LossgaugeError as error:
            counts["one line"] += 1
            if "\n" in str(error).strip():
                bad.append(f"{free} bytes: {error}")
        except Exception as error:  # what a user would see as a traceback
            counts["traceback"] += 1
            bad.append(f"{free} bytes: {type(error).__name__}: {error}")
        if left := leftovers(disk.place):
            bad.append(f"{free} bytes left {left}")
        disk.room(ROOM)
        write()
        counts["then whole"] += 1
        if look() != expected:
            bad.append(f"{free} bytes, then room: another result")
    return counts, bad


def report_counts(capsys, what: str, counts: Counter) -> None:
    with capsys.disabled():
        print(f"\nfull disk, {what}: {dict(counts)}")


def test_a_study_fails_in_words_and_then_ends_with_the_same_numbers(
    disk, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("LOSSGAUGE_CACHE", str(tmp_path / "cache"))
    folder = disk.place / "study"

    def write():
        run_study(small_plan(), folder, progress=Quiet())

    def look():
        tables = StudyTables(read_study(folder))
        assert len(tables.runs) == 3
        return json.dumps(tables.runs), len(list(folder.rglob("*")))

    counts, bad = try_all(disk, write, look, steps=30)
    report_counts(capsys, "a study", counts)
    assert not bad


def test_a_page_is_whole_or_the_earlier_one(disk, study, capsys):
    results = read_study(study).results
    page = disk.place / "report.html"
    counts, bad = try_all(
        disk, lambda: write_page(StudyView(results), page), lambda: content(disk.place), steps=12
    )
    before = content(disk.place)
    disk.room(0)
    with pytest.raises(LossgaugeError):
        write_page(StudyView(results), page)
    assert content(disk.place) == before
    report_counts(capsys, "a page", counts)
    assert not bad


def test_features_are_whole_or_absent(disk, monkeypatch, capsys):
    monkeypatch.setattr(extraction, "SHARD_BYTES", 40_000)
    images, backbone = load_dataset("digits"), load_backbone("pixels")
    cache = disk.place / "cache"
    rows = []

    def write():
        rows[:] = [extraction.features(images, backbone, cache=cache).features]

    def look():
        assert len(entries(cache)) == 1
        return rows[0].numpy().tobytes(), content(cache)

    counts, bad = try_all(disk, write, look, steps=30)
    report_counts(capsys, "features", counts)
    assert not bad


def test_an_archive_is_unpacked_whole_or_not_at_all(disk, tmp_path, capsys):
    archive = tmp_path / "images.zip"
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(archive, "w") as made:
        for number in range(20):
            made.writestr(f"{number % 3}/{number}.jpg", rng.bytes(9_000))
    into = disk.place / "cache" / "unpacked"

    def write():
        if not into.is_dir():
            archives.extract(archive, into)

    counts, bad = try_all(disk, write, lambda: content(into), steps=20)
    report_counts(capsys, "an archive", counts)
    assert not bad


@pytest.mark.parametrize(
    ("to", "steps"), [("parquet", 12), ("csv", 12), ("tensorboard", 8), ("mlflow", 5), ("wandb", 5)]
)
def test_an_export_is_whole_or_absent(disk, study, to, steps, monkeypatch, capsys):
    for name in ("MLFLOW_TRACKING_URI", "WANDB_MODE", "WANDB_PROJECT", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    out = disk.place / "out"

    def write():
        if to in ("parquet", "csv", "tensorboard"):
            export_study(study, to, out)
            return
        # in a process of its own: trackers go on with files that are deleted under them, and with runs that failed
        done = lossgauge("export", str(study), "--to", to, "--out", str(out))
        assert done.returncode in (0, 2), done.stderr
        if done.returncode:
            raise StudyError(done.stderr.strip())

    def look():
        # logs of trackers carry times and numbers of their own
        return content(out) if to in ("parquet", "csv") else len(content(out)) > 1

    counts, bad = try_all(disk, write, look, steps=steps)
    if to in ("parquet", "csv"):
        before = content(out)
        disk.room(0)
        with pytest.raises(LossgaugeError):
            write()
        assert content(out) == before
    report_counts(capsys, f"an export to {to}", counts)
    assert not bad


def lossgauge(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "lossgauge", *arguments],
        env={name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
        | {"OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_commands_say_one_line_and_end_with_their_code(disk, study, capsys):
    out, cache = str(disk.place / "out"), str(disk.place / "cache")
    keys = ("datasets=digits", "backbone=pixels", "losses=ccl", "seeds=1", "epochs=1")
    small = [argument for key in keys for argument in ("--set", key)]
    commands = [
        (["study", "demo", *small, "--out", out], 8_192),
        (["report", str(study), "--out", f"{out}.html"], 100_000),
        (["features", "digits", "--backbone", "pixels"], 8_192),
        *((["export", str(study), "--to", to, "--out", out], 8_192) for to in ("parquet", "csv")),
        *(
            (["export", str(study), "--to", to, "--out", out], 60_000)
            for to in ("mlflow", "wandb", "tensorboard")
        ),
    ]
    counts: Counter = Counter()
    bad = []
    for command, free in commands:
        disk.clear()
        disk.room(free)
        done = lossgauge(*command, LOSSGAUGE_CACHE=cache)
        lines = [line for line in done.stderr.splitlines() if line.startswith("lossgauge: ")]
        counts[f"exit code {done.returncode}"] += 1
        # a study whose runs failed for want of room has said so, and ends with 1
        if "Traceback" in done.stderr + done.stdout or not (
            (done.returncode == 2 and len(lines) == 1)
            or (command[0] == "study" and done.returncode == 1)
        ):
            bad.append((command, done.returncode, done.stderr[-2000:], done.stdout[-500:]))
        if command[0] == "export" and len(done.stderr.strip().splitlines()) > 1:
            bad.append((command, "more than a line", done.stderr[-2000:]))
        disk.room(ROOM)
        done = lossgauge(*command, LOSSGAUGE_CACHE=cache)
        counts["then whole"] += not done.returncode
        if done.returncode:
            bad.append((command, "with room", done.returncode, done.stderr[-2000:]))
    report_counts(capsys, f"{len(commands)} commands", counts)
    assert not bad


def test_a_loss_works_and_its_code_is_kept_once_there_is_room(disk, capsys):
    cache = disk.place / "cache"
    counts: Counter = Counter()
    for free in (0, 16_384):
        disk.clear()
        disk.room(free)
        done = lossgauge("check", "arcface", NUMBA_CACHE_DIR=str(cache))
        assert (done.returncode, "BROKEN" in done.stdout) == (0, False)
        counts["works"] += 1
        kept = [path for path in cache.rglob("*") if path.name.startswith("class_rows")]
        assert bool(kept) != bool(done.stderr), done.stderr
        if done.stderr:
            assert len(done.stderr.strip().splitlines()) == 1
            counts["one line"] += 1
        assert not [
            p for p in cache.rglob("*") if p.is_file() and p not in kept and p.name != ".lock"
        ]
        disk.room(ROOM)
        done = lossgauge("check", "arcface", NUMBA_CACHE_DIR=str(cache))
        assert (done.returncode, done.stderr) == (0, "")
        assert [path for path in cache.rglob("*") if path.name.startswith("class_rows")]
        counts["then kept"] += 1
    report_counts(capsys, "compiled code", counts)

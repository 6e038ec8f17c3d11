"""Well-formed hostile content in any file of a study's folder, with right checksums: one line, no traceback, no hang.

The content comes from real records and their models: each value in turn becomes another type, goes, or is doubled.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import lossgauge
from lossgauge.errors import LossgaugeError
from lossgauge.export import export_study
from lossgauge.files import MANIFEST, fingerprint, read_json, write_json
from lossgauge.report.output import write_page
from lossgauge.results.columns import TABLES
from lossgauge.results.reader import read_study
from lossgauge.results.view import StudyView
from lossgauge.study.runner import run_study
from lossgauge.study.status import read_status
from lossgauge.types import Results
from tests.support.stages import finished, quick_plan, stopped, stopped_plan
from tests.support.studies import Quiet

pytestmark = pytest.mark.slow

SECONDS = 120

VALUES: list[Any] = [
    *(None, True, -1, 0, 2**53, 2**70, -(10**300), 1e308, -1e-320, 0.5),
    *("", "x", "nan", "../../../etc/passwd", "/dev/zero", "a\0b", "é\u202e\x1b[31m", "x" * 100_000),
    *([], {}, [[]], [None], {"": {}}, {"a": {"b": {"c": [1, {"d": None}]}}}),
]

TEXTS = {
    "deep lists": "[" * 100_000 + "]" * 100_000,
    "deep mappings": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "NaN": '{"a": NaN}',
    "infinity": '{"a": -Infinity}',
    "beyond float64": '{"a": 1e999}',
    "401 digits": '{"a": ' + "9" * 401 + "}",
    "10,000 digits": '{"a": ' + "9" * 10_000 + "}",
    "half a character": '{"a": "\\ud800", "sha256": "x"}',
    "half a character as a key": '{"\\udfff": 1, "sha256": "x"}',
    "null": "null",
    "a list": "[1]",
    "text": '"study"',
    "nothing": "",
    "schema of any type": '{"schema": {"a": []}}',
    "format of any type": '{"format": [1], "sha256": {}}',
    "byte order mark": "\ufeff{}",
}


class Case(NamedTuple):
    name: str
    apply: Callable[[Path], None]
    """To a copy of the folder."""


def paths_in(record: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Of every value in a record, inner ones too."""
    parts = (
        record.items()
        if isinstance(record, dict)
        else enumerate(record)
        if isinstance(record, list)
        else ()
    )
    for key, part in parts:
        yield (*path, key)
        yield from paths_in(part, (*path, key))


def changed(record: Any, path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    copy = json.loads(json.dumps(record))
    place = copy
    for key in path[:-1]:
        place = place[key]
    change(place, path[-1])
    return copy


def seal(folder: Path) -> None:
    """Write a folder's manifest again, so that it vouches for what is in it."""
    if not (folder / MANIFEST).is_file():
        return
    of = read_json(folder / MANIFEST)["of"]
    files = {
        p.name: fingerprint(p)
        for p in sorted(folder.iterdir())
        if p.is_file() and p.name != MANIFEST
    }
    write_json(folder / MANIFEST, {"of": of, "files": files})


def in_record(
    file: Path, path: tuple[Any, ...], words: str, change: Callable[[Any, Any], None]
) -> Case:
    def apply(folder: Path) -> None:
        record = read_json(folder / file)
        write_json(folder / file, changed(record, path, change))
        if file.name != MANIFEST:
            seal((folder / file).parent)

    return Case(f"{file}: {'.'.join(map(str, path))}: {words}", apply)


def record_cases(source: Path, chance: random.Random) -> Iterator[Case]:
    """Endless: a value of a record becomes another, goes, or gets a neighbour."""
    files = [
        p.relative_to(source) for p in sorted(source.rglob("*.json")) if p.name != "progress.json"
    ]
    records = {file: record for file in files if (record := read_json(source / file))}
    files = list(records)
    # the study's own record has the most to say
    weights = [8 if p.name in ("study.json", "summary.json") else 1 for p in files]
    while True:
        file = chance.choices(files, weights)[0]
        path = chance.choice(list(paths_in(records[file])))
        value = chance.choice(VALUES)
        kind = chance.choices(("other", "gone", "more"), (8, 2, 1))[0]

        def other(place: Any, key: Any, value: Any = value) -> None:
            place[key] = value

        def gone(place: Any, key: Any) -> None:
            del place[key]

        def more(place: Any, key: Any, value: Any = value) -> None:
            if isinstance(place, dict):
                place["more"] = value
            else:
                place.append(value)

        change = {"other": other, "gone": gone, "more": more}[kind]
        yield in_record(file, path, f"{kind} {str(value)[:30]!r}", change)


def text_cases(source: Path) -> Iterator[Case]:
    """Every JSON file as each of TEXTS."""
    seen = set()
    for path in sorted(source.rglob("*.json")):
        file = path.relative_to(source)
        if file.name in seen:
            continue
        seen.add(file.name)
        for name, text in TEXTS.items():

            def apply(folder: Path, file: Path = file, text: str = text) -> None:
                (folder / file).write_text(text)
                if file.name != MANIFEST:
                    seal((folder / file).parent)

            yield Case(f"{file}: {name}", apply)


def tables(table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """What a table may become and still be Parquet."""
    names = table.column_names
    yield "no rows", table.slice(0, 0)
    yield "no columns", table.select([])
    yield "rows twice", pa.concat_tables([table, table])
    yield "turned round", table.take(list(range(table.num_rows))[::-1])
    if not names:
        return
    first = table.column(0)
    yield "a column twice", table.append_column(names[0], first)
    yield "every column twice", pa.Table.from_arrays(table.columns * 2, names * 2)
    yield "first column gone", table.select(names[1:])
    yield "a column without a name", table.append_column("", first)
    for name in (
        "run",
        "seed",
        "epoch",
        "variant",
        "new",
        "test_intra",
        "side",
        "label",
        "recall_at_1",
    ):
        for words, column in (
            ("text", pa.array(["x"] * table.num_rows)),
            ("bytes", pa.array([b"\xff"] * table.num_rows)),
            ("lists", pa.array([[1.0]] * table.num_rows)),
            ("1e308", pa.array([1e308] * table.num_rows)),
            ("unsigned", pa.array([2**64 - 1] * table.num_rows, pa.uint64())),
            ("dates", pa.array([0] * table.num_rows, pa.timestamp("ns"))),
            ("NaN", pa.array([float("nan")] * table.num_rows)),
            ("negative", pa.array([-5] * table.num_rows)),
            ("nulls", pa.nulls(table.num_rows)),
        ):
            kept = [other for other in names if other != name]
            yield f"{name} of {words}", table.select(kept).append_column(name, column)


def table_cases(source: Path) -> Iterator[Case]:
    """Each kind of table of a run that trained, changed."""
    for path in sorted(source.glob("*/*triplet_0*/*.parquet")) + sorted(
        source.glob("partial/*/*/*.parquet")
    ):
        file = path.relative_to(source)
        for words, table in tables(pq.ParquetFile(path).read()):

            def apply(folder: Path, file: Path = file, table: pa.Table = table) -> None:
                pq.write_table(table, folder / file)
                seal((folder / file).parent)

            yield Case(f"{file}: {words}", apply)


def special_cases(source: Path) -> Iterator[Case]:
    """Every file and folder as something that is none."""
    seen = set()
    for path in sorted(source.rglob("*")):
        file = path.relative_to(source)
        if (kind := (file.parts[0], file.name if len(file.parts) > 2 else "")) in seen:
            continue
        seen.add(kind)
        for name, make in SPECIAL.items():

            def apply(folder: Path, file: Path = file, make: Callable[[Path], None] = make) -> None:
                place = folder / file
                shutil.rmtree(place) if place.is_dir() else place.unlink()
                make(place)

            yield Case(f"{file}: {name}", apply)


def _socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the name of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name[:90])
    finally:
        os.chdir(here)


def _huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


SPECIAL: dict[str, Callable[[Path], None]] = {
    "a pipe": os.mkfifo,
    "a folder": lambda path: path.mkdir(),
    "a folder with itself in it": lambda path: (path.mkdir(), (path / "x").symlink_to(path)),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to endless zeros": lambda path: path.symlink_to("/dev/zero"),
    "a file of a terabyte": _huge,
    "an empty file": lambda path: path.touch(),
    "a socket": _socket,
    "not there": lambda path: None,
}


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """TimeoutError in what takes longer."""

    def stop(number: int, frame: object) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def tried(what: str, act: Callable[[], object]) -> str:
    """How it ended: `well`, `line`, or a traceback's last line."""
    try:
        with limited(SECONDS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            act()
    except LossgaugeError as error:
        # the command line joins what the message of a plan's own text breaks
        return (
            "line" if len(str(error)) < 3000 else f"{what}: a line of {len(str(error))} characters"
        )
    except Exception as error:
        import traceback

        where = traceback.extract_tb(error.__traceback__)[-1]
        return (
            f"{what}: {type(error).__name__} at {where.filename}:{where.lineno}: {str(error)[:200]}"
        )
    return "well"


def reads(folder: Path, out: Path, whole: Results) -> dict[str, Callable[[], object]]:
    """What reads a folder. The page of a study that is read as if nothing were changed is known."""

    def report() -> None:
        results = read_study(folder).results
        if results != whole:
            write_page(StudyView(results), out / "report.html")

    return {
        "status": lambda: read_status(folder),
        "report": report,
        "export": lambda: export_study(folder, "csv", out / "csv"),
        "load_study": lambda: [
            getattr(frames, name) for frames in [lossgauge.load_study(folder)] for name in TABLES
        ],
    }


def test_hostile_folders_end_in_one_line_or_well(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("LOSSGAUGE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "done").mkdir()
    (tmp_path / "begun").mkdir()
    done, begun = finished(tmp_path / "done"), stopped(tmp_path / "begun")
    whole = read_study(done).results
    chance = random.Random(0)
    of_done = [
        *chance.sample([*special_cases(done), *text_cases(done)], 150),
        *chance.sample(list(table_cases(done)), 100),
    ]
    of_begun = chance.sample([*special_cases(begun), *table_cases(begun)], 60)
    endless = {source: record_cases(source, chance) for source in (done, begun)}
    of_done += [next(endless[done]) for _ in range(300)]
    of_begun += [next(endless[begun]) for _ in range(40)]
    ends: Counter[str] = Counter()
    bad = []
    for number, (source, case) in enumerate(
        [*((done, case) for case in of_done), *((begun, case) for case in of_begun)]
    ):
        folder = tmp_path / "study"
        shutil.copytree(source, folder, symlinks=True)
        case.apply(folder)
        (tmp_path / "out").mkdir()
        acts = reads(folder, tmp_path / "out", whole) if source is done else {}
        if source is begun or number % 10 == 0:
            plan = (quick_plan if source is done else stopped_plan)(source.parent)
            acts["study"] = partial(run_study, plan, folder, progress=Quiet())
        for what, act in acts.items():
            end = tried(what, act)
            ends[end if end in ("well", "line") else "BAD"] += 1
            if end not in ("well", "line"):
                bad.append((case.name, end))
        shutil.rmtree(tmp_path / "out")
        shutil.rmtree(folder)
    with capsys.disabled():
        print(
            f"\n{len(of_done) + len(of_begun)} hostile folders, ends of what read them: {dict(ends)}"
        )
        for name, end in bad[:40]:
            print(f"  {name}\n    {end}")
    assert not bad

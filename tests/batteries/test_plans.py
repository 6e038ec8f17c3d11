"""Hostile study files: well-formed and not, through the reader and through the command. Prints its counts."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import product
from pathlib import Path

import pytest

from lossgauge.errors import LossgaugeError
from lossgauge.plan.study import Plan, Tune
from lossgauge.plan.yaml_file import load_plan, parse_plan
from lossgauge.study.prepare import check_plan
from tests.support.waiting import PATIENCE

SECONDS = 120

BASE = {
    "datasets": "[digits]",
    "backbone": "pixels",
    "losses": "[triplet]",
    "seeds": "1",
    "epochs": "2",
    "batch_size": "64",
    "learning_rate": "0.001",
}

BOMB = "&a [x, x, x, x, x, x, x, x, x]"
for _level in "bcdefghi":
    BOMB = f"[{BOMB}, &{_level} [{', '.join(['*a'] * 9)}]]"

VALUES = (
    "null",
    "true",
    "''",
    "' '",
    "-1",
    "0",
    "1.5",
    ".nan",
    "-.inf",
    "1e400",
    "9" * 401,
    "9" * 30,
    "[]",
    "{}",
    "[[]]",
    "[null]",
    "[true, {}]",
    "{a: {b: {c: 1}}}",
    "{1: 2}",
    "{null: x}",
    "{name: null}",
    "{name: triplet, settings: null}",
    "{name: triplet, settings: [1]}",
    "[{triplet: {margin: {low: .nan, high: .nan}}}]",
    "[{triplet: {margin: {choices: [[1], [2]]}}}]",
    "[{triplet: {margin: '9e999'}}]",
    "[{triplet: {'': 1}}]",
    "{low: 1, high: 2}",
    "{choices: [1, 2]}",
    "2020-13-45",
    "2020-01-01 00:00:00",
    r'"\ud800"',
    r'["\udfff"]',
    r'"\0"',
    r'["a\0b"]',
    r'"\x1b[2J"',
    "folder:" + "a" * 5_000,
    "[folder:" + "a" * 300 + "]",
    "embeddings:/dev/null",
    "[x.py:Y]",
    "[" + "a" * 300 + ".py:Y]",
    "[/dev/null.py:Y]",
    "[.py:]",
    "[':']",
    "hf:../../x",
    BOMB,
    "*a",
    "!!python/object/apply:os.system [ls]",
    "!!set {a}",
    "!!binary aGk=",
    "{<<: {a: 1}}",
    "[" * 50 + "]" * 50,
    "'" + "x" * 50_000 + "'",
    "[" + ", ".join(map(str, range(9_000))) + "]",
    "[" + "{a: 1}, " * 5_000 + "]",
)

FILES = (
    "",
    "\ufeff",
    "null",
    "- " * 10_000,
    "[" * 60_000,
    "{a: " * 15_000,
    "? " * 30_000,
    "&a " * 20_000,
    "*a",
    "!" * 60_000,
    "%" * 60_000,
    "---\n" * 10_000,
    "\t",
    "'" + "\\n" * 20_000,
    "\n".join(f"k{i}: 1" for i in range(5_000)),
    "a: 1\n" * 10_000,
    "#" * 70_000,
    "x: |\n" + " y\n" * 20_000,
    "x: " + "1_" * 30_000,
    "x: " + "1:" * 30_000 + "1",
)


def in_time(act) -> str:
    """What came of it: `taken`, `refused`, or what must not be."""

    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        act()
    except LossgaugeError as error:
        words = str(error)
        if len(words.splitlines()) != 1 or len(words) > 10_000:
            return f"no line: {words[:80]!r}"
        return "refused"
    except TimeoutError:
        return "HANG"
    except Exception as error:  # the battery counts what gets through
        return f"TRACEBACK {type(error).__name__}: {str(error)[:200]}"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return "taken"


def files_of(folder: Path) -> list[Path]:
    """Every value in the place of every key, one inside others, and whole files."""
    texts = list(FILES)
    for key, value in product(Plan.model_fields, VALUES):
        texts.append("\n".join(f"{k}: {v}" for k, v in {**BASE, key: value}.items()))
    for key, value in product(Tune.model_fields, VALUES):
        texts.append(
            "\n".join(f"{k}: {v}" for k, v in {**BASE, "tune": f"{{{key}: {value}}}"}.items())
        )
    for place, value in product(
        (
            "[{triplet: {margin: %s}}]",
            "[{triplet: {learning_rate: %s}}]",
            "[{%s: {}}]",
            "[{name: %s}]",
        ),
        VALUES,
    ):
        texts.append("\n".join(f"{k}: {v}" for k, v in {**BASE, "losses": place % value}.items()))
    paths = []
    for number, text in enumerate(texts):
        paths.append(folder / f"{number:04}.yaml")
        paths[-1].write_text(text, encoding="utf-8")
    return paths


def check(path: Path) -> None:
    check_plan(load_plan(str(path)))


@pytest.mark.slow
def test_no_study_file_ends_in_a_traceback_or_hangs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    paths = files_of(tmp_path)
    pytest.importorskip(
        "transformers", reason="needs transformers: pip install 'lossgauge[hf]'"
    )  # its import is no study file's time
    ends, slowest = {}, 0.0
    for path in paths:
        began = time.monotonic()
        ends[path] = in_time(lambda path=path: check(path))
        slowest = max(slowest, time.monotonic() - began)
    counts = Counter(end if end in ("taken", "refused") else "wrong" for end in ends.values())
    with capsys.disabled():
        print(f"\n{len(paths)} study files: {dict(counts)}, the slowest {slowest:.1f} s")
    assert len(paths) >= 200
    assert {
        p.read_text()[:300]: end for p, end in ends.items() if end not in ("taken", "refused")
    } == {}


@pytest.mark.slow
def test_no_value_of_set_ends_in_a_traceback_or_hangs(capsys):
    base = "\n".join(f"{key}: {value}" for key, value in BASE.items())
    keys = (
        "question",
        "losses",
        "losses.triplet.margin",
        "tune.trials",
        "a.b",
        "." * 5_000,
        "",
        "losses.",
    )
    overrides = [f"{key}={value}" for key, value in product(keys, VALUES)] + [
        "",
        "=",
        "x",
        "\udcff=1",
    ]
    ends = {o: in_time(lambda o=o: check_plan(parse_plan(base, overrides=[o]))) for o in overrides}
    wrong = {o[:200]: end for o, end in ends.items() if end not in ("taken", "refused")}
    with capsys.disabled():
        print(f"\n{len(overrides)} values of --set: {dict(Counter(ends.values()))}")
    assert wrong == {}


@pytest.mark.slow
def test_the_command_says_one_line_and_ends_with_2(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    paths = [*files_of(tmp_path)[:20:4], tmp_path / "pipe", tmp_path / "folder", Path("/dev/null")]
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "latin.yaml").write_bytes(b"question: \xe9")
    (tmp_path / "utf16.yaml").write_bytes("question: x".encode("utf-16"))
    (tmp_path / "nul.yaml").write_bytes(b"\0" * 1_000)
    (tmp_path / "json.yaml").write_text(json.dumps({"a": [[[[1]]]]}))
    paths += [tmp_path / f"{name}.yaml" for name in ("latin", "utf16", "nul", "json")]
    for path in paths:
        done = subprocess.run(
            [sys.executable, "-m", "lossgauge", "study", str(path)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 2, (path, done.stderr)
        assert len(done.stderr.splitlines()) == 1, (path, done.stderr)
    with capsys.disabled():
        print(f"\n{len(paths)} study files through the command: one line and exit code 2 each")

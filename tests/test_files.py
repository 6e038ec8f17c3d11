import json
import os
import shutil
from contextlib import suppress

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lossgauge.errors import CacheError, DiskError
from lossgauge.files import (
    check_file,
    check_folder,
    fingerprint,
    folder_with_manifest,
    read_json,
    read_rows,
    write_json,
    write_rows,
)

RECORD = {"seed": 0, "loss": "triplet", "margin": 0.1, "more": [1, None, {"a": True}], "é": "ü"}


@pytest.fixture
def path(tmp_path):
    write_json(tmp_path / "record.json", RECORD)
    return tmp_path / "record.json"


def test_a_record_comes_back_as_it_was_written_without_its_checksum(path):
    assert read_json(path) == RECORD
    assert list(json.loads(path.read_text())) == [*RECORD, "sha256"]


def test_a_record_in_another_layout_is_the_same_record(path):
    path.write_text(json.dumps(dict(reversed(json.loads(path.read_text()).items()))))
    assert read_json(path) == RECORD


def test_every_bit_of_a_record_counts(path):
    content = path.read_bytes()
    for place in range(len(content)):
        for bit in range(8):
            path.write_bytes(
                content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]
            )
            with suppress(CacheError):
                assert read_json(path) == RECORD  # a space more or less
    path.write_bytes(content)
    assert read_json(path) == RECORD


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", r"\(it is not valid JSON, line 1\)"),
        ('{"a": 1,\n"b"\n1}', r"\(it is not valid JSON, line 3\)"),
        ("[1]", "it is not a JSON object"),
        ('{"a": 1}', "does not match its checksum"),
        ('{"a": NaN}', "NaN is not a finite number"),
        ('{"a": 1e999}', "1e999 is out of range"),
        ('{"a": ' + "9" * 401 + "}", "99999999999999999999 is out of range"),
        ("[" * 100_000, "nested more than 20 levels deep"),
        ("[" * 30 + "]" * 30, "nested more than 20 levels deep"),
        ('{"a": "\\ud800"}', "an incomplete character"),
    ],
)
def test_the_error_says_why_a_file_is_not_a_record(path, text, why):
    path.write_text(text)
    with pytest.raises(CacheError, match=why):
        read_json(path)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
@pytest.mark.parametrize("read", [read_json, read_rows])
def test_a_pipe_a_folder_and_a_device_are_not_read(tmp_path, make, read):
    make(tmp_path / "it")
    with pytest.raises(CacheError, match="it is not a regular file"):
        read(tmp_path / "it")


def test_a_file_of_a_terabyte_is_not_read(path):
    os.truncate(path, 1 << 40)
    for read in (read_json, read_rows):
        with pytest.raises(CacheError, match=r"it has more than [\d,]+ bytes"):
            read(path)


def test_a_file_name_that_is_not_utf8_is_written_with_a_question_mark(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    write_json(tmp_path / "record.json", {"dataset": name, name: 1})
    assert read_json(tmp_path / "record.json") == {"dataset": "caf?", "caf?": 1}


def test_what_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(DiskError, match="cannot be written: No such file"):
        write_json(tmp_path / "absent" / "x.json", {})


@pytest.fixture
def folder(tmp_path):
    with folder_with_manifest(tmp_path / "run", of="run") as folder:
        write_json(folder / "summary.json", RECORD)
        write_rows(folder / "epochs.parquet", [{"epoch": 0}])
    return tmp_path / "run"


def check(folder):
    check_folder(folder, of="run", needed={"summary.json", "epochs.parquet"})


def flip(path):
    content = path.read_bytes()
    path.write_bytes(content[:30] + bytes([content[30] ^ 1]) + content[31:])


@pytest.mark.parametrize("name", ["summary.json", "epochs.parquet", "manifest.json"])
@pytest.mark.parametrize("act", [flip, os.remove, lambda path: os.truncate(path, 9)])
def test_a_folder_is_what_its_manifest_says_or_it_is_damaged(folder, name, act):
    check(folder)
    act(folder / name)
    with pytest.raises(CacheError, match=rf"{name} is damaged"):
        check(folder)


def test_a_manifest_must_name_all_that_a_folder_needs(folder):
    manifest = read_json(folder / "manifest.json")
    del manifest["files"]["epochs.parquet"]
    write_json(folder / "manifest.json", manifest)
    with pytest.raises(CacheError, match="it does not list every file"):
        check(folder)


def test_a_folder_in_the_place_of_another_is_damaged(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "other")
    with pytest.raises(CacheError, match="it belongs to 'run'"):
        check_folder(tmp_path / "other", of="other", needed=set())


@pytest.mark.parametrize("name", ["../secret", "", "..", "/etc/passwd", "a\0b"])
def test_a_manifest_leads_nowhere_else(folder, name):
    manifest = read_json(folder / "manifest.json")
    manifest["files"][name] = fingerprint(folder / "summary.json")
    write_json(folder / "manifest.json", manifest)
    with pytest.raises(CacheError, match="is not the name of a file in the folder"):
        check(folder)


def test_a_file_of_another_size_is_not_read(path):
    with pytest.raises(CacheError, match="its size differs"):
        check_file(path, {**fingerprint(path), "bytes": 7})


def test_doubled_and_foreign_columns_are_told(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"]), path)
    with pytest.raises(CacheError, match="two columns have the same name"):
        read_rows(path)
    pq.write_table(pa.table({"a": [[1]]}), path)
    with pytest.raises(CacheError, match=r"its column 'a' has the type list<"):
        read_rows(path)


def test_more_rows_than_memory_holds_are_not_made(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"a": pa.nulls(10_000_001)}), path)
    with pytest.raises(CacheError, match="it has more than 10,000,000 rows"):
        read_rows(path)

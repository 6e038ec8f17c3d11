"""Labelled texts of a user."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from lossgauge.data import load_dataset, texts
from lossgauge.errors import DataError
from lossgauge.study.examples.row_source import ImageRows, row_source
from lossgauge.types import FeatureSet

ROWS = [
    {"text": f"text {n}, with a comma", "label": "ab"[n % 2], "split": ("train", "test")[n // 4]}
    for n in range(8)
]


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_each_format_gives_the_same_texts_labels_and_split(tmp_path):
    csv = tmp_path / "t.csv"
    csv.write_text(
        "text,label,split\n"
        + "".join(f'"{row["text"]}",{row["label"]},{row["split"]}\n' for row in ROWS)
    )
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "t.parquet")
    paths = csv, tmp_path / "t.parquet", jsonl(tmp_path / "t.jsonl", ROWS)
    found = [load_dataset(f"texts:{path}") for path in paths]
    for each in found:
        assert [each.read(row).words for row in range(8)] == [row["text"] for row in ROWS]
        assert [each.class_names[label] for label in each.labels] == [r["label"] for r in ROWS]
        assert each.train.tolist() == [0, 1, 2, 3]
        assert (each.kind, each.protocol, each.pairs) == ("texts", "given", None)
    assert len({each.digest for each in found}) == 1


def test_the_source_of_rows_gives_texts_and_no_pictures(tmp_path):
    found = load_dataset(f"texts:{jsonl(tmp_path / 't.jsonl', ROWS)}")
    rows = FeatureSet(
        "t", "b", torch.zeros(8, 2), torch.arange(8), *2 * (torch.arange(4),), "", "", {}
    )
    source = row_source(None, rows, ImageRows(found, None))
    assert source.picture is None
    assert [source.words(row) for row in range(8)] == [row["text"] for row in ROWS]
    assert source.id_of(3) == "3"


def test_equal_texts_are_counted(tmp_path):
    path = jsonl(tmp_path / "t.jsonl", [*ROWS, ROWS[0]])
    assert any(
        "1 of 9 texts repeats an earlier one: the first is" in n
        for n in load_dataset(f"texts:{path}").notes
    )


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"text": " ", "label": "a", "split": "test"}, "line 9, has an empty one"),
        ({"label": "a", "split": "test"}, "line 9, has an empty one"),
        ({"text": "x", "split": "test"}, "line 9 has no label"),
        ({"text": ["x"], "label": "a", "split": "test"}, "must be text in every row, got list"),
        ({"text": "x\ud800", "label": "a", "split": "test"}, "must be valid UTF-8"),
        ({"text": "x", "label": "a", "split": "test", "lable": 1}, "unknown column 'lable'"),
        ({"text": "x", "label": "a", "split": "tset"}, "split must be train or test"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_in_one_line(tmp_path, row, words):
    with pytest.raises(DataError, match=words):
        load_dataset(f"texts:{jsonl(tmp_path / 't.jsonl', [*ROWS, row])}")


def test_other_files_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"must be a .csv, .parquet or .jsonl file"):
        load_dataset(f"texts:{tmp_path / 'x.txt'}")
    (tmp_path / "x.jsonl").write_text("[1]\n")
    with pytest.raises(DataError, match="line 1, cannot be read as JSON: it is a list"):
        load_dataset(f"texts:{tmp_path / 'x.jsonl'}")


def test_texts_without_labels_keep_the_ids_of_their_file(tmp_path):
    rows = [{"_id": f"d{n}", "text": f"text {n % 4}", "url": "x"} for n in range(5)]
    path = jsonl(tmp_path / "t.jsonl", rows)
    assert not texts.has_labels(path)
    found = texts.load_unlabelled(path)
    assert found.ids == ("d0", "d1", "d2", "d3", "d4")
    assert [found.read(row).words for row in range(5)] == [row["text"] for row in rows]
    assert found.notes == (
        f"1 of 5 texts repeats an earlier one: the first is {path}, line 5",
        f"columns of {path} that are not read: url",
    )
    csv = tmp_path / "t.csv"
    csv.write_text("text\none\ntwo\n")
    assert texts.load_unlabelled(csv).ids == ("0", "1")
    with pytest.raises(
        DataError, match="label is missing; only `lossgauge embed` takes texts without labels"
    ):
        load_dataset(f"texts:{csv}")


@pytest.mark.parametrize(
    ("head", "row", "words"),
    [
        ("txt", "a", r"t.csv must have the column text, got txt \(did you mean 'txt'\?\): rename"),
        ("text,id,_id", "a,b,c", "must have one column of ids"),
        ("text,id", "a,", "every row needs an id"),
        ("text,id", '" ",b', "line 2, has an empty one"),
    ],
)
def test_what_is_wrong_with_texts_without_labels_is_said_in_one_line(tmp_path, head, row, words):
    (tmp_path / "t.csv").write_text(f"{head}\n{row}\n")
    with pytest.raises(DataError, match=words):
        texts.load_unlabelled(tmp_path / "t.csv")

import json

import numpy as np
import pytest

from lossgauge.diagnosis.source import from_arrays
from lossgauge.diagnosis.two_tables.judgements import judgements_of
from lossgauge.errors import DataError, InputError

ROWS = [("q1", "d2", 2), ("q0", "d0", 1), ("q1", "d1", 0)]
EXPECTED = ([0, 1, 1], [0, 1, 2], [1, 0, 2])


def sources():
    queries, documents = (from_arrays(np.eye(4)[:count]) for count in (2, 3))
    return (
        queries._replace(ids=np.array(["q0", "q1"])),
        documents._replace(name="corpus", ids=np.array(["d0", "d1", "d2"])),
    )


TEXTS = {
    "trec.qrels": "".join(f"{q} 0 {d} {g}\n" for q, d, g in ROWS),
    "trec.tsv": "".join(f"{q} Q0 {d} {g}\n" for q, d, g in ROWS),
    "beir.tsv": "query-id\tcorpus-id\tscore\n" + "".join(f"{q}\t{d}\t{g}\n" for q, d, g in ROWS),
    "bare.tsv": "".join(f"{q}\t{d}\t{g}\n" for q, d, g in ROWS),
    "other.csv": "\ufeffgrade,document,query\n\n" + "".join(f"{g},{d},{q}\n" for q, d, g in ROWS),
    "lines.jsonl": "".join(
        json.dumps({"query": q, "document": d, "grade": g}) + "\n" for q, d, g in ROWS
    ),
}


@pytest.mark.parametrize("name", TEXTS)
def test_each_format_gives_the_same_judgements(name, tmp_path):
    (tmp_path / name).write_text(TEXTS[name])
    found = judgements_of(tmp_path / name, *sources())
    assert tuple(part.tolist() for part in found[:3]) == EXPECTED
    assert found.right.document.tolist() == [0, 2]


def test_parquet_a_mapping_and_numbers_give_the_same(tmp_path):
    import pyarrow
    import pyarrow.parquet

    columns = dict(zip(("query_id", "doc_id", "relevance"), zip(*ROWS, strict=True), strict=True))
    table = pyarrow.table({name: list(column) for name, column in columns.items()})
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    of = {"q1": {"d2": 2, "d1": 0}, "q0": {"d0": 1}}
    for given in (tmp_path / "x.parquet", of):
        found = judgements_of(given, *sources())
        assert tuple(part.tolist() for part in found[:3]) == EXPECTED
    without = [source._replace(ids=None) for source in sources()]
    found = judgements_of([(1, 2, 2), (0, 0, 1.0), (1, 1, 0)], *without)
    assert tuple(part.tolist() for part in found[:3]) == EXPECTED


def test_a_grade_below_zero_counts_as_zero_and_a_repeat_once():
    found = judgements_of({"q0": {"d0": 1, "d1": -2}}, *sources())
    assert found.grade.tolist() == [1, 0]
    without = [source._replace(ids=None) for source in sources()]
    assert judgements_of([(0, 0), (0, 0), (1, 0)], *without).repeated == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("q0 0 d0 1\nq9 0 d0 1\nq8 0 d0 1\n", "line 2 has query 'q9', and no row of"),
        ("q0 0 d9 1\n", "line 1 has document 'd9', and no row of corpus has this id"),
        ("q0 0 d0 x\n", "a grade must be a number, got 'x'"),
        ("q0 0 d0 nan\n", "a grade must be a number, got 'nan'"),
        ("q0 0 d0 1\nq0 0 d0 2\n", "line 1 and"),
        ("q0 0 d0 1\nq0 0\n", "line 2 has 2 entries, but the first line has 4"),
        ("q0\n", "line 1 has 1 entries"),
        ("q0 0 d0 0\n", "must have a grade above 0"),
        ("", "must hold judgements, got none"),
        ("query document document-id\n", "must have one column of document"),
    ],
)
def test_what_is_no_judgement_is_refused_with_its_line(text, words, tmp_path):
    (tmp_path / "x.qrels").write_text(text)
    with pytest.raises(DataError) as raised:
        judgements_of(tmp_path / "x.qrels", *sources())
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([(0, 1, 2, 3)], "shape"),
        ([(0, 1), (2,)], "equal length"),
        ({"q0": ["d0"]}, "must map a query"),
        ([(0.5, 1)], "has query '0.5'"),
        ([(0, -1)], "has document '-1'"),
        ([(0, np.nan)], "needs a document"),
    ],
)
def test_arrays_that_are_no_judgements_are_refused(given, words):
    with pytest.raises(InputError, match=words):
        judgements_of(given, *(source._replace(ids=None) for source in sources()))


@pytest.mark.parametrize(
    "name", ["none.tsv", "none.parquet", "bad.jsonl", "bad.parquet", "bad.tsv"]
)
def test_a_file_that_cannot_be_read_is_named(name, tmp_path):
    if name.startswith("bad"):
        (tmp_path / name).write_bytes(b"\xff\xfe junk")
    with pytest.raises(DataError, match=name):
        judgements_of(tmp_path / name, *sources())


def test_a_misspelt_column_of_grades_is_refused_and_another_column_is_not(tmp_path):
    rows = "q1,d2,1\nq0,d0,1\n"
    (tmp_path / "x.csv").write_text(f"query,document,garde\n{rows}")
    with pytest.raises(DataError, match="has no column grade, but 'garde': rename it to 'grade'"):
        judgements_of(tmp_path / "x.csv", *sources())
    (tmp_path / "y.csv").write_text(f"query,document,date\n{rows}")
    assert judgements_of(tmp_path / "y.csv", *sources()).grade.tolist() == [1, 1]

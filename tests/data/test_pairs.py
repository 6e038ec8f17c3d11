"""Queries and documents of a user: tables of texts and of vectors, and folders of BEIR."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from lossgauge.data import needs_backbone, pairs
from lossgauge.data.class_balanced import sampled_features
from lossgauge.data.judgements import Judged, pair_rows
from lossgauge.data.pair_splits import components, split_queries, validation_queries
from lossgauge.errors import DataError, InputError


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def parquet(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def words_of(found, row):
    return found.read(int(row)).words


def test_the_rows_of_a_table_say_what_its_lines_say(tmp_path):
    rows = [
        {"query": "a", "positive": "A", "negative": "B"},
        {"query": "b", "positive": "B", "negative": "C"},
        {"query": "a", "positive": "AA", "negative": None},
        {"query": "c", "positive": "C"},
        {"query": "d", "positive": "C"},
    ]
    expected = None
    csv = tmp_path / "x.csv"
    entries = [[row.get(name) or "" for name in ("query", "positive", "negative")] for row in rows]
    csv.write_text("query,positive,negative\n" + "".join(f"{','.join(row)}\n" for row in entries))
    tables = lines(tmp_path / "x.jsonl", rows), parquet(tmp_path / "x.parquet", rows), csv
    for path in tables:
        found = pairs.load(path)
        right = {
            (words_of(found, q), words_of(found, d))
            for q, d in zip(found.pairs.query, found.pairs.document, strict=True)
        }
        wrong = {
            (words_of(found, q), words_of(found, d))
            for q, d in zip(found.pairs.negative_query, found.pairs.negative_document, strict=True)
        }
        assert right == {(row["query"], row["positive"]) for row in rows}
        assert wrong == {("a", "B"), ("b", "C")}
        assert [found.read(row).side for row in (0, 3, 4, 7)] == ["query"] * 2 + ["document"] * 2
        assert sorted(words_of(found, row) for row in found.pairs.corpus) == ["A", "AA", "B", "C"]
        assert found.kind == "texts"
        assert found.ids[0].startswith("query of ")
        sides = {words_of(found, row): found.ids[row].split(" of ")[0] for row in range(3, 8)}
        assert sides == {
            "d": "query",
            "A": "positive",
            "B": "positive",
            "C": "positive",
            "AA": "positive",
        }
        assert found.protocol == "component-disjoint"
        assert any("1 text is right for several queries (2 queries" in n for n in found.notes)
        expected = expected or found.digest
        assert found.digest == expected


def test_vectors_need_no_backbone_and_equal_vectors_are_one_document(tmp_path):
    generator = np.random.default_rng(0)
    documents = generator.standard_normal((6, 4)).astype(np.float32)
    rows = [
        {
            "query": generator.standard_normal(4).tolist(),
            "positive": documents[n % 4].tolist(),
            "negative": documents[4 + n % 2].tolist(),
        }
        for n in range(12)
    ]
    for path in (lines(tmp_path / "x.jsonl", rows), parquet(tmp_path / "x.parquet", rows)):
        assert not needs_backbone(f"pairs:{path}")
        found = pairs.load(path)
        assert found.features.shape == (12 + 6, 4)
        for row in range(12):
            of = found.pairs.document[found.pairs.query == row]
            torch.testing.assert_close(found.features[of][0], torch.tensor(rows[row]["positive"]))
        assert len(found.train) == len(found.test) == 6
        fewer = sampled_features(found, 8)
        assert (len(fewer.train), len(fewer.test)) == (4, 4)
        assert len(fewer.pairs.corpus) == 6


def test_components_and_splits_against_a_loop_over_random_judgements():
    generator = np.random.default_rng(1)
    for _ in range(20):
        queries, documents = 14, 20
        judged = Judged(
            query_text=np.arange(queries),
            document_text=np.minimum(100 + np.arange(documents), 117),
            query=generator.integers(0, queries, 16),
            document=generator.integers(0, documents, 16),
            grade=generator.integers(0, 3, 16).astype(float),
            negative_query=np.empty(0, np.int64),
            negative_document=np.empty(0, np.int64),
        )
        found = pair_rows(judged)
        best = {}
        for q, d, g in zip(judged.query, judged.document, judged.grade, strict=True):
            best[q, d + queries] = max(g, best.get((q, d + queries), 0))
        assert best == {
            (q, d): g
            for q, d, g in zip(
                found.query.tolist(), found.document.tolist(), found.grade.tolist(), strict=True
            )
        }
        labels = components(found)
        color = list(range(queries + documents))
        edges = [pair for pair, grade in best.items() if grade > 0]
        edges += [
            (d, other)
            for _, d in list(edges)
            for _, other in list(edges)
            if found.text[d] == found.text[other]
        ]
        for _ in range(40):
            for one, other in edges:
                color[one] = color[other] = min(color[one], color[other])
        same = np.array(color)[:, None] == np.array(color)[None]
        assert (same == (labels[:, None] == labels[None])).all()
        try:
            split = split_queries(found, labels, None, split=None, seed=0, source="x")
        except DataError:
            continue
        assert not set(labels[split.train]) & set(labels[split.test])
        assert sorted([*split.train, *split.test]) == list(range(queries))


def test_a_validation_slice_holds_whole_components():
    labels = np.repeat(np.arange(30), 3)
    train = np.arange(60)
    rest, validation = validation_queries(labels, train, share=0.2)
    assert len(validation) == 12
    assert not set(labels[rest]) & set(labels[validation])
    with pytest.raises(DataError, match="where two are needed"):
        validation_queries(np.zeros(90, int), train, share=0.2)


def beir(folder, **files):
    folder.mkdir(exist_ok=True)
    (folder / "qrels").mkdir(exist_ok=True)
    corpus = [
        {"_id": f"d{n}", "title": f"T{n}" if n else "", "text": f"body {n}"} for n in range(8)
    ]
    queries = [{"_id": f"q{n}", "text": f"ask {n}"} for n in range(6)]
    lines(folder / "corpus.jsonl", files.get("corpus", corpus))
    lines(folder / "queries.jsonl", files.get("queries", queries))
    for name in ("train", "dev", "test"):
        if rows := files.get(name):
            table = "query-id\tcorpus-id\tscore\n" + "".join(f"{row}\n" for row in rows)
            (folder / "qrels" / f"{name}.tsv").write_text(table)
    return folder


TRAIN = ("q0\td0\t1", "q1\td1\t2", "q1\td2\t0")
TEST = ("q2\td3\t1", "q3\td1\t1", "q4\td5\t0")


def test_a_folder_of_beir_has_its_own_split_grades_and_whole_corpus(tmp_path):
    found = pairs.load(beir(tmp_path / "b", train=TRAIN, test=TEST))
    assert found.ids[:4] == ("query q0", "query q1", "query q2", "query q3")
    assert found.train.tolist() == [0, 1]
    assert found.test.tolist() == [2, 3]
    assert len(found.pairs.corpus) == 8
    assert [words_of(found, row) for row in (4, 5)] == ["body 0", "T1 body 1"]
    assert found.pairs.grade.tolist() == [1, 2, 0, 1, 1]
    notes = "\n".join(found.notes)
    assert "no document is judged right for them (2 of 6 queries): q4, q5" in notes
    assert "1 right document of its split is on both sides: 1 of 2 test queries" in notes


def test_one_file_of_judgements_is_split_by_component(tmp_path):
    rows = [f"q{n}\td{n}\t1" for n in range(6)]
    found = pairs.load(beir(tmp_path / "b", test=rows))
    assert found.protocol == "component-disjoint"
    assert len(found.train) == len(found.test) == 3


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"test": ["q0\td99\t1"]}, r"test.tsv, line 2, names 'd99', which is not in corpus.jsonl"),
        ({"test": ["x\td1\t1"]}, r"names 'x', which is not in queries.jsonl"),
        ({"test": ["q0 d1 1"]}, "line 2, must have a query id, a document id and a grade"),
        ({"test": ["q0\td1\thigh"]}, r"a grade that is a number, .*, got 'q0\\td1\\thigh'"),
        ({"test": ["q0\td1\tinf"]}, "must have a query id, a document id and a grade"),
        ({"test": ["q0\td1\t0"]}, "no query with a right document"),
        ({"train": TRAIN, "test": ["q0\td1\t1"]}, "'q0' has judgements for training and for test"),
        ({"corpus": [{"_id": "d0", "text": " "}], "test": TEST}, "line 1, is empty"),
        ({"corpus": [{"_id": "d", "text": "a"}] * 2, "test": TEST}, "line 2, repeats 'd'"),
        ({"corpus": [{"text": "a"}], "test": TEST}, "every row needs an _id"),
        ({}, r"has no .tsv file"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said_in_one_line(tmp_path, files, words):
    with pytest.raises(DataError, match=words):
        pairs.load(beir(tmp_path / "b", **files))


GOOD = [{"query": f"q{n}", "positive": f"p{n}"} for n in range(6)]
VECTORS = [{"query": [1.0, n], "positive": [2.0, n]} for n in range(6)]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([*GOOD, {"query": "q1", "positive": "x", "negative": "p1"}], r"x.jsonl, line 2, has it as positive and .*x.jsonl, line 7, as negative of the same query: remove"),
        ([*GOOD, {"query": "q9", "positive": "p1 "}, {"query": " ", "positive": "p"}], "line 8, has an empty one"),
        ([*GOOD, {"query": "q9"}], "text in positive, but .*line 7, has an empty one"),
        ([{"query": "a", "postive": "b"}], r"positive is missing \(did you mean 'postive'"),
        ([{"anchor": "a", "positive": "b"}], "query is missing: rename anchor to query"),
        ([{"question": "a", "answer": "b"}], "rename question to query and answer to positive"),
        ([*GOOD, {"query": 3, "positive": "p"}], "query must be text in every row, got int"),
        ([*GOOD, {"query": "x", "positive": "y" * 1_000_001}], "at most 1,000,000 characters"),
        ([{**row, "split": "train"} for row in GOOD], "each side of a split needs two queries"),
        ([{**row, "split": "dev"} for row in GOOD], "split must be train or test"),
        ([{"query": f"q{n}", "positive": "p"} for n in range(6)], "6 of its 6 queries are connected"),
        ([*({**r, "split": "train"} for r in GOOD), {**GOOD[0], "split": "test"}], "all rows of a query must have one split"),
        ([*VECTORS, {"query": [1.0], "positive": [1.0, 2.0]}], "query has 1 numbers in .*line 7"),
        ([*VECTORS, {"query": "text", "positive": [1.0, 2.0]}], "must be a list of floats in every row"),
        ([*VECTORS, {"query": [1.0, float("nan")], "positive": [1.0, 2.0]}], "must be finite"),
        ([*VECTORS, {"query": [0.0, 0.0], "positive": [1.0, 2.0]}], "is all zeros"),
        ([], "is empty"),
        ([{"question": "a", "answer": "b"}], "both are missing, got question, answer: rename"),
        (GOOD[:1], "has 1 query: at least 4 are needed"),
        (GOOD[:3], "has 3 queries: at least 4 are needed"),
        ("query,positive\n", "x.csv has no rows"),
        ("query;positive\na;b\n", "'query;positive': .*semicolons, save it with commas"),
        ("query;positive\na,b;c\n", "line 2, must have 1 entries.*semicolons, save it with commas"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_table_is_said_in_one_line(tmp_path, rows, words):
    if isinstance(rows, str):
        (file := tmp_path / "x.csv").write_text(rows)
    else:
        file = lines(tmp_path / "x.jsonl", rows)
    with pytest.raises(DataError, match=words):
        pairs.load(file)


def test_widths_differ_between_columns_or_rows_of_a_parquet_file(tmp_path):
    wide = [{**row, "positive": [1.0, 2.0, 3.0]} for row in VECTORS]
    with pytest.raises(DataError, match=r"positive has 3 numbers in .*row 0, and query has 2"):
        pairs.load(parquet(tmp_path / "x.parquet", wide))
    ragged = [*VECTORS, {**VECTORS[0], "query": [1.0]}]
    with pytest.raises(DataError, match="row 6 has 1 numbers and row 0 has 2"):
        pairs.load(parquet(tmp_path / "x.parquet", ragged))
    some = [{**row, "negative": [5.0, 6.0] if n else None} for n, row in enumerate(VECTORS)]
    assert len(pairs.load(parquet(tmp_path / "x.parquet", some)).pairs.negative_query) == 5


def test_groups_stay_together_and_must_not_be_on_both_sides(tmp_path):
    rows = [{**row, "group": number // 2} for number, row in enumerate(GOOD)]
    found = pairs.load(lines(tmp_path / "x.jsonl", rows))
    assert found.labels[:6].tolist() == [0, 0, 1, 1, 2, 2]
    assert not set(found.labels[found.train]) & set(found.labels[found.test])
    sides = [{**row, "split": ("train", "test")[n % 2]} for n, row in enumerate(rows)]
    with pytest.raises(DataError, match="a group must be on one side"):
        pairs.load(lines(tmp_path / "y.jsonl", sides))


def test_other_columns_and_repeated_rows_are_noted(tmp_path):
    rows = [{**row, "score": 1} for row in (*GOOD, GOOD[0])]
    notes = "\n".join(pairs.load(lines(tmp_path / "x.jsonl", rows)).notes)
    assert "1 row repeats a query with the same positive, the first is" in notes
    assert "that are not read: score" in notes


def test_broken_json_names_the_line_and_a_wrong_split_the_known_ones(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"query": "a", "positive": "b"}\n{oops\n')
    with pytest.raises(
        DataError, match=r"x.jsonl, line 2, cannot be read as JSON: [^:]* at character 2$"
    ):
        pairs.load(path)
    path.write_bytes(b'{"query": "a"}\n\n{"query": "\xe4"}\n')
    with pytest.raises(DataError, match=r"x.jsonl, line 3, is not UTF-8"):
        pairs.load(path)
    with pytest.raises(InputError, match="unknown split of queries"):
        pairs.load(lines(path, GOOD), split="halves")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('a,b\n\nc,"d\n', "x.csv that begins in line 4 cannot be read as CSV"),
        ('a,"b\nb"\n"c"d,e\n', "x.csv that begins in line 4 cannot be read as CSV"),
        ("a,b\nc\n", "x.csv, line 3, must have 2 entries"),
    ],
)
def test_a_broken_csv_names_the_line(tmp_path, body, words):
    (tmp_path / "x.csv").write_text("query,positive\n" + body)
    with pytest.raises(DataError, match=words):
        pairs.load(tmp_path / "x.csv")


def test_white_space_does_not_make_another_text(tmp_path):
    wrong = [*GOOD, {"query": " q1", "positive": "x", "negative": "p1\n"}]
    with pytest.raises(DataError, match=r"line 2, has it as positive and .*line 7, as negative"):
        pairs.load(lines(tmp_path / "x.jsonl", wrong))
    rows = [*GOOD, {"query": "q9", "positive": " p1  "}, {"query": "q1 ", "positive": "p 1"}]
    found = pairs.load(lines(tmp_path / "y.jsonl", rows))
    assert sorted(words_of(found, row) for row in found.pairs.corpus) == [
        "p 1",
        *sorted(r["positive"] for r in GOOD),
    ]
    assert len(found.pairs.text) - len(found.pairs.corpus) == 7
    notes = "\n".join(found.notes)
    assert (
        "2 entries differ from another text only in white space and count as that text: the first is query of"
        in notes
    )
    assert (
        "1 text is right for several queries (2 queries have one; for example positive of line 2)"
        in notes
    )


def test_white_space_does_not_make_another_text_in_a_folder_and_every_id_stays(tmp_path):
    corpus = [{"_id": f"d{n}", "text": "body " + n * " " + "1"} for n in range(2)]
    corpus += [{"_id": f"d{n}", "text": f"body {n}"} for n in range(2, 8)]
    found = pairs.load(beir(tmp_path / "b", corpus=corpus, train=TRAIN, test=TEST))
    assert found.own_ids == ("q0", "q1", "q2", "q3", *(f"d{n}" for n in range(8)))
    assert found.pairs.text[4] == found.pairs.text[5] != found.pairs.text[6]
    assert any(
        "1 document repeats the text of another document: document d1" in n for n in found.notes
    )
    # q0 trains with d0, q3 is tested with d1, which is the same text
    assert any("1 right document of its split is on both sides" in n for n in found.notes)


def test_a_column_that_is_nearly_a_known_one_is_named_with_it(tmp_path):
    rows = [{**row, "negativ": "n", "score": 1} for row in GOOD]
    notes = "\n".join(pairs.load(lines(tmp_path / "x.jsonl", rows)).notes)
    assert "x.jsonl that are not read: negativ (did you mean 'negative'?), score" in notes


def test_a_repeated_judgement_is_named(tmp_path):
    found = pairs.load(beir(tmp_path / "b", train=TRAIN, test=(*TEST, "q2\td3\t1")))
    assert any(
        "1 judgement repeats an earlier one" in n and "test.tsv, line 5" in n for n in found.notes
    )


def test_a_grade_below_0_is_not_right_and_the_first_is_named(tmp_path):
    found = pairs.load(beir(tmp_path / "b", train=TRAIN, test=(*TEST, "q2\td5\t-1")))
    assert any(
        "1 judgement has a grade below 0" in n and "test.tsv, line 5" in n for n in found.notes
    )
    assert float(found.pairs.grade.min()) >= 0

import json
import math
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import save_file

import lossgauge as lg
from lossgauge.diagnosis.measure import diagnose
from lossgauge.errors import DataError, InputError
from tests.diagnosis.tables import table


def levels(of):
    return {finding.name: finding.level for finding in of.findings}


def test_numbers_are_those_of_the_functions_that_measure_them():
    rows, labels = table(norms=True)
    of = diagnose(rows, labels)
    unit = rows.astype(float) / np.linalg.norm(rows.astype(float), axis=1, keepdims=True)
    measured = lg.geometry(unit, labels)
    for name in ("intra", "inter", "offset", "cdnv", "effective_rank", "uniformity", "margin"):
        assert getattr(of.geometry, name) == pytest.approx(getattr(measured, name), rel=1e-9), name
    assert torch.equal(of.geometry.per_class.label, measured.per_class.label)
    for ranked, similarity in zip(of.ranked, ("cosine", "dot"), strict=True):
        found = lg.retrieval(rows, labels, similarity=similarity)
        assert ranked.similarity == similarity
        for k, value in ranked.recall_at.items():
            assert value.mean == pytest.approx(found.recall_at[k])
        assert ranked.map_at_r.mean == pytest.approx(found.map_at_r)
        assert ranked.r_precision.mean == pytest.approx(found.r_precision)
        assert ranked.recall_at[1].half_width > 0
    assert of.spectrum.effective_rank == of.geometry.effective_rank
    assert (of.hubness.k, of.hubness.row_count, of.hubness_intervals) == (10, 200, {})
    assert of.norms.least == pytest.approx(np.linalg.norm(rows.astype(float), axis=1).min())


def test_the_similarity_is_only_doubled_where_norms_differ():
    assert [one.similarity for one in diagnose(*table()).ranked] == ["cosine"]


def test_a_sample_of_queries_finds_what_a_search_of_all_rows_finds():
    rows, labels = table(classes=10, size=60, norms=True)
    rows[7] = 0
    every, some = diagnose(rows, labels), diagnose(rows, labels, queries=90)
    assert len(some.search.rows) in (89, 90)
    places = np.searchsorted(every.search.rows, some.search.rows)
    assert np.array_equal(some.search.neighbors, every.search.neighbors[places])
    for name in ("similarity", "right", "wrong"):
        one, other = getattr(some.search, name), getattr(every.search, name)[places]
        assert np.allclose(one, other, rtol=0, atol=1e-13), name
    hit = labels[every.search.neighbors[places]] == labels[some.search.rows][:, None]
    assert some.ranked[0].recall_at[4].mean == pytest.approx(hit[:, :4].any(axis=1).mean())
    assert some.ranked[0].map_at_r is None
    assert [one.similarity for one in some.ranked] == ["cosine", "cosine", "dot"]
    for name in ("intra", "inter", "offset", "effective_rank", "cdnv"):
        one, other = getattr(some.geometry, name), getattr(every.geometry, name)
        assert one == pytest.approx(other, rel=1e-5), name
    assert some.thresholds == every.thresholds
    assert some.hubness_intervals["skew"].over == "new samples of 599 rows"


@pytest.fixture
def formats(tmp_path):
    """The same table in every format."""
    rows, labels = table()
    words = np.array([f"class {label}" for label in labels])
    sides = np.where(np.arange(200) % 2, "train", "test")
    np.savez(tmp_path / "x.npz", embeddings=rows, labels=words, split=sides)
    for name, array in (("x", rows), ("x.labels", words), ("x.split", sides)):
        (tmp_path / "npy").mkdir(exist_ok=True)
        np.save(tmp_path / "npy" / f"{name}.npy", array)
    (tmp_path / "st").mkdir()
    save_file({"embeddings": rows}, tmp_path / "st" / "x.safetensors")
    for name, array in (("x.labels", words), ("x.split", sides)):
        np.save(tmp_path / "st" / f"{name}.npy", array)
    columns = {"embeddings": rows.tolist(), "labels": words.tolist(), "split": sides.tolist()}
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    (tmp_path / "folder").mkdir()
    for number, part in enumerate(np.split(np.arange(200), [30, 31, 120])):
        parts = {"embeddings": rows[part], "labels": words[part], "split": sides[part]}
        np.savez(tmp_path / "folder" / f"{number}.npz", **parts)
    return [
        tmp_path / name
        for name in ("x.npz", "npy/x.npy", "st/x.safetensors", "x.parquet", "folder")
    ]


def test_every_format_gives_the_same(formats):
    found = [diagnose(path) for path in formats]
    first = found[0].plain
    # text is sorted: class 0, class 12, class 15, …
    assert first["class_names"]["2"] == "class 15"
    for of in found[1:]:
        plain = of.plain | {"name": first["name"]}
        for key, value in plain.items():
            if key in ("geometry", "spectrum", "norms", "findings"):  # merged from several files
                assert json.dumps(value)[:40] == json.dumps(first[key])[:40]
            else:
                assert value == first[key], (of.name, key)
        assert of.geometry.intra == pytest.approx(found[0].geometry.intra, rel=1e-12)
        assert of.spectrum.effective_rank == pytest.approx(
            found[0].spectrum.effective_rank, rel=1e-12
        )


def test_without_labels_all_that_needs_none_is_measured(tmp_path):
    rows, labels = table()
    np.save(tmp_path / "x.npy", rows)
    of, with_labels = diagnose(tmp_path / "x.npy"), diagnose(rows, labels)
    assert of.hubness == with_labels.hubness
    assert of.spectrum.effective_rank == pytest.approx(with_labels.spectrum.effective_rank)
    assert of.geometry.uniformity == with_labels.geometry.uniformity
    assert of.geometry.offset == pytest.approx((rows.mean(axis=0) ** 2).sum(), rel=1e-5)
    assert math.isnan(of.geometry.intra)
    assert (of.ranked, of.thresholds, of.open_set, of.label_errors) == ((), None, None, None)
    assert (of.class_count, of.confused) == (0, ())
    assert "no array or column 'labels'" in of.notes[0]
    assert of.plain["geometry"]["intra"] is None
    assert "retrieval" not in str(of)


@pytest.mark.parametrize(
    ("labels", "words"),
    [(np.zeros(200, int), "all rows have one label"), (np.arange(200), "its own label")],
)
@pytest.mark.parametrize("queries", [None, 20])
def test_labels_that_compare_nothing_are_said(labels, words, queries):
    of = diagnose(table()[0], labels, queries=queries)
    assert words in of.notes[0]
    assert (of.ranked, of.thresholds) == ((), None)
    assert of.hubness is not None


@pytest.mark.parametrize("rows", [2, 3, 5])
def test_a_few_rows_are_measured(rows):
    of = diagnose(np.eye(rows, 4) + 0.1, np.arange(rows) % 2)
    assert of.hubness is None
    assert str(of)
    json.dumps(of.plain, allow_nan=False)


def test_rows_of_zeros_are_left_out_and_counted():
    rows, labels = table(noise=1.5)
    gap = rows.copy()
    gap[[4, 90]] = 0
    of = diagnose(gap, labels)
    keep = np.setdiff1d(np.arange(200), [4, 90])
    without = diagnose(rows[keep], labels[keep])
    assert of.geometry.intra == pytest.approx(without.geometry.intra, rel=1e-12)
    assert of.ranked == without.ranked
    assert of.notes == (
        "2 of 200 rows are all zeros and are left out, the first is embeddings, row 4",
    )
    assert np.array_equal(of.search.rows, keep)
    assert of.copies.row_count == 198
    # numbers of rows are those of the file
    assert of.confused[0].rows == tuple(keep[list(without.confused[0].rows)])


def test_faults_are_found_by_name():
    rows, labels = table(noise=0.3)
    assert set(levels(diagnose(rows, labels)).values()) == {"ok"}
    wrong = labels.copy()
    wrong[:20] = (wrong[:20] + 3) % 24
    assert levels(diagnose(rows, wrong))["label-errors"] != "ok"
    copied = rows.copy()
    copied[:40] = copied[40:80]
    of = diagnose(copied, np.concatenate([labels[40:80], labels[40:]]))
    assert levels(of)["copies"] == "act"
    assert of.copies.inside_classes == 40
    assert levels(diagnose(rows + 2, labels))["cone"] == "act"
    assert levels(diagnose(np.ones_like(rows), labels)) == {"collapse": "act"} | {
        name: level
        for name, level in levels(diagnose(np.ones_like(rows), labels)).items()
        if name != "collapse"
    }
    long = rows * np.where(np.arange(200) % 20 == 0, 20, 1)[:, None]
    assert levels(diagnose(long, labels))["norms"] == "act"


def test_copies_across_the_split_are_found(tmp_path):
    rows, labels = table()
    rows[150] = rows[1]
    np.savez(
        tmp_path / "x.npz",
        embeddings=rows,
        labels=labels,
        split=np.where(np.arange(200) < 100, "train", "test"),
    )
    of = diagnose(tmp_path / "x.npz")
    assert (of.copies.across_split, of.copies.row.tolist(), of.copies.of.tolist()) == (
        1,
        [150],
        [1],
    )
    assert "1 across the split" in str(of)


def test_classes_are_named_where_they_have_names(tmp_path):
    rows, labels = table(noise=1.2)
    np.savez(tmp_path / "x.npz", embeddings=rows, labels=np.array(list("abcdefgh"))[labels // 3])
    assert "of class a are nearest to class" in str(diagnose(tmp_path / "x.npz"))


@pytest.mark.parametrize("kind", [np.asarray, list, pd.Series, lambda words: words.astype(object)])
def test_text_labels_keep_their_names_as_those_of_a_file(tmp_path, kind):
    rows, labels = table(noise=1.2, size=10)
    words = np.array(list("hgfedcba"))[labels // 3]
    np.savez(tmp_path / "x.npz", embeddings=rows, labels=words)
    of, file = diagnose(rows, kind(words), against=rows[:, :5]), diagnose(tmp_path / "x.npz")
    assert of.class_names == file.class_names == dict(enumerate("abcdefgh"))
    assert of.ranked == file.ranked
    assert re.search("of class [a-h] are nearest to class [a-h],", str(of))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["a", "b", None], "labels, row 2 has no label"),
        (["a", "b", 3], "all whole numbers or all text, got int and str"),
        (["a", "b"], "3 embeddings and 2 labels"),
        ([["a"], ["b"], ["c"]], "labels must be"),
        (["a", "é", "e\u0301"], "two Unicode forms"),
    ],
)
def test_text_labels_that_are_not_one_for_each_row_are_refused(given, words):
    with pytest.raises((DataError, InputError), match=words):
        diagnose(np.eye(3), given)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"embeddings": np.ones((3, 2)), "labels": np.array([0, 1])}, r"labels has shape \(2,\)"),
        ({"embeddings": np.ones((1, 2)), "labels": np.array([0])}, r"at least two, got shape \(1, 2\)"),
        ({"embeddings": np.ones(4), "labels": np.zeros(4, int)}, r"\(rows, width\) array"),
        ({"embeddings": np.array([["a"]]), "labels": np.zeros(1, int)}, r"must be numbers, got <U1"),
        ({"embeddings": np.ones((2, 2)), "labels": np.array([0, None])}, r"labels\.astype\(str\)"),
        ({"embeddings": np.ones((2, 2)), "labels": np.array([0, np.nan])}, "row 1 has no label"),
        ({"embeddings": np.ones((2, 2)), "labels": np.array(["a", ""])}, "row 1 has no label"),
        ({"embeddings": np.ones((2, 2)), "labels": np.array([0.5, 1])}, r"whole numbers or all text, got float, .*convert them, as with labels\.astype\(int\)$"),
        ({"embeddings": np.ones((3, 2)), "labels": np.zeros((3, 1), int)}, r"labels has shape \(3, 1\): flatten them with \.ravel\(\)$"),
        ({"embeddings": np.ones((3, 2)), "labels": np.eye(3, dtype=int)}, r"labels has shape \(3, 3\): if these are one-hot rows, take \.argmax\(1\)$"),
        ({"z": np.ones((2, 2))}, r"must contain the array 'embeddings', got 'z'; set embeddings_name \(--embeddings-name\) for other names$"),
        ({"embeddings": np.ones((2, 2)), "labels": np.array([1, 2**63], np.uint64)}, r"must be between .* got 9223372036854775808"),
        ({"embeddings": np.ones((2, 2)), "split": np.array(["train", "dev"])}, "got 'dev' in .*row 1"),
        ({"z": np.ones((2, 2)), "y": np.zeros(2)}, "--embeddings-name"),
        ({"embeddings": np.zeros((3, 2))}, "all 3 rows are zero"),
        ({"embeddings": np.array([[0, 0], [1, 0]])}, "all rows but one are zero"),
        ({"embeddings": np.array([[1, 2], [np.nan, 0]])}, "row 1 holds NaN"),
    ],
)  # fmt: skip
def test_bad_files_are_one_clear_line(tmp_path, arrays, words):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises((DataError, InputError), match=words) as caught:
        diagnose(tmp_path / "x.npz")
    assert "\n" not in str(caught.value)
    assert "x.npz" in str(caught.value) or "labels" in str(caught.value)


def test_a_column_for_each_number_is_answered_with_what_a_column_must_hold(tmp_path):
    columns = {f"e{number}": [0.1, 0.2] for number in range(64)}
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    with pytest.raises(
        DataError,
        match=r"the column 'embeddings', got 'e0', .* and 56 more; the embeddings must be one column with a list",
    ) as caught:
        diagnose(tmp_path / "x.parquet")
    assert len(str(caught.value).replace(str(tmp_path), "")) < 330


@pytest.mark.parametrize("name", ["x.pt", "x.csv"])
def test_what_is_read_is_said_for_other_formats(tmp_path, name):
    (tmp_path / name).write_text("1,2\n")
    with pytest.raises(
        DataError, match=r"known: \.npz, \.npy, \.safetensors, \.parquet.*numpy\.savez"
    ):
        diagnose(tmp_path / name)


def test_wrong_arguments_are_one_clear_line(tmp_path):
    rows, labels = table()
    np.savez(tmp_path / "x.npz", embeddings=rows, y=labels)
    with pytest.raises(InputError, match="at least 1, got 0"):
        diagnose(rows, labels, queries=0)
    for seed in (-1, 2**63, 0.5, True):
        with pytest.raises(
            InputError, match=r"seed must be a whole number from 0 to 2\^63 - 1, got"
        ):
            diagnose(rows, labels, seed=seed)
    with pytest.raises(InputError, match=r"a whole number, at least 1, got 2\.5"):
        diagnose(rows, labels, queries=2.5)
    assert diagnose(rows, labels, seed=2**63 - 1).thresholds
    with pytest.raises(InputError, match="read from the file"):
        diagnose(tmp_path / "x.npz", labels)
    with pytest.raises(InputError, match="local or ray, got 'spark'"):
        diagnose(rows, labels, engine="spark")
    with pytest.raises(DataError, match=r"'who'.*--labels-name"):
        diagnose(tmp_path / "x.npz", labels_name="who")
    assert diagnose(tmp_path / "x.npz", labels_name="y").ranked
    for number, width in enumerate((3, 4)):
        np.save(tmp_path / f"{number}.npy", np.ones((5, width)))
    (tmp_path / "x.npz").unlink()
    with pytest.raises(
        DataError, match=r"same width, but .*1\.npy has embeddings of shape \(5, 4\)"
    ):
        diagnose(tmp_path)


def test_the_function_is_public_and_takes_tensors():
    rows, labels = table()
    of = lg.diagnose(torch.from_numpy(rows), torch.from_numpy(labels))
    assert of.ranked == lg.diagnose(rows.tolist(), labels.tolist()).ranked
    half = lg.diagnose(torch.from_numpy(rows).bfloat16(), labels)
    assert half.ranked[0].recall_at[1].mean == pytest.approx(
        of.ranked[0].recall_at[1].mean, abs=0.05
    )


def test_a_sample_of_rows_of_zeros_has_no_query():
    rows, labels = table()
    rows[lg.diagnose(rows, labels, queries=2).search.rows] = 0
    of = lg.diagnose(rows, labels, queries=2)
    assert (len(of.search.rows), of.ranked[0].query_count) == (0, 0)
    assert "retrieval by cosine: R@1 —" in str(of)
    json.dumps(of.plain, allow_nan=False)


@pytest.mark.parametrize("queries", [None, 150])
def test_the_norms_are_judged_by_the_paired_difference(queries):
    rows, labels = table(noise=1.0, norms=True)
    of = diagnose(rows, labels, queries=queries)
    unit = rows / np.linalg.norm(rows.astype(float), axis=1, keepdims=True)
    change = []
    for query in range(200):
        nearest = []
        for table_ in (unit, rows.astype(float)):
            scores = table_ @ table_[query]
            scores[query] = -np.inf
            nearest.append(labels[scores.argmax()] == labels[query])
        change.append(float(nearest[0]) - float(nearest[1]))
    half = 1.971957 * np.std(change, ddof=1) / 200**0.5  # t of 199 degrees
    (found,) = (one for one in of.findings if one.name == "norms")
    assert f"difference {100 * np.mean(change):.1f} ± {100 * half:.1f} points" in found.evidence


@pytest.mark.parametrize(("classes", "size", "queries"), [(5, 12, None), (12, 5, 40)])
def test_the_names_of_the_classes_change_no_number(classes, size, queries):
    rows, labels = table(classes=classes, size=size, noise=0.9, norms=True)
    turned = labels.max() - labels
    other = rows + 0.3 * np.random.default_rng(1).normal(size=rows.shape).astype(np.float32)
    one, two = (
        diagnose(rows, given, queries=queries, against=other).plain for given in (labels, turned)
    )
    assert one["thresholds"]["eer"]["half_width"] > 0
    for of in (one, two):  # sums over classes in another order
        (
            of.pop("geometry"),
            of.pop("findings"),
            of["against"].pop("after"),
            of["against"].pop("numbers"),
        )
        of["confused"] = of["label_errors"] = of["against"]["classes_worse"] = None
        of["copies"].pop("by_class")
        of["spectrum"] = None
    assert one == two


def test_rows_of_any_size_in_float64_are_those_of_ordinary_size():
    rows, labels = table(norms=True, size=8)
    rows = rows.astype(float)
    one = diagnose(rows, labels)
    for power in (990, -990):
        other = diagnose(np.ldexp(rows, power), labels)
        assert other.ranked == one.ranked
        assert other.thresholds.eer.mean == pytest.approx(one.thresholds.eer.mean, rel=1e-9)
        assert other.norms.most == np.ldexp(one.norms.most, power)


def test_a_threshold_for_each_class_is_left_out_where_few_rows_choose_it():
    of = diagnose(*table(classes=6, size=9))
    assert of.thresholds.per_class_gain is None
    assert "too few rows of each class (54 rows of 6 classes) to try a threshold for each" in str(
        of
    )
    assert "a threshold for each class changes that by" in str(diagnose(*table(classes=6, size=10)))


def test_tables_of_few_rows_are_not_judged_as_a_whole():
    rows, labels = table(noise=3.0)
    for count in (2, 5, 10, 19):
        found = levels(diagnose(rows[:count] + 1, labels[:count] % 2))
        assert not {"cone", "not-separated", "few-directions"} & set(found)
    assert levels(diagnose(rows[:20] + 1, labels[:20] % 2))["cone"] != "ok"

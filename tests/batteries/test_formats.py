"""Formats × names × types × byte orders: each is read with the right values, or refused in one clear line."""

import itertools
import os
import unicodedata
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from lossgauge.backbones import load_backbone
from lossgauge.data import embeddings, folder
from lossgauge.data.features import features
from lossgauge.errors import LossgaugeError
from tests.support.given_rows import read_embeddings

pytestmark = pytest.mark.slow

SUFFIXES = (
    "", ".jpg", ".JPG", ".jpeg", ".jfif", ".jpe", ".jp2", ".png", ".PNG", ".webp", ".tif", ".gif", ".bmp", ".ppm",
    ".avif", ".ico", ".tga", ".txt", ".dat", ".jpg.bak", ".heic",
)  # fmt: skip
REFUSED = {"EPS", "PDF", "SPIDER", "IM", "PALM"}
"""What Pillow writes and we do not read."""
UNMARKED = {"TGA", "DIB", "PCX"}
"""Read by their own suffix, or another one of an image; their bytes have no mark."""


def ramp() -> Image.Image:
    shades = np.add.outer(np.arange(0, 128, 8), np.arange(0, 128, 8)).astype(np.uint8)
    return Image.fromarray(np.stack([shades, shades // 2, 255 - shades], axis=-1))


def written(kind: str, path: Path) -> bool:
    """Whether Pillow can write the ramp so."""
    image = ramp()
    if kind in ("MSP", "XBM"):
        image = image.convert("1")
    if kind in ("PALM", "BLP", "GIF"):
        image = image.convert("P")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.save(path, format=kind)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError):
        return False
    return True


def one_line(error: Exception) -> bool:
    return isinstance(error, LossgaugeError) and "\n" not in str(error).strip()


def test_every_image_format_under_every_name(tmp_path, capsys):
    Image.init()
    for label in ("ant", "bee"):
        (tmp_path / "set" / label).mkdir(parents=True)
        for number in range(4):
            ramp().save(tmp_path / "set" / label / f"{number}.png")
    counts: Counter[str] = Counter()
    wrong = []
    for kind in sorted(Image.SAVE):
        source = tmp_path / "source"
        if not written(kind, source):
            counts["not written by this Pillow"] += 1
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            own = Image.registered_extensions()
        suffixes = (*SUFFIXES, *[suffix for suffix, name in own.items() if name == kind][:1])
        for suffix in suffixes:
            path = tmp_path / "set" / "ant" / f"new{suffix}"
            path.write_bytes(source.read_bytes())
            images = folder.load(tmp_path / "set")
            name, listed = f"ant/new{suffix}", f"ant/new{suffix}" in images.ids
            where = f"{kind} as {path.name}"
            if not listed:
                # named, and only what is not ours to read
                named = any(name in note for note in images.notes)
                expected = kind in REFUSED | UNMARKED
                counts["left out and named"] += 1
                wrong += [] if named and expected else [f"{where} is left out"]
            else:
                try:
                    found = np.asarray(images.read(images.ids.index(name)).convert("RGB"))
                    with Image.open(source) as image:
                        wanted = np.asarray(image.convert("RGB"))
                    counts["read"] += 1
                    off = np.abs(found.astype(int) - wanted).max()
                    wrong += [] if off == 0 else [f"{where} is off by {off}"]
                except LossgaugeError as error:
                    counts["refused in a line"] += 1
                    wrong += [] if one_line(error) and kind in REFUSED else [f"{where}: {error}"]
            path.unlink()
    with capsys.disabled():
        print(f"\nimage formats × names: {dict(counts)}, wrong: {len(wrong)}")
    assert not wrong, wrong
    assert counts["read"] > 300


def test_images_that_are_cut_or_changed(tmp_path, capsys):
    """Every prefix and some flips of a file of each common kind: skipped and named, or read; never a traceback."""
    generator = np.random.default_rng(0)
    (tmp_path / "set" / "ant").mkdir(parents=True)
    (tmp_path / "set" / "bee").mkdir()
    for number in range(8):
        ramp().save(tmp_path / "set" / ("ant", "bee")[number % 2] / f"{number}.png")
    counts: Counter[str] = Counter()
    for kind in (
        "JPEG",
        "PNG",
        "GIF",
        "TIFF",
        "WEBP",
        "BMP",
        "JPEG2000",
        "AVIF",
        "ICO",
        "PPM",
        "TGA",
        "DDS",
    ):
        source = tmp_path / "source"
        assert written(kind, source)
        content = source.read_bytes()
        for place in generator.integers(0, len(content), 25):
            for damaged in (content[:place], bytearray(content)):
                if isinstance(damaged, bytearray):
                    damaged[place] ^= 1 << generator.integers(8)
                path = tmp_path / "set" / "ant" / "new.jpg"
                path.write_bytes(damaged)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    images = folder.load(tmp_path / "set")
                    row = images.ids.index("ant/new.jpg")
                    try:
                        images.read(row)
                        counts["read"] += 1
                    except LossgaugeError as error:
                        counts["refused in a line"] += one_line(error)
                        counts["refused otherwise"] += not one_line(error)
    (tmp_path / "set" / "ant" / "new.jpg").write_bytes(b"")
    found = features(
        folder.load(tmp_path / "set"), load_backbone("efficientnet-lite0"), cache=tmp_path / "cache"
    )
    assert found.notes == ("left out because they cannot be read (1 of 9): ant/new.jpg",)
    with capsys.disabled():
        print(f"\ncut and changed images: {dict(counts)}")
    assert counts["refused otherwise"] == 0
    assert sum(counts.values()) == 12 * 25 * 2


FLOATS = ("float16", "float32", "float64", "bfloat16", "float8")
SMALL = {"bfloat16": torch.bfloat16, "float8": torch.float8_e4m3fn}
OTHERS = (
    "int8",
    "int64",
    "uint64",
    "bool",
    "complex64",
    "object",
    "U3",
    "S3",
    "datetime64[s]",
    "structured",
)
LAYOUTS = ("C", "F", "strided", "big endian", "0-d", "1-d", "3-d", "no rows", "no width")
LABELS = (
    "int8", "int32", "int64", "uint8", "uint64", "big endian", "U5", "float64", "bool", "object", "S5", "0-d", "2-d",
    "short", "2^63", "strided",
)  # fmt: skip
GOOD = {"int8", "int32", "int64", "uint8", "uint64", "big endian", "U5", "strided"}
KINDS = ("npy", "npz", "safetensors", "parquet")
ROWS = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float16)
NUMBERS = np.array([3, 1, 2] * 4)


def array_of(dtype: str, layout: str) -> np.ndarray | None:
    if dtype in SMALL:
        rows = torch.from_numpy(ROWS.astype(np.float32)).to(SMALL[dtype]).float().numpy()
    elif dtype == "structured":
        rows = np.zeros((12, 5), dtype=[("a", "f4"), ("b", "f4")])
    elif dtype == "datetime64[s]":
        rows = (ROWS * 100).astype(np.int64).astype("datetime64[s]")
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows = np.abs(ROWS * 50 + 1).astype(dtype) if dtype in OTHERS else ROWS.astype(dtype)
    if layout == "big endian":
        return rows.astype(rows.dtype.newbyteorder(">")) if rows.dtype.kind in "iufc" else None
    return {
        "C": rows,
        "F": np.asfortranarray(rows),
        "strided": np.repeat(rows, 2, axis=0)[::2],
        "0-d": rows[0, 0, None].reshape(()),
        "1-d": rows[:, 0],
        "3-d": rows.reshape(4, 3, 5),
        "no rows": rows[:0],
        "no width": rows[:, :0],
    }[layout]


def labels_of(kind: str) -> np.ndarray:
    return {
        "big endian": NUMBERS.astype(">i8"),
        "U5": np.array(["cat", "ant", "bee"] * 4),
        "S5": np.array([b"cat", b"ant", b"bee"] * 4),
        "object": np.array(["cat", None, 3] * 4, dtype=object),
        "float64": NUMBERS + 0.5,
        "bool": NUMBERS > 1,
        "0-d": np.array(3),
        "2-d": NUMBERS[:, None],
        "short": NUMBERS[:-1],
        "2^63": NUMBERS.astype(np.uint64) + np.uint64(2**63 - 2),
        "strided": np.repeat(NUMBERS, 2)[::2],
    }.get(kind, NUMBERS.astype(kind) if kind[0] in "iu" else NUMBERS)


def save(path: Path, rows: np.ndarray, labels: np.ndarray, dtype: str) -> None:
    """Raises where the kind of file cannot hold them."""
    if dtype in SMALL and path.suffix != ".safetensors":
        raise TypeError("only safetensors has floats of this kind")
    if path.suffix == ".npz":
        np.savez(path, embeddings=rows, labels=labels)
    elif path.suffix == ".npy":
        np.save(path, rows)
        np.save(path.with_name("x.labels.npy"), labels)
    elif path.suffix == ".safetensors":
        tensor = torch.from_numpy(np.ascontiguousarray(rows)).to(SMALL.get(dtype))
        save_file({"embeddings": tensor}, path)
        np.save(path.with_name("x.labels.npy"), labels)
    else:
        column = pa.array(rows.tolist() if rows.ndim != 2 else list(rows))
        pq.write_table(pa.table({"embeddings": column, "labels": labels.tolist()}), path)


@pytest.mark.filterwarnings("ignore")
def test_every_array_format_type_and_byte_order(tmp_path, capsys):
    counts: Counter[str] = Counter()
    wrong = []
    cases = [
        (dtype, layout, "int64") for dtype, layout in itertools.product((*FLOATS, *OTHERS), LAYOUTS)
    ]
    cases += [("float32", "C", labels) for labels in LABELS]
    for number, (kind, (dtype, layout, label_kind)) in enumerate(itertools.product(KINDS, cases)):
        rows, labels = array_of(dtype, layout), labels_of(label_kind)
        # Parquet gives Python's floats a type
        if rows is None or (kind == "parquet" and dtype == "object"):
            continue
        if rows.ndim and len(rows) < 12 and layout not in ("3-d",):
            labels = labels[: len(rows)]
        place = tmp_path / str(number)
        place.mkdir()
        path = place / f"x.{kind}"
        try:
            save(path, rows, labels, dtype)
        except (TypeError, ValueError, KeyError, RuntimeError, pa.ArrowException, OverflowError):
            counts["not written"] += 1
            continue
        where = f"{kind}, {dtype}, {layout}, labels {label_kind}"
        good = (
            dtype in FLOATS and layout in ("C", "F", "strided", "big endian") and label_kind in GOOD
        )
        for reader in (embeddings.load, read_embeddings):
            try:
                found = reader(path)
            except LossgaugeError as error:
                counts["refused in a line"] += 1
                wrong += [] if one_line(error) and not good else [f"{where}: {error}"]
                continue
            except Exception as error:
                counts["traceback"] += 1
                wrong.append(f"{where}, {reader.__name__}: {type(error).__name__}: {error}")
                continue
            counts["read"] += 1
            got = found.features.numpy() if reader is embeddings.load else found.embeddings
            numbers = np.asarray(found.labels)
            expected = {"U5": [2, 0, 1] * 4}.get(label_kind, NUMBERS.tolist())
            if reader is embeddings.load and not good:
                wrong.append(f"{where} was read")
            if good and not (
                np.array_equal(got.astype(np.float64), rows.astype(np.float64))
                and numbers.tolist() == expected
            ):
                wrong.append(f"{where} has other values")
    with capsys.disabled():
        print(f"\narray formats × types × layouts: {dict(counts)}, wrong: {len(wrong)}")
    assert not wrong, "\n".join(wrong)
    assert counts["read"] > 100


FORMS = (
    "caf\u00e9",
    "cafe\u0301",
    "\u1e69",
    "s\u0323\u0307",
    "\uac00",
    "\u1100\u1161",
    "\u212b",
    "\u00c5",
)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_names_of_files_and_labels_in_every_unicode_form(tmp_path, capsys, kind):
    counts: Counter[str] = Counter()
    for stored, listed, word in itertools.product(("NFC", "NFD", "NFKC"), ("NFC", "NFD"), FORMS):
        root = tmp_path / f"{stored}-{listed}-{FORMS.index(word)}"
        lines = []
        for label in ("ant", "bee"):
            (root / unicodedata.normalize(stored, f"{label}{word}")).mkdir(parents=True)
            for number in range(4):
                name = f"{label}{word}/{number}{word}.png"
                ramp().save(root / unicodedata.normalize(stored, name))
                lines.append((unicodedata.normalize(listed, name), label))
        table = pa.table({"path": [p for p, _ in lines], "label": [label for _, label in lines]})
        path = root / f"list.{kind}"
        if kind == "csv":
            path.write_text("path,label\n" + "".join(f"{p},{label}\n" for p, label in lines))
        else:
            pq.write_table(table, path)
        images = folder.load(path)
        assert images.ids == tuple(name for name, _ in lines)
        images.read(7)
        counts["found"] += 1
    for one, other in itertools.permutations(FORMS, 2):
        same = unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other)
        root = tmp_path / f"labels-{FORMS.index(one)}-{FORMS.index(other)}"
        root.mkdir()
        for number in range(8):
            ramp().save(root / f"{number}.png")
        rows = [(f"{number}.png", (one, other)[number % 2]) for number in range(8)]
        pq.write_table(
            pa.table({"path": [p for p, _ in rows], "label": [label for _, label in rows]}),
            root / "list.parquet",
        )
        try:
            folder.load(root / "list.parquet")
            refused = ""
        except LossgaugeError as error:
            refused = str(error)
        assert same == bool(refused)
        assert not same or (ascii(one) in refused and ascii(other) in refused)
        counts["one text, refused with both spellings" if same else "two classes"] += 1
    with capsys.disabled():
        print(f"\nUnicode forms, {kind}: {dict(counts)}")


def test_what_is_no_regular_file_is_never_waited_for(tmp_path, capsys):
    """A pipe under every name that a reader of own data opens."""
    counts: Counter[str] = Counter()
    rows = torch.from_numpy(ROWS.astype(np.float32))
    for name in (
        "x.npy",
        "x.npz",
        "x.safetensors",
        "x.parquet",
        "x.labels.npy",
        "labels.npy",
        "ids.npy",
        "split.npy",
    ):
        place = tmp_path / name
        place.mkdir()
        np.save(place / "x.npy", rows.numpy())
        np.save(place / "x.labels.npy", NUMBERS)
        if name in ("x.npy", "x.labels.npy", "labels.npy"):
            (place / "x.labels.npy").unlink()
        (place / name).unlink(missing_ok=True)
        os.mkfifo(place / name)
        path = place / (name if name.startswith("x.") and "labels" not in name else "x.npy")
        for reader in (embeddings.load, read_embeddings):
            for target in (path, place):
                with pytest.raises(
                    LossgaugeError, match=r"not a regular file|must have the same suffix"
                ):
                    reader(target)
                counts["refused"] += 1
    for name in ("manifest.csv", "manifest.parquet", "ant/0.png"):
        place = tmp_path / name.replace("/", "-")
        for label in ("ant", "bee"):
            (place / label).mkdir(parents=True)
            for number in range(3):
                ramp().save(place / label / f"{number}.png")
        (place / name).unlink(missing_ok=True)
        os.mkfifo(place / name)
        with pytest.raises(LossgaugeError, match="not a regular file"):
            folder.load(place)
        counts["refused"] += 1
    with capsys.disabled():
        print(f"\npipes: {dict(counts)}")

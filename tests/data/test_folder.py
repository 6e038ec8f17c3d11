import csv
import hashlib
import os
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lossgauge.data.folder import load
from lossgauge.errors import DataError


def draw(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 3), shade).save(path)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Four images of each of three classes, each of its own shade."""
    for place, label in enumerate(("cat", "dog", "ant")):
        for number in range(4):
            draw(tmp_path / "pets" / label / f"{number}.png", 40 * place + number)
    return tmp_path / "pets"


def write_manifest(folder: Path, rows: list[dict], name: str = "manifest.csv") -> Path:
    """The same rows as CSV or as Parquet."""
    path = folder / name
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def listed(folder: Path) -> list[dict]:
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/*.png"))
    return [{"path": path, "label": path.split("/")[0]} for path in paths]


def test_folders_are_classes_in_sorted_order_and_images_keep_the_order_of_their_paths(pets):
    images = load(pets)
    assert images.class_names == {0: "ant", 1: "cat", 2: "dog"}
    assert images.ids[:5] == ("ant/0.png", "ant/1.png", "ant/2.png", "ant/3.png", "cat/0.png")
    assert images.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert images.name == "folder:pets"
    assert images.source == f"{pets} (one folder per class)"
    assert np.array(images.read(4)).ravel()[0] == 0
    assert np.array(images.read(9)).ravel()[0] == 41


def test_folders_named_by_numbers_are_classes_of_those_numbers(tmp_path):
    for label in ("2", "10", "-1"):
        for number in range(4):
            draw(tmp_path / label / f"{number}.png", number)
    images = load(tmp_path)
    assert images.class_names == {-1: "-1", 2: "2", 10: "10"}
    assert images.labels.tolist() == [-1] * 4 + [10] * 4 + [2] * 4


def test_a_leading_zero_makes_a_name_of_a_number(tmp_path):
    for label in ("01", "1", "2"):
        for number in range(4):
            draw(tmp_path / label / f"{number}.png", number)
    assert load(tmp_path).class_names == {0: "01", 1: "1", 2: "2"}


def test_folders_train_and_test_are_the_split(pets):
    for side, numbers in (("train", (0, 1, 2)), ("test", (3,))):
        for label in ("cat", "dog", "ant"):
            for number in numbers:
                draw(pets.parent / "sided" / side / label / f"{number}.png", number)
    draw(pets.parent / "sided" / "test" / "cat" / "9.png", 9)
    images = load(pets.parent / "sided")
    assert images.protocol == "given"
    assert images.class_names == {0: "ant", 1: "cat", 2: "dog"}
    assert {images.ids[row].split("/")[0] for row in images.train} == {"train"}
    assert {images.ids[row].split("/")[0] for row in images.test} == {"test"}
    assert (len(images.train), len(images.test)) == (9, 4)


def test_train_and_test_may_be_classes_when_images_lie_in_them(tmp_path):
    for label in ("train", "test"):
        for number in range(4):
            draw(tmp_path / label / f"{number}.png", number)
    assert load(tmp_path).class_names == {0: "test", 1: "train"}


def test_images_are_opened_when_they_are_read_and_not_before(pets):
    (pets / "cat" / "1.png").write_bytes(b"no image at all")
    images = load(pets)
    with pytest.raises(DataError, match=r"cat/1\.png"):
        images.read(images.ids.index("cat/1.png"))


def test_the_digest_sees_ids_labels_and_contents_and_nothing_else(pets):
    before = load(pets).digest
    assert load(pets, split="stratified", seed=5).digest == before
    moved = pets.rename(pets.with_name("elsewhere"))
    assert load(moved).digest == before
    draw(moved / "cat" / "1.png", 200)
    changed = load(moved).digest
    (moved / "cat" / "1.png").rename(moved / "cat" / "1b.png")
    renamed = load(moved).digest
    (moved / "cat").rename(moved / "bat")
    assert len({before, changed, renamed, load(moved).digest}) == 4


def test_other_files_beside_the_images_are_counted_and_left_out(pets):
    (pets / "README.txt").write_text("pets")
    (pets / "cat" / ".DS_Store").write_bytes(b"")
    (pets / "cat" / "notes.txt").write_text("purrs")
    (pets / "dog" / "Thumbs.db").write_bytes(b"\xd0\xcf")
    (pets / "dog" / "._0.png").write_bytes(b"\0\5\x16\7")
    (pets / "__MACOSX").mkdir()
    images = load(pets)
    assert len(images.ids) == 12
    assert images.notes == (
        "left out because they are not images, or in a format that is not read (1): cat/notes.txt",
    )
    for number in range(4):
        (pets / "dog" / f"{number}.txt").write_text("barks")
    (left_out,) = load(pets).notes
    assert left_out == (
        "left out because they are not images, or in a format that is not read (5): cat/notes.txt, dog/0.txt, dog/1.txt and 2 more"
    )


@pytest.mark.filterwarnings("ignore:IM image format:DeprecationWarning")
@pytest.mark.parametrize("kind", ["EPS", "IM"])
def test_an_image_of_a_format_that_is_not_read_is_left_out(pets, kind):
    Image.new("L", (4, 4)).save(pets / "cat" / f"9.{kind.lower()}", kind)
    assert load(pets).notes == (
        "left out because they are not images, or in a format that is not read (1): "
        f"cat/9.{kind.lower()}",
    )


NAMES = [
    ("JPEG", "1.jfif"), ("JPEG", "1.jpe"), ("JPEG", "1.JPG"), ("JPEG", "1"), ("JPEG", "1.jpg.bak"), ("PNG", "1.png.1"),
    ("JPEG2000", "1.jp2"), ("JPEG2000", "1.J2K"), ("PNG", "1.jpg"), ("WEBP", "photo of 1"), ("TGA", "1.tga"),
    ("AVIF", "1.avif"), ("TIFF", "1.dat"), ("ICO", "1.ico"), ("QOI", "1.QOI"), ("PPM", "1.pnm"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_an_image_is_one_by_its_content_and_not_by_its_name(pets, kind, name):
    ramp = Image.fromarray(np.arange(0, 240, 15, dtype=np.uint8).reshape(4, 4)).convert("RGB")
    ramp.save(pets / "cat" / "new", format=kind)
    (pets / "cat" / "new").rename(pets / "cat" / name)
    images = load(pets)
    assert images.notes == ()
    assert f"cat/{name}" in images.ids
    image = images.read(images.ids.index(f"cat/{name}")).convert("RGB")
    assert np.abs(np.asarray(image).astype(int) - np.asarray(ramp)).max() < 40


def test_a_pipe_is_never_waited_for(pets):
    os.mkfifo(pets / "cat" / "pipe")
    assert load(pets).notes == (
        "left out because they are not images, or in a format that is not read (1): cat/pipe",
    )
    os.mkfifo(pets / "cat" / "9.png")
    with pytest.raises(DataError, match=r"cat/9\.png is not a regular file"):
        load(pets)
    for name in ("manifest.csv", "manifest.parquet"):
        os.mkfifo(pets / name)
        with pytest.raises(DataError, match=rf"{name} is not a regular file"):
            load(pets)
        (pets / name).unlink()


@pytest.mark.parametrize("stored", ["NFC", "NFD"])
def test_a_name_in_another_unicode_form_than_its_file_is_found(pets, stored):
    other = {"NFC": "NFD", "NFD": "NFC"}[stored]
    (pets / "cat").rename(pets / unicodedata.normalize(stored, "café"))
    rows = listed(pets)
    for row in rows:
        row["path"] = unicodedata.normalize(other, row["path"])
        row["label"] = unicodedata.normalize("NFC", row["label"])
    images = load(write_manifest(pets, rows, "list.csv"))
    assert images.ids == tuple(row["path"] for row in rows)
    for place, row in enumerate(rows):
        shade = np.array(images.read(place)).ravel()[0]
        assert shade == 40 * ("café", "dog", "ant").index(row["label"]) + int(row["path"][-5])


def test_labels_in_two_unicode_forms_are_refused_and_spaces_are_told(pets):
    (pets / "cat").rename(pets / "caf\u00e9")
    (pets / "dog").rename(pets / "cafe\u0301")
    with pytest.raises(
        DataError, match=r"as 'cafe\\u0301' and as 'caf\\xe9': write both in the form NFC"
    ):
        load(pets)
    for other in ("ant ", " ant", "ant\u200b", "an\u00adt", "ant\u00a0"):
        (pets / "cafe\u0301").rename(pets / other)
        (note,) = load(pets).notes
        assert f"{other!a}" in note
        assert "'ant'" in note
        assert "count as two classes" in note
        (pets / other).rename(pets / "cafe\u0301")


def test_columns_and_types_that_are_none_of_a_manifest_are_named(pets):
    rows = listed(pets)
    columns = {name: [row[name] for row in rows] for name in ("path", "label")}
    deep: object = 0
    for _ in range(30):
        deep = [deep]
    for more, words in (
        ({"nested": [deep] * 12}, "unknown column 'nested'"),
        ({"path": [1] * 12}, r"every row needs a path as text, got 1 in .* row 0"),
        ({"path": [["a"]] * 12}, r"every row needs a path as text, got \['a'\]"),
        ({"label": [{"a": 1}] * 12}, "all whole numbers or all text, got dict"),
        ({"label": [b"a"] * 12}, "all whole numbers or all text, got bytes"),
        ({"split": [["train"]] * 12}, r"train or test, got \['train'\]"),
        ({"id": [0.5] * 12}, r"needs an id, as text or a whole number, got 0\.5"),
    ):
        pq.write_table(pa.table({**columns, **more}), pets / "list.parquet")
        with pytest.raises(DataError, match=words):
            load(pets / "list.parquet")
    arrays = [pa.array(columns[name]) for name in ("path", "label", "label")]
    pq.write_table(pa.Table.from_arrays(arrays, ["path", "label", "label"]), pets / "list.parquet")
    with pytest.raises(DataError, match="two columns or arrays named 'label'"):
        load(pets / "list.parquet")


@pytest.mark.parametrize("name", ["manifest.csv", "manifest.parquet", "list.csv", "list.parquet"])
def test_a_manifest_names_images_classes_sides_and_ids(pets, name):
    rows = [
        {**row, "split": "test" if "/3" in row["path"] else "train", "id": f"n{place}"}
        for place, row in enumerate(reversed(listed(pets)))
    ]
    rows.append({"path": "cat/../cat/extra.png", "label": "cat", "split": "test", "id": "n12"})
    draw(pets / "cat" / "extra.png", 99)
    path = write_manifest(pets, rows, name)
    images = load(path.parent if path.stem == "manifest" else path)
    assert images.ids == tuple(f"n{place}" for place in range(13))
    assert images.class_names == {0: "ant", 1: "cat", 2: "dog"}
    assert images.labels.tolist() == [2] * 4 + [1] * 4 + [0] * 4 + [1]
    assert images.protocol == "given"
    assert images.test.tolist() == [0, 4, 8, 12]
    assert np.array(images.read(0)).ravel()[0] == 43
    assert np.array(images.read(12)).ravel()[0] == 99
    assert load(path, split="stratified").protocol == "stratified"


def test_a_manifest_is_the_same_data_as_csv_and_as_parquet(pets):
    rows = listed(pets)
    one = load(write_manifest(pets, rows, "one.csv"))
    two = load(write_manifest(pets, rows, "two.parquet"))
    assert one.ids == two.ids == load(pets).ids
    assert one.digest == two.digest == load(pets).digest


def test_whole_numbers_are_class_ids_in_both_kinds_of_manifest(pets):
    numbers = {"ant": 7, "cat": -2, "dog": 10}
    rows = [{**row, "label": numbers[row["label"]]} for row in listed(pets)]
    for name in ("one.csv", "two.parquet"):
        images = load(write_manifest(pets, rows, name))
        assert images.labels.tolist() == [7] * 4 + [-2] * 4 + [10] * 4
        assert images.class_names == {-2: "-2", 7: "7", 10: "10"}


def test_a_byte_order_mark_blank_lines_and_quoted_commas_do_no_harm(pets):
    (pets / "cat").rename(pets / "cat, black")
    lines = ["path,label", ""] + [
        f'"{r["path"]}","{r["label"]}"'
        for r in [
            {**row, "path": row["path"].replace("cat/", "cat, black/")} for row in listed(pets)
        ]
    ]
    (pets / "list.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    assert load(pets / "list.csv").ids[4] == "cat, black/0.png"


def test_a_categorical_column_is_text(pets):
    rows = listed(pets)
    table = pa.table(
        {
            "path": [row["path"] for row in rows],
            "label": pa.array([row["label"] for row in rows]).dictionary_encode(),
        }
    )
    pq.write_table(table, pets / "list.parquet")
    assert load(pets / "list.parquet").class_names == {0: "ant", 1: "cat", 2: "dog"}


def test_a_folder_that_is_not_there_or_holds_nothing_is_named_with_the_layouts(tmp_path):
    with pytest.raises(DataError, match=r"there is no .*nowhere; folder:PATH takes"):
        load(tmp_path / "nowhere")
    with pytest.raises(DataError, match="contains no folders; folder:PATH takes"):
        load(tmp_path)
    (tmp_path / "list.tsv").write_text("path\tlabel\n")
    with pytest.raises(DataError, match=r"list\.tsv is neither a folder nor a \.csv"):
        load(tmp_path / "list.tsv")


def test_a_folder_that_is_no_set_of_classes_is_refused(pets):
    draw(pets / "stray.png", 1)
    with pytest.raises(DataError, match=r"stray\.png has no class"):
        load(pets)
    (pets / "stray.png").unlink()
    (pets / "empty").mkdir()
    with pytest.raises(DataError, match=r"class folder .*empty has no readable image"):
        load(pets)
    draw(pets / "empty" / "deeper" / "1.png", 1)
    with pytest.raises(DataError, match=r"empty/deeper is a folder inside a class folder"):
        load(pets)


def test_one_class_is_refused(tmp_path):
    draw(tmp_path / "cat" / "1.png", 1)
    with pytest.raises(DataError, match="at least two classes, got only 'cat'"):
        load(tmp_path)


def test_two_manifests_leave_open_which_one_counts(pets):
    write_manifest(pets, listed(pets), "manifest.csv")
    write_manifest(pets, listed(pets), "manifest.parquet")
    with pytest.raises(DataError, match=r"manifest\.csv and manifest\.parquet: name the one"):
        load(pets)


def change(row: int, **entries):
    return lambda rows: rows[row].update(entries)


@pytest.mark.parametrize("name", ["manifest.csv", "manifest.parquet"])
@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (change(3, path="cat/none.png"), r"{3}: there is no file .*cat/none\.png; paths are relative"),
        (change(3, path="cat"), r"{3}: .*cat is not a regular file"),
        (change(3, path=""), r"every row needs a path as text, got '' in .*{3}"),
        (change(3, path="../out.png"), r"{3}: '\.\./out\.png' leads out of"),
        (change(3, path="/etc/passwd"), r"{3}: .* got the absolute '/etc/passwd'"),
        (change(3, path="leading/out.png"), r"{3}: .* leads out of .*, to .*/beside/out\.png"),
        (change(3, path="leading.png"), r"{3}: .* leads out of .*, to .*/beside/out\.png"),
        (change(3, path="loop.png"), r"{3}: "),
        (change(3, path="cat/\0.png"), r"{3}: .* is not a path|cannot be read"),
        (change(3, path="cat/" + 300 * "x" + ".png"), r"{3}: .*"),
        (change(3, path="cat/../cat/1.png"), r"paths must be unique, but .*{3} and .*{5} are both"),
        (change(3, path="twin.png"), r"paths must be unique, but .*{3} and .*{5} are both"),
        (change(3, label=""), r"needs a label, but .*{3} has no label \(1 of 12"),
        (change(3, split="val"), r"split must be train or test, got 'val' in .*{3}"),
        (change(3, split=""), r"split must be train or test, got '' in .*{3}"),
        (change(3, id="5"), r"ids must be unique, but .*{3} and .*{5} are both '5'"),
        (change(3, id=""), r"every row needs an id, .* got '' in .*{3}"),
        (lambda rows: [row.update(labels=1) for row in rows], r"unknown column 'labels' \(did you mean 'label'"),
        (lambda rows: [row.pop("label") for row in rows], r"columns path and label; label is missing"),
        (lambda rows: [row.update(label="x") for row in rows], r"two classes, got only 'x'"),
        (lambda rows: [row.update(split="train") for row in rows], r"leaves 0 samples of 0 classes to test"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_manifest_is_named_with_its_row(pets, name, mistake, words):
    draw(pets.parent / "beside" / "out.png", 1)
    draw(pets.parent / "out.png", 1)
    (pets / "leading").symlink_to(pets.parent / "beside")
    (pets / "leading.png").symlink_to(pets.parent / "beside" / "out.png")
    (pets / "twin.png").symlink_to(pets / "cat" / "1.png")
    (pets / "loop.png").symlink_to(pets / "loop.png")
    rows = [
        {**row, "split": ("train", "test")[place % 2], "id": str(place)}
        for place, row in enumerate(listed(pets / "."))
        if not row["path"].startswith("leading")
    ]
    assert rows[5]["path"] == "cat/1.png"
    mistake(rows)
    path = write_manifest(pets, rows, name)
    if name.endswith("csv"):
        words = words.replace("{3}", "line 5").replace("{5}", "line 7")
    else:
        words = words.replace("{3}", "row 3").replace("{5}", "row 5")
    with pytest.raises(DataError, match=words):
        load(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "is empty"),
        (b"path,label\n", "got no rows"),
        (b"path,label,label\na,b,c\n", "two columns or arrays named 'label'"),
        (b"path,label\ncat/1.png,cat,black\n", "line 2, must have 2 entries, .* got 3"),
        (b'path,label\ncat/1.png,"cat\n', "begins in line 2 cannot be read as CSV"),
        (b"path,label\ncat/1.png,k\xe4tzchen\n", "list.csv, line 2, is not UTF-8"),
        (
            b"path;label\ncat/1.png;cat\n",
            "unknown column 'path;label': its columns are separated by semicolons",
        ),
        (b"path\tlabel\ncat/1.png\tcat\n", "separated by tabs, save it with commas"),
    ],
)
def test_a_csv_file_that_is_none_is_refused(pets, text, words):
    (pets / "list.csv").write_bytes(text)
    with pytest.raises(DataError, match=words):
        load(pets / "list.csv")


def test_a_parquet_file_that_is_none_is_refused_and_so_are_odd_types(pets):
    path = pets / "list.parquet"
    path.write_bytes(b"PAR1 and then nothing")
    with pytest.raises(DataError, match=r"list\.parquet cannot be read as Parquet"):
        load(path)
    rows = listed(pets)
    write_manifest(pets, [{**row, "label": 0.5} for row in rows], path.name)
    with pytest.raises(
        DataError, match=r"all whole numbers or all text, got float, 0\.5 in .* row 0"
    ):
        load(path)
    rows[2]["label"] = None
    write_manifest(pets, rows, path.name)
    with pytest.raises(DataError, match="row 2 has no label"):
        load(path)


def test_a_link_inside_a_class_folder_must_not_lead_out(pets):
    draw(pets.parent / "out.png", 1)
    (pets / "cat" / "link.png").symlink_to(pets.parent / "out.png")
    with pytest.raises(DataError, match=r"cat/link\.png.* leads out of"):
        load(pets)


def test_a_name_that_is_not_utf8_is_refused(pets):
    os.rename(os.fsencode(pets / "cat" / "1.png"), os.fsencode(pets / "cat") + b"/\xff.png")
    with pytest.raises(DataError, match="an id must be valid UTF-8"):
        load(pets)


def test_files_are_hashed_whole(pets):
    """The digest is that of the three parts, written out."""
    import json

    images = load(pets)
    expected = hashlib.sha256()
    for row, name in enumerate(images.ids):
        content = hashlib.sha256((pets / name).read_bytes()).hexdigest()
        label = images.class_names[int(images.labels[row])]
        expected.update(json.dumps([name, label, content]).encode())
    assert images.digest == expected.hexdigest()

"""CUB-200-2011 from a small copy in its official layout."""

from pathlib import Path

import numpy as np
import pytest

from lossgauge.data import cub200, load_dataset
from lossgauge.data.dataset import Counts
from lossgauge.errors import DataError
from tests.data.layouts import BIRDS, jpeg, png16, tar_gz, write
from tests.data.layouts import cub200 as build

pytestmark = pytest.mark.usefixtures("away_from_home")
COUNTS = Counts(train=5, test=3, classes=4)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setattr(cub200.CUB200, "expected", COUNTS)
    return build(tmp_path)


def check(images) -> None:
    """Each photograph has its own label and its own colour, whatever the order of the tables."""
    assert images.ids == tuple(bird.id for bird in BIRDS)
    assert images.labels.tolist() == [bird.label for bird in BIRDS]
    for row, bird in enumerate(BIRDS):
        image = images.read(row)
        assert (image.mode, image.size) == ("RGB", (16, 8))
        assert np.abs(np.asarray(image).astype(int) - bird.color).max() <= 4
    assert {images.labels[row] for row in images.train} == {1, 2}
    assert {images.labels[row] for row in images.test} == {3, 4}
    assert images.class_names[3] == "003.Bird_3"
    assert images.protocol == "class-disjoint"


def test_the_counts_are_those_of_the_published_set():
    assert cub200.CUB200.expected == (5_864, 5_924, 200)
    assert sum(cub200.CUB200.expected[:2]) == 11_788


def test_labels_join_images_by_id_and_never_by_line(folder: Path):
    check(load_dataset("cub200", folder))


def test_the_folder_above_will_do_too(folder: Path):
    images = load_dataset("cub200", folder.parent)
    assert images.source == f"{folder} (CUB_200_2011)"
    check(images)


def test_the_archive_gives_the_same_images_and_is_found_after_its_folder(
    folder: Path, tmp_path: Path
):
    packed = tmp_path / "packed"
    packed.mkdir()
    archive = tar_gz(folder, packed / "CUB_200_2011.tgz")
    for root in (packed, archive):
        images = load_dataset("cub200", root)
        check(images)
        assert images.digest == load_dataset("cub200", folder).digest
        assert images.source == f"{archive} (archive)"
    folder.rename(packed / "CUB_200_2011")
    assert load_dataset("cub200", packed).source.endswith("(CUB_200_2011)")


def test_grey_sixteen_bit_and_cmyk_photographs_become_rgb(folder: Path):
    write(folder / "images" / BIRDS[0].id, jpeg(77, "L"))
    write(folder / "images" / BIRDS[1].id, jpeg((10, 200, 60), "CMYK"))
    write(folder / "images" / BIRDS[2].id, png16(40_000))
    images = load_dataset("cub200", folder)
    for row, expected in enumerate([(77, 77, 77), (10, 200, 60), (156, 156, 156)]):
        image = images.read(row)
        assert image.mode == "RGB"
        assert np.abs(np.asarray(image).astype(int) - expected).max() <= 4


def test_another_byte_or_another_size_makes_another_digest(folder: Path):
    before = load_dataset("cub200", folder).digest
    path = folder / "images" / BIRDS[4].id
    content = path.read_bytes()
    path.write_bytes(content + b"\0")
    longer = load_dataset("cub200", folder).digest
    path.write_bytes(content[:-1] + b"\0")
    assert len({before, longer, load_dataset("cub200", folder).digest}) == 3


def test_a_wrong_count_names_the_expected_one(folder: Path, monkeypatch):
    monkeypatch.setattr(cub200.CUB200, "expected", COUNTS._replace(train=6))
    with pytest.raises(
        DataError,
        match=r"cub200 must have 6 \+ 3 images of 4 classes, but .* has 5 \+ 3 images of 4 classes",
    ):
        load_dataset("cub200", folder)


def test_a_missing_photograph_is_named_before_anything_is_read(folder: Path):
    (folder / "images" / BIRDS[5].id).unlink()
    with pytest.raises(DataError, match=rf"lacks 1 of its images, the first is .*{BIRDS[5].id}"):
        load_dataset("cub200", folder)


def test_a_photograph_without_a_label_is_named(folder: Path):
    write(folder / "images" / "001.Bird_1" / "Bird_1_0099.jpg", jpeg((1, 2, 3)))
    write(folder / "images" / "001.Bird_1" / "._Bird_1_0001.jpg", "left by a Mac")
    with pytest.raises(
        DataError, match=r"has 1 images without a label, the first is .*Bird_1_0099\.jpg"
    ):
        load_dataset("cub200", folder)


def test_a_label_that_is_missing_is_named(folder: Path):
    path = folder / "image_class_labels.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(
        DataError,
        match=rf"image_class_labels\.txt has no label for 1 images, the first is {BIRDS[2].id}",
    ):
        load_dataset("cub200", folder)


def test_labels_of_other_images_are_found_by_the_folders(folder: Path):
    path = folder / "image_class_labels.txt"
    path.write_text(path.read_text().replace("1 3\n", "1 2\n"))
    with pytest.raises(DataError, match=rf"names {BIRDS[0].id}, which is not in the folder of its"):
        load_dataset("cub200", folder)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("images.txt", "1 a/b.jpg\n1 a/c.jpg\n"),
        ("images.txt", "x a/b.jpg\n"),
        pytest.param("images.txt", "9" * 9_999 + " a/b.jpg\n", id="digits"),
        ("images.txt", "1\n"),
        ("images.txt", b"\xff\xfe"),
        ("image_class_labels.txt", "".join(f"{n} one\n" for n in range(1, 9))),
        ("classes.txt", "1\n"),
    ],
)
def test_a_table_that_is_none_is_named(folder: Path, name: str, text: str | bytes):
    write(folder / name, text)
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        load_dataset("cub200", folder)


def test_a_table_cannot_name_a_file_elsewhere(folder: Path):
    write(folder / "secret.jpg", jpeg((1, 2, 3)))
    path = folder / "images.txt"
    path.write_text(path.read_text().replace(BIRDS[0].id, "../secret.jpg"))
    with pytest.raises(DataError, match=r"names \.\./secret\.jpg, which is not in the folder"):
        load_dataset("cub200", folder)


def test_a_damaged_photograph_is_named_when_it_is_read(folder: Path):
    path = folder / "images" / BIRDS[3].id
    path.write_bytes(path.read_bytes()[:200])
    images = load_dataset("cub200", folder)
    images.read(2)
    with pytest.raises(DataError, match=rf"{BIRDS[3].id} is not a readable image"):
        images.read(3)


def test_absent_it_says_where_it_looked_and_that_no_download_helps(tmp_path: Path):
    for settings in ({}, {"download": True}):
        with pytest.raises(
            DataError, match=rf"cub200 is not in {tmp_path}: put CUB_200_2011\.tgz of"
        ):
            load_dataset("cub200", tmp_path, **settings)
    with pytest.raises(DataError, match=r"not in data, ~/data, ~/datasets or /usr/share/datasets"):
        load_dataset("cub200")


@pytest.mark.parametrize("parent", ["data", "datasets"])
def test_it_is_found_where_data_is_usual(folder: Path, away_from_home: Path, parent: str):
    usual = away_from_home / parent / "cub200"
    usual.parent.mkdir()
    folder.rename(usual)
    check(load_dataset("cub200"))


def test_it_is_found_by_its_variable(folder: Path, monkeypatch):
    monkeypatch.setenv("LOSSGAUGE_CUB200", str(folder))
    check(load_dataset("cub200"))

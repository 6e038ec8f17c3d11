"""Stanford Cars from small copies in its three layouts."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from lossgauge.data import cars196, load_dataset
from lossgauge.data.dataset import Counts
from lossgauge.errors import DataError
from tests.data.layouts import (
    CAR_NAMES,
    CARS,
    cars_kaggle,
    cars_new,
    cars_old,
    jpeg,
    tar_gz,
    write,
    zipped,
)

pytestmark = pytest.mark.usefixtures("away_from_home")
LAYOUTS = {"old": cars_old, "new": cars_new, "kaggle": cars_kaggle}
COUNTS = Counts(train=4, test=4, classes=4)
OLD_IDS = {f"car_ims/{number:06}.jpg": car for number, car in enumerate(CARS, 1)}
IDS = {car.id: car for car in CARS}


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(cars196.Cars196, "expected", COUNTS)


def check(images, *, old: bool = False) -> None:
    cars = OLD_IDS if old else IDS
    assert images.ids == tuple(sorted(cars))
    for row, name in enumerate(images.ids):
        assert images.labels[row] == cars[name].label
        difference = np.asarray(images.read(row)).astype(int) - cars[name].color
        assert np.abs(difference).max() <= 4
    assert {images.labels[row] for row in images.train} == {1, 2}
    assert {images.labels[row] for row in images.test} == {3, 4}
    assert images.class_names == dict(enumerate(CAR_NAMES, 1))
    assert images.protocol == "class-disjoint"


def test_the_counts_are_those_of_the_published_set(monkeypatch):
    monkeypatch.undo()
    assert cars196.Cars196.expected == (8_054, 8_131, 196)
    assert sum(cars196.Cars196.expected[:2]) == 16_185


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_official_classes_joined_by_file_name(tmp_path: Path, layout: str):
    images = load_dataset("cars196", LAYOUTS[layout](tmp_path))
    check(images, old=layout == "old")
    name = {"old": "car_ims and", "new": "cars_train, cars_test", "kaggle": "Kaggle's car_data"}
    assert f"({name[layout]}" in images.source


def test_the_new_layout_and_kaggles_copy_are_the_same_data(tmp_path: Path):
    for name in ("new", "kaggle"):
        (tmp_path / name).mkdir()
    new = load_dataset("cars196", cars_new(tmp_path / "new"))
    copy = load_dataset("cars196", cars_kaggle(tmp_path / "kaggle"))
    assert (new.ids, new.digest) == (copy.ids, copy.digest)


def test_the_old_archive_beside_its_table_is_unpacked(tmp_path: Path):
    root = cars_old(tmp_path)
    tar_gz(root / "car_ims", root / "car_ims.tgz")
    (root / "car_ims").rename(tmp_path.parent / f"{tmp_path.name}-elsewhere")
    check(load_dataset("cars196", root), old=True)


def test_the_new_archives_are_unpacked_with_the_labels_beside_them(tmp_path: Path):
    root = cars_new(tmp_path)
    away = tmp_path / "away"
    (root / "devkit/cars_test_annos_withlabels.mat").rename(root / "cars_test_annos_withlabels.mat")
    away.mkdir()
    for folder, archive in (
        ("cars_train", "cars_train.tgz"),
        ("cars_test", "cars_test.tgz"),
        ("devkit", "car_devkit.tgz"),
    ):
        tar_gz(root / folder, root / archive)
        (root / folder).rename(away / folder)
    check(load_dataset("cars196", root))
    assert cars196.DATASET.outline(root).layout == "cars_train, cars_test and devkit, packed"


def test_kaggles_zip_is_read_whatever_its_name(tmp_path: Path):
    (tmp_path / "copy").mkdir()
    root = cars_kaggle(tmp_path / "copy")
    archive = zipped(root, tmp_path / "archive.zip", inside=False)
    check(load_dataset("cars196", archive))
    archive.rename(tmp_path / cars196.ARCHIVE)
    check(load_dataset("cars196", tmp_path))


def test_folders_that_kaggle_packed_into_themselves_are_found(tmp_path: Path):
    root = cars_new(tmp_path)
    for side in ("cars_train", "cars_test"):
        (root / side).rename(root / "moved")
        (root / side).mkdir()
        (root / "moved").rename(root / side / side)
    (root / "car_devkit").mkdir()
    (root / "devkit").rename(root / "car_devkit" / "devkit")
    check(load_dataset("cars196", root))


def test_of_two_layouts_one_is_taken_and_the_other_is_told(tmp_path: Path):
    images = load_dataset("cars196", cars_new(cars_old(tmp_path)))
    check(images, old=True)
    assert "also there but not read: cars_train, cars_test and devkit" in images.source


def test_half_a_layout_beside_a_whole_one_does_no_harm(tmp_path: Path):
    root = cars_new(tmp_path)
    write(root / "cars_annos.mat", "torn")
    check(load_dataset("cars196", root))


@pytest.mark.parametrize(
    ("build", "gone", "match"),
    [
        (cars_old, "car_ims", r"cars_annos\.mat is there, but not the images"),
        (cars_old, "cars_annos.mat", r"car_ims is there, but not cars_annos\.mat"),
        (
            cars_new,
            "devkit/cars_test_annos_withlabels.mat",
            "is there, but not the labels of the test images",
        ),
        (cars_new, "cars_test", "is there, but not the test images"),
        (cars_kaggle, "anno_test.csv", r"is there, but not anno_test\.csv"),
    ],
)
def test_half_a_layout_says_which_half_is_missing(tmp_path: Path, build, gone: str, match: str):
    root = build(tmp_path)
    (root / gone).rename(tmp_path.parent / f"{tmp_path.name}-gone")
    with pytest.raises(DataError, match=f"cars196 is not complete: .*{match}"):
        load_dataset("cars196", root)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_wrong_count_a_missing_and_an_unlabelled_image_are_named(
    tmp_path: Path, monkeypatch, layout: str
):
    root = LAYOUTS[layout](tmp_path)
    path = min(root.rglob("*.jpg"))
    extra = write(path.with_name("999999.jpg"), jpeg((1, 2, 3)))
    with pytest.raises(DataError, match=r"1 images without a label, the first is .*999999\.jpg"):
        load_dataset("cars196", root)
    extra.unlink()
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(DataError, match=rf"lacks 1 of its images, the first is .*{path.name}"):
        load_dataset("cars196", root)
    write(path, content)
    monkeypatch.setattr(cars196.Cars196, "expected", COUNTS._replace(test=5))
    with pytest.raises(DataError, match=r"must have 4 \+ 5 images of 4 .* has 4 \+ 4 images of 4"):
        load_dataset("cars196", root)


def test_test_annotations_without_classes_are_refused(tmp_path: Path):
    root = cars_new(tmp_path)
    table = np.zeros((1, 3), dtype=[("bbox_x1", object), ("fname", object)])
    savemat(root / "devkit/cars_test_annos_withlabels.mat", {"annotations": table})
    with pytest.raises(
        DataError, match=r"withlabels\.mat must contain annotations .* has no class"
    ):
        load_dataset("cars196", root)


@pytest.mark.parametrize("content", [b"", b"torn", b"MATLAB 5.0 MAT-file" + bytes(300)])
def test_a_torn_mat_is_named(tmp_path: Path, content: bytes):
    root = cars_old(tmp_path)
    whole = (root / "cars_annos.mat").read_bytes()
    for torn in (content, whole[: len(whole) // 2]):
        write(root / "cars_annos.mat", torn)
        with pytest.raises(DataError, match=r"cars_annos\.mat (cannot be read|must hold)"):
            load_dataset("cars196", root)


@pytest.mark.parametrize("label", ["0", "5", "x", "", "-1"])
def test_a_class_that_is_none_is_named(tmp_path: Path, label: str):
    root = cars_kaggle(tmp_path)
    write(root / "anno_train.csv", f"00001.jpg,1,2,3,4,{label}\n")
    with pytest.raises(DataError, match=r"anno_train\.csv must contain classes from 1 to 4, got"):
        load_dataset("cars196", root)


def test_an_image_that_is_named_twice_is_refused(tmp_path: Path):
    root = cars_kaggle(tmp_path)
    path = root / "anno_test.csv"
    path.write_text(path.read_text() * 2)
    with pytest.raises(DataError, match=r"list test/00001\.jpg twice"):
        load_dataset("cars196", root)


def test_a_name_with_a_slash_does_not_lead_out(tmp_path: Path):
    root = cars_kaggle(tmp_path)
    path = root / "anno_test.csv"
    path.write_text(path.read_text().replace("00001.jpg", "../../../secret.jpg"))
    write(tmp_path / "secret.jpg", jpeg((1, 2, 3)))
    with pytest.raises(DataError, match="lacks 1 of its images"):
        load_dataset("cars196", root)


def test_an_unrelated_table_in_a_usual_folder_is_no_trace_of_it(away_from_home: Path):
    write(away_from_home / "data" / "names.csv", "Anna\n")
    with pytest.raises(DataError, match="cars196 is not in data"):
        load_dataset("cars196")

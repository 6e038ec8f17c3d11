"""CUB-200-2011 and Stanford Cars in their official, closed splits, from the small copies of the class-disjoint ones."""

from pathlib import Path

import numpy as np
import pytest

from lossgauge.data import (
    cars196,
    cars196_official,
    cub200,
    cub200_official,
    describe_datasets,
    load_dataset,
)
from lossgauge.data.dataset import Counts
from lossgauge.errors import DataError
from tests.data.layouts import BIRDS, CARS, cars_kaggle, cars_new, cars_old, tar_gz
from tests.data.layouts import cub200 as build

pytestmark = pytest.mark.usefixtures("away_from_home")


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(cub200.CUB200, "expected", Counts(5, 3, 4))
    monkeypatch.setattr(cub200_official.CUB200Official, "expected", Counts(4, 4, 4))
    monkeypatch.setattr(cars196.Cars196, "expected", Counts(4, 4, 4))
    monkeypatch.setattr(cars196_official.Cars196Official, "expected", Counts(5, 3, 4))


def test_the_counts_are_those_of_the_published_splits(monkeypatch):
    monkeypatch.undo()
    assert cub200_official.DATASET.expected == (5_994, 5_794, 200)
    assert cars196_official.DATASET.expected == (8_144, 8_041, 196)
    for closed, disjoint in ((cub200_official, cub200), (cars196_official, cars196)):
        assert sum(closed.DATASET.expected[:2]) == sum(disjoint.DATASET.expected[:2])


@pytest.mark.parametrize("packed", [False, True])
def test_birds_are_split_by_the_published_table_and_joined_by_id(tmp_path: Path, packed: bool):
    folder = build(tmp_path)
    root = tar_gz(folder, tmp_path / "CUB_200_2011.tgz") if packed else folder
    images, disjoint = load_dataset("cub200-official", root), load_dataset("cub200", root)
    numbers = {bird.id: number for number, bird in enumerate(BIRDS, 1)}
    # the small copy marks odd numbers for training
    assert {numbers[images.ids[row]] % 2 for row in images.train} == {1}
    assert {numbers[images.ids[row]] % 2 for row in images.test} == {0}
    assert (images.name, images.protocol) == ("cub200-official", "official")
    assert images.ids == disjoint.ids
    assert np.array_equal(images.labels, disjoint.labels)
    assert images.digest == disjoint.digest


@pytest.mark.parametrize("build_cars", [cars_new, cars_kaggle])
def test_cars_are_split_by_their_folders(tmp_path: Path, build_cars):
    images = load_dataset("cars196-official", build_cars(tmp_path))
    sides = {car.id: car.id.partition("/")[0] for car in CARS}
    assert {sides[images.ids[row]] for row in images.train} == {"train"}
    assert {sides[images.ids[row]] for row in images.test} == {"test"}
    assert images.protocol == "official"


def test_a_layout_of_cars_without_sides_is_refused_in_one_line(tmp_path: Path):
    with pytest.raises(
        DataError, match=r"do not say which images are for training: use the layout"
    ) as e:
        load_dataset("cars196-official", cars_old(tmp_path))
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(("old", "new", "got"), [("3 1\n", "", "None"), ("3 1\n", "3 2\n", "2")])
def test_a_bird_without_a_side_is_named(tmp_path: Path, old: str, new: str, got: str):
    folder = build(tmp_path)
    table = folder / "train_test_split.txt"
    table.write_text(table.read_text().replace(old, new))
    with pytest.raises(DataError, match=rf"must give 1 .* got {got} for {BIRDS[2].id}"):
        load_dataset("cub200-official", folder)


def test_the_variable_of_the_copy_is_used_and_the_listing_names_the_split(
    tmp_path: Path, monkeypatch
):
    monkeypatch.setenv("LOSSGAUGE_CUB200", str(build(tmp_path)))
    assert load_dataset("cub200-official").protocol == "official"
    (line,) = (line for line in describe_datasets() if line.startswith("cub200-official"))
    assert "4 training and 4 test images, official split" in line


def test_without_a_copy_the_error_names_the_files_to_get():
    with pytest.raises(DataError, match=r"^cub200 is not in .*CUB_200_2011\.tgz"):
        load_dataset("cub200-official")

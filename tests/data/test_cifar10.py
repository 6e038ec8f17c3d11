"""CIFAR-10 from small binary batches."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from lossgauge.data import cifar10, load_dataset
from lossgauge.data.dataset import Counts
from lossgauge.errors import DataError
from tests.data.layouts import CIFAR_LABELS, cifar_pixels, tar_gz, write
from tests.data.layouts import cifar10 as build

pytestmark = pytest.mark.usefixtures("away_from_home")
COUNTS = Counts(train=10, test=3, classes=10)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setattr(cifar10.Cifar10, "expected", COUNTS)
    return build(tmp_path)


def check(images) -> None:
    assert images.ids == (*(f"train/{n}" for n in range(10)), *(f"test/{n}" for n in range(3)))
    assert images.labels.tolist() == list(CIFAR_LABELS)
    for row in range(13):
        assert np.array_equal(np.asarray(images.read(row)), cifar_pixels(row))
    assert images.train.tolist() == list(range(10))
    assert images.test.tolist() == [10, 11, 12]
    assert images.class_names[6] == "frog"
    assert images.protocol == "official"


def test_the_counts_and_the_hash_are_those_of_the_published_set():
    assert cifar10.Cifar10.expected == (50_000, 10_000, 10)
    assert cifar10.RECORD == 3_073
    assert cifar10.ARCHIVE_MD5 == "c32a1d4ab5d03f1284b67883e8d87530"


def test_planes_become_pixels_and_batches_follow_each_other(folder: Path):
    images = load_dataset("cifar10", folder)
    check(images)
    assert images.source == f"{folder} (cifar-10-batches-bin)"
    assert images.read(0).mode == "RGB"
    check(load_dataset("cifar10", folder.parent))


def test_the_archive_gives_the_same_images_if_it_is_the_published_one(
    folder: Path, tmp_path: Path, monkeypatch
):
    (tmp_path / "packed").mkdir()
    archive = tar_gz(folder, tmp_path / "packed" / "cifar-10-binary.tar.gz")
    with pytest.raises(DataError, match=r"must have the MD5 c32a1d4a.*, got"):
        load_dataset("cifar10", archive.parent)
    monkeypatch.setattr(cifar10, "ARCHIVE_MD5", hashlib.md5(archive.read_bytes()).hexdigest())
    images = load_dataset("cifar10", archive.parent)
    check(images)
    assert images.source == f"{archive} (archive)"
    assert images.digest == load_dataset("cifar10", folder).digest


@pytest.mark.parametrize(
    "trace",
    ["cifar-10-batches-py/data_batch_1", "cifar-10-python.tar.gz", "data_batch_1"],
)
def test_the_pickle_version_is_refused_and_the_binary_one_named(tmp_path: Path, trace: str):
    write(tmp_path / trace, "a pickle")
    first = tmp_path / trace.split("/")[0]
    for root in (tmp_path, first):
        with pytest.raises(DataError, match=r"is the pickle version .*cifar-10-binary\.tar\.gz"):
            load_dataset("cifar10", root)


def test_the_pickle_beside_the_binary_version_does_no_harm(folder: Path):
    write(folder.parent / "cifar-10-batches-py/data_batch_1", "a pickle")
    check(load_dataset("cifar10", folder.parent))


def test_a_missing_batch_is_named(folder: Path):
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(DataError, match=r"data_batch_3\.bin cannot be read"):
        load_dataset("cifar10", folder)


def test_a_batch_that_was_cut_off_is_named_with_the_size_of_a_record(folder: Path):
    path = folder / "data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(
        DataError, match=r"data_batch_2\.bin must contain records of 3,073 bytes, got 6,145"
    ):
        load_dataset("cifar10", folder)


def test_a_record_too_few_is_told_with_the_right_count(folder: Path):
    path = folder / "test_batch.bin"
    path.write_bytes(path.read_bytes()[:-3073])
    with pytest.raises(DataError, match=r"must have 10 \+ 3 images .* has 10 \+ 2 images"):
        load_dataset("cifar10", folder)


def test_a_label_that_is_none_is_named(folder: Path):
    path = folder / "data_batch_5.bin"
    path.write_bytes(b"\x0a" + path.read_bytes()[1:])
    with pytest.raises(
        DataError, match=r"data_batch_5\.bin must contain labels from 0 to 9, got 10"
    ):
        load_dataset("cifar10", folder)


def test_another_pixel_makes_another_digest(folder: Path):
    before = load_dataset("cifar10", folder).digest
    path = folder / "data_batch_4.bin"
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    assert load_dataset("cifar10", folder).digest != before


def test_a_file_that_vanishes_or_shrinks_is_named_when_it_is_read(folder: Path):
    images = load_dataset("cifar10", folder)
    path = folder / "data_batch_1.bin"
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(DataError, match=r"data_batch_1\.bin cannot be read"):
        images.read(1)
    path.unlink()
    with pytest.raises(DataError, match=r"data_batch_1\.bin cannot be read"):
        images.read(0)

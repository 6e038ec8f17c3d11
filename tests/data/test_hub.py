"""What is fetched from the hub: the library `datasets` is a stand-in here, with the few calls that are made of it."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from lossgauge.data import (
    DATASETS,
    cars196,
    cifar10,
    describe_datasets,
    fashion_mnist,
    hub,
    load_dataset,
    named_dataset,
    tiny_imagenet,
)
from lossgauge.data.dataset import Counts
from lossgauge.errors import DataError, MissingExtra
from tests.data.layouts import cars_new, color_of, jpeg

READERS = {
    "cifar10": (cifar10, Counts(4, 2, 3)),
    "cars196": (cars196, Counts(2, 4, 3)),  # of three classes one trains
    "tiny-imagenet": (tiny_imagenet, Counts(4, 2, 3)),
    "fashion-mnist": (fashion_mnist, Counts(4, 2, 3)),
}
LABELS = {"train": [2, 0, 1, 0], "test": [1, 2]}


class Rows:
    """An IterableDataset, as far as it is used."""

    def __init__(self, image: str, labels: list[int], names: list[str], first: int) -> None:
        self.features = {"label": SimpleNamespace(names=names)}
        self.image, self.labels, self.first, self.decodes = image, labels, first, True

    def cast_column(self, column: str, kind: SimpleNamespace) -> "Rows":
        assert column == self.image
        self.decodes = kind.decode
        return self

    def iter(self, batch_size: int) -> Iterator[dict[str, list]]:
        assert not self.decodes, "images must come as they were encoded"
        for start in range(0, len(self.labels), 3):
            labels = self.labels[start : start + 3]
            contents = [jpeg(color_of(self.first + start + n)) for n in range(len(labels))]
            yield {
                self.image: [{"bytes": content, "path": None} for content in contents],
                "label": labels,
            }


class Hub:
    """The library: what it was asked for, and what it answers."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []
        self.names = ["b", "c", "a"]
        self.labels = {side: list(labels) for side, labels in LABELS.items()}
        self.fails: Exception | None = None

    Image = SimpleNamespace

    def load_dataset(self, path: str, *, revision: str, split: str, streaming: bool) -> Rows:
        self.calls.append((path, revision, split))
        assert streaming
        if self.fails and split != "train":
            raise self.fails
        side = "train" if split == "train" else "test"
        image = "img" if path == "uoft-cs/cifar10" else "image"
        return Rows(image, self.labels[side], self.names, 0 if side == "train" else 4)


@pytest.fixture
def online(monkeypatch, away_from_home) -> Hub:
    fake = Hub()
    monkeypatch.setitem(sys.modules, "datasets", fake)
    for reader, counts in READERS.values():
        monkeypatch.setattr(type(reader.DATASET), "expected", counts)
    monkeypatch.setattr(fashion_mnist, "PLACES", (away_from_home / "nowhere",))
    return fake


def test_revisions_are_commits_and_splits_are_those_of_the_protocol():
    copies = {name: copy for name in DATASETS if (copy := named_dataset(name).hub)}
    for name, copy in copies.items():
        assert len(copy.revision) == 40
        assert int(copy.revision, 16)
        assert copy.splits == ("train", "valid" if name == "tiny-imagenet" else "test")
    assert {name: copy.repository for name, copy in copies.items()} == {
        "cifar10": "uoft-cs/cifar10",
        "cars196": "tanganke/stanford_cars",
        "tiny-imagenet": "zh-plus/tiny-imagenet",
        "fashion-mnist": "zalando-datasets/fashion_mnist",
    }


@pytest.mark.parametrize("name", READERS)
def test_only_a_download_touches_the_network_and_it_asks_for_two_splits(online: Hub, name: str):
    with pytest.raises(DataError, match=f"{name} is not in .*--download"):
        load_dataset(name)
    list(describe_datasets())
    assert online.calls == []
    load_dataset(name, download=True)
    copy = named_dataset(name).hub
    assert online.calls == [(copy.repository, copy.revision, split) for split in copy.splits]


@pytest.mark.parametrize("name", READERS)
def test_images_labels_and_split_are_those_of_the_reader_on_disk(online: Hub, name: str):
    images = load_dataset(name, download=True)
    numbers = np.array(LABELS["train"] + LABELS["test"])
    names = {0: "b", 1: "c", 2: "a"}
    if name == "cars196":  # official classes begin at 1, and the split is by class
        assert images.labels.tolist() == (numbers + 1).tolist()
        assert images.class_names == {1: "b", 2: "c", 3: "a"}
        assert set(images.labels[images.train]) == {1}
        assert set(images.labels[images.test]) == {2, 3}
    elif name == "tiny-imagenet":  # classes are ranks of their names
        assert [images.class_names[label] for label in images.labels] == [names[n] for n in numbers]
        assert images.class_names == {0: "a", 1: "b", 2: "c"}
    else:
        assert images.labels.tolist() == numbers.tolist()
        assert images.class_names == names
    if name != "cars196":
        assert (images.train.tolist(), images.test.tolist()) == ([0, 1, 2, 3], [4, 5])
    assert images.ids == ("train/0", "train/1", "train/2", "train/3", "test/0", "test/1")
    grey = name == "fashion-mnist"
    for row in range(6):
        image = images.read(row)
        assert image.mode == ("L" if grey else "RGB")
        if not grey:
            assert np.abs(np.asarray(image).astype(int) - color_of(row)).max() <= 4
    assert named_dataset(name).hub.repository in images.source


def test_what_was_fetched_once_is_found_without_the_network_and_described(online: Hub, monkeypatch):
    first = load_dataset("cifar10", download=True)
    monkeypatch.setitem(sys.modules, "datasets", None)
    again = load_dataset("cifar10")
    assert (again.ids, again.digest) == (first.ids, first.digest)
    assert load_dataset("cifar10", download=True).digest == first.digest
    (line,) = (line for line in describe_datasets() if line.startswith("cifar10"))
    assert "found in" in line
    assert "Hugging Face uoft-cs/cifar10 at 0b2714987fa4), 4 training and 2 test images" in line


def test_a_copy_on_disk_comes_before_the_hub(online: Hub, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(cars196.Cars196, "expected", Counts(4, 4, 4))
    images = load_dataset("cars196", cars_new(tmp_path), download=True)
    assert images.source.startswith(str(tmp_path))
    assert online.calls == []


def test_a_damaged_copy_on_disk_is_told_and_not_replaced(online: Hub, tmp_path: Path):
    root = cars_new(tmp_path)
    (root / "devkit/cars_train_annos.mat").write_bytes(b"torn")
    with pytest.raises(DataError, match=r"cars_train_annos\.mat"):
        load_dataset("cars196", root, download=True)
    assert online.calls == []


def test_a_named_folder_without_the_set_is_not_answered_by_what_was_fetched(online: Hub, tmp_path):
    load_dataset("cifar10", download=True)
    with pytest.raises(DataError, match=f"cifar10 is not in {tmp_path}"):
        load_dataset("cifar10", tmp_path)


def test_wrong_counts_on_the_hub_are_told_and_nothing_is_kept(online: Hub):
    online.labels["test"].append(0)
    with pytest.raises(DataError, match=r"cifar10 must have 4 \+ 2 images .* has 4 \+ 3 images"):
        load_dataset("cifar10", download=True)
    assert hub.stored(cifar10.DATASET) is None
    assert list(hub._folder("cifar10", cifar10.DATASET.hub).parent.iterdir()) == []


def test_a_label_that_is_no_class_is_told(online: Hub):
    online.labels["train"][0] = -1
    with pytest.raises(DataError, match="has labels outside its 3 classes"):
        load_dataset("cifar10", download=True)


def test_a_network_that_fails_half_way_leaves_nothing(online: Hub):
    online.fails = ConnectionError("no route")
    with pytest.raises(
        DataError, match=r"cannot be fetched from Hugging Face uoft-cs/cifar10 at .*no route"
    ):
        load_dataset("cifar10", download=True)
    assert list(hub._folder("cifar10", cifar10.DATASET.hub).parent.iterdir()) == []


def test_without_the_library_the_extra_is_named(online: Hub, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"pip install 'lossgauge\[hub\]'"):
        load_dataset("cifar10", download=True)


@pytest.mark.parametrize("file", ["train.arrow", "test.arrow", "sha256.json"])
@pytest.mark.parametrize("place", [0, 0.5, 0.99])
def test_a_flipped_byte_in_what_was_fetched_is_found(online: Hub, file: str, place: float):
    load_dataset("cifar10", download=True)
    folder = hub.stored(cifar10.DATASET)
    path = folder / file
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 0x11
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{folder}"):
        load_dataset("cifar10")
    path.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        load_dataset("cifar10")


def test_an_image_that_is_none_is_named_when_it_is_read(online: Hub, monkeypatch):
    monkeypatch.setattr("tests.data.test_hub.jpeg", lambda color: b"torn")
    images = load_dataset("cifar10", download=True)
    with pytest.raises(DataError, match="test/1 of cifar10 is not a readable image"):
        images.read(5)


def test_images_are_decoded_only_when_they_are_read(online: Hub, monkeypatch):
    def never(*_: object, **__: object) -> None:
        raise AssertionError("an image was opened")

    monkeypatch.setattr(Image, "open", never)
    load_dataset("cifar10", download=True)

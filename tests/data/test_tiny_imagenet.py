"""Tiny ImageNet from a small copy in its official layout."""

import os
from pathlib import Path

import numpy as np
import pytest

from lossgauge.data import load_dataset, tiny_imagenet
from lossgauge.data.dataset import Counts
from lossgauge.errors import DataError
from tests.data.layouts import RANKS, TINY_TRAIN, TINY_VAL, WNIDS, jpeg, write, zipped
from tests.data.layouts import tiny_imagenet as build

pytestmark = pytest.mark.usefixtures("away_from_home")
COUNTS = Counts(train=6, test=4, classes=3)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setattr(tiny_imagenet.TinyImageNet, "expected", COUNTS)
    return build(tmp_path)


def check(images) -> None:
    known = {image.id: image for image in (*TINY_TRAIN, *TINY_VAL)}
    assert sorted(images.ids) == sorted(known)
    for row, name in enumerate(images.ids):
        assert images.labels[row] == known[name].label
        image = images.read(row)
        assert (image.mode, image.size) == ("RGB", (64, 64))
        assert np.abs(np.asarray(image).astype(int) - known[name].color).max() <= 4
    assert all(images.ids[row].startswith("train/") for row in images.train)
    assert all(images.ids[row].startswith("val/") for row in images.test)
    assert (len(images.train), len(images.test)) == (6, 4)
    assert images.class_names == {RANKS[wnid]: words for wnid, words in WNIDS.items()}
    assert images.protocol == "official"


def test_the_counts_are_those_of_the_published_set():
    assert tiny_imagenet.TinyImageNet.expected == (100_000, 10_000, 200)


def test_labels_come_from_folders_and_from_the_table_by_name(folder: Path):
    check(load_dataset("tiny-imagenet", folder))
    check(load_dataset("tiny-imagenet", folder.parent))


def test_the_order_of_lines_changes_nothing(folder: Path):
    before = load_dataset("tiny-imagenet", folder)
    for name in ("wnids.txt", "val/val_annotations.txt"):
        lines = (folder / name).read_text().splitlines(keepends=True)
        write(folder / name, "".join(sorted(lines)))
    after = load_dataset("tiny-imagenet", folder)
    assert (before.ids, before.digest) == (after.ids, after.digest)
    assert before.labels.tolist() == after.labels.tolist()


def test_the_archive_gives_the_same_images(folder: Path, tmp_path: Path):
    (tmp_path / "packed").mkdir()
    archive = zipped(folder, tmp_path / "packed" / "tiny-imagenet-200.zip")
    images = load_dataset("tiny-imagenet", archive.parent)
    check(images)
    assert images.digest == load_dataset("tiny-imagenet", folder).digest


@pytest.mark.parametrize("inner", ["images", "."])
def test_val_images_that_a_script_has_sorted_into_classes_are_found(folder: Path, inner: str):
    wnid_of = {rank: wnid for wnid, rank in RANKS.items()}
    for image in TINY_VAL:
        name = Path(image.id).name
        moved = folder / "val" / wnid_of[image.label] / inner / name
        moved.parent.mkdir(parents=True, exist_ok=True)
        (folder / "val" / "images" / name).rename(moved)
    (folder / "val" / "images").rmdir()
    check(load_dataset("tiny-imagenet", folder))


def test_without_words_a_class_is_called_by_its_wordnet_id(folder: Path):
    (folder / "words.txt").unlink()
    names = load_dataset("tiny-imagenet", folder).class_names
    assert names == {rank: wnid for wnid, rank in RANKS.items()}


def test_a_wrong_count_is_told_with_the_right_one(folder: Path):
    (folder / "train/n01443537/images/n01443537_1.JPEG").unlink()
    with pytest.raises(
        DataError, match=r"must have 6 \+ 4 images of 3 classes, but .* has 5 \+ 4 images of 3"
    ):
        load_dataset("tiny-imagenet", folder)


def test_a_missing_and_an_unlabelled_val_image_are_named(folder: Path):
    extra = write(folder / "val/images/val_9999.JPEG", jpeg((1, 2, 3)))
    with pytest.raises(DataError, match=r"1 images without a label, the first is .*val_9999\.JPEG"):
        load_dataset("tiny-imagenet", folder)
    extra.unlink()
    (folder / "val/images/val_2.JPEG").unlink()
    with pytest.raises(DataError, match=r"lacks 1 of its images, the first is .*val_2\.JPEG"):
        load_dataset("tiny-imagenet", folder)


def test_a_folder_that_is_no_class_is_named(folder: Path):
    (folder / "train" / "n99999999").mkdir()
    with pytest.raises(DataError, match=r"train/n99999999 is not a class of wnids\.txt"):
        load_dataset("tiny-imagenet", folder)


@pytest.mark.parametrize(
    "line",
    [
        "val_0.JPEG\tn00000000\t0",
        "val_0.JPEG",
        "../x.JPEG\tn01443537",
        "val_1.JPEG\tn02124075\n" * 2,
    ],
)
def test_a_line_that_labels_nothing_is_quoted(folder: Path, line: str):
    write(folder / "val/val_annotations.txt", line)
    with pytest.raises(DataError, match=r"each line of .*val_annotations\.txt must be an image"):
        load_dataset("tiny-imagenet", folder)


def test_val_without_its_table_is_refused(folder: Path):
    (folder / "val/val_annotations.txt").unlink()
    with pytest.raises(DataError, match=r"val_annotations\.txt cannot be read"):
        load_dataset("tiny-imagenet", folder)


def test_notes_of_an_operating_system_are_no_images_and_no_classes(folder: Path):
    before = load_dataset("tiny-imagenet", folder)
    for place in ("train/n01443537/images", "val/images"):
        write(folder / place / "._n01443537_0.JPEG", b"\0\5\x16\7\0\2\0\0Mac OS X")
        write(folder / place / ".DS_Store", b"\0\0\0\1Bud1")
        write(folder / place / "Thumbs.db", b"\xd0\xcf\x11\xe0")
    for name in ("__MACOSX", ".ipynb_checkpoints", "@eaDir"):
        (folder / "train" / name).mkdir()
    after = load_dataset("tiny-imagenet", folder)
    assert (after.ids, after.digest) == (before.ids, before.digest)


def test_an_image_without_a_label_is_seen_by_its_content(folder: Path):
    write(folder / "val/images/val_9999", jpeg((1, 2, 3)))
    with pytest.raises(DataError, match=r"1 images without a label, the first is .*val_9999"):
        load_dataset("tiny-imagenet", folder)


def test_a_pipe_in_the_place_of_a_file_is_refused(folder: Path):
    for name in ("val/images/val_2.JPEG", "wnids.txt"):
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(DataError, match=r"not a regular file|is not in"):
            load_dataset("tiny-imagenet", folder)

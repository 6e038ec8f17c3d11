"""A user's own images: a folder with one folder per class, or a manifest that names each image and its class.

    pets/cat/1.jpg               pets/train/cat/1.jpg         pets/manifest.csv, or any .csv or .parquet:
    pets/dog/1.jpg               pets/test/dog/1.jpg          path,label[,split][,id][,group]

Nothing outside the folder is read, even if a manifest or a link points there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from PIL.Image import Image

from lossgauge.data.images import is_image, open_image
from lossgauge.data.inside import files_inside
from lossgauge.data.locations import first_few, is_hidden, regular
from lossgauge.data.manifest import SUFFIXES, read_manifest
from lossgauge.data.row_checks import SIDES, Rows, checked_rows
from lossgauge.data.splits import choose_split
from lossgauge.errors import DataError
from lossgauge.types import ImageSet

HOW = (
    "folder:PATH takes a folder with one folder per class, two folders train and test of such folders, "
    "or a manifest (.csv, .parquet, or manifest.csv in the folder) with the columns path and label"
)


class _UncheckedImages(NamedTuple):
    """The content of a folder or a manifest, before it is checked."""

    root: Path
    """The folder that all images must be in; resolved."""
    paths: Sequence[object]
    labels: Sequence[object]
    sides: Sequence[object] | None
    ids: Sequence[object] | None
    where: Callable[[int], str]
    layout: str
    notes: tuple[str, ...] = ()
    groups: Sequence[object] | None = None


def load(path: Path, *, split: str | None = None, seed: int = 0) -> ImageSet:
    """The images of a folder or a manifest. Each is opened when it is read; every file is hashed here.

    `split` is `given` (by the manifest, or by the folders train and test), `class-disjoint` or `stratified` (half of
    each class, chosen by `seed`). If None it is `given` where the data have a split, else `class-disjoint` from
    20 classes on, else `stratified`. With a column `group` in the manifest, all images of a group are
    on one side. An image's id is the manifest's, or its path. Raises DataError with the file or the row and the fix.
    """
    images = _listed_images(path)
    files = files_inside(images.root, images.paths, where=images.where)
    rows = checked_rows(
        images.labels,
        ids=images.paths if images.ids is None else images.ids,
        sides=images.sides,
        groups=images.groups,
        where=images.where,
        source=str(path),
    )
    train, test, protocol = choose_split(
        rows.labels,
        rows.trains,
        split=split,
        seed=seed,
        source=str(path),
        groups=rows.groups,
    )
    return ImageSet(
        name=f"folder:{path.name or path.resolve().name}",
        ids=rows.ids,
        labels=rows.labels,
        class_names=rows.class_names,
        train=train,
        test=test,
        protocol=protocol,
        source=f"{path} ({images.layout})",
        digest=_digest(rows, files),
        read=partial(_read, files),
        notes=(*images.notes, *rows.notes),
        groups=rows.groups,
    )


def _listed_images(path: Path) -> _UncheckedImages:
    if path.is_dir():
        manifests = [path / f"manifest{suffix}" for suffix in SUFFIXES]
        manifests = [manifest for manifest in manifests if manifest.exists()]
        if len(manifests) == 2:
            raise DataError(
                f"{path} contains manifest.csv and manifest.parquet: name the one to use, as in folder:{manifests[0]}"
            )
        return _from_manifest(manifests[0]) if manifests else _from_folders(path)
    if not path.exists():
        raise DataError(f"there is no file or folder {path}; {HOW}")
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path} is neither a folder nor a .csv or .parquet file; {HOW}")
    return _from_manifest(path)


def _from_manifest(path: Path) -> _UncheckedImages:
    columns, where = read_manifest(path)
    return _UncheckedImages(
        root=path.parent.resolve(),
        paths=columns["path"],
        labels=columns["label"],
        sides=columns.get("split"),
        ids=columns.get("id"),
        groups=columns.get("group"),
        where=where,
        layout=f"manifest with the columns {', '.join(columns)}",
    )


def _from_folders(root: Path) -> _UncheckedImages:
    inside = _entries(root)
    folders = [entry for entry in inside if entry.is_dir()]
    loose = [entry for entry in inside if is_image(entry)]
    if loose:
        raise DataError(f"{loose[0]} has no class: put each image in the folder of its class")
    if not folders:
        raise DataError(f"{root} contains no folders; {HOW}")
    sided = {folder.name for folder in folders} == set(SIDES) and not any(
        is_image(entry) for folder in folders for entry in _entries(folder)
    )
    classes = [f for side in folders for f in _entries(side) if f.is_dir()] if sided else folders
    images: list[tuple[Path, Path]] = []
    others: list[str] = []
    for folder in classes:
        of_class, not_images = _images(folder)
        images += [(folder, image) for image in of_class]
        others += [other.relative_to(root).as_posix() for other in not_images]
    if not images:
        raise DataError(f"{root} contains no images; {HOW}")
    paths = [image.relative_to(root).as_posix() for _, image in images]
    left_out = (
        f"left out because they are not images, or in a format that is not read ({len(others):,}): "
        f"{first_few(others)}"
    )
    return _UncheckedImages(
        root=root.resolve(),
        paths=paths,
        labels=[folder.name for folder, _ in images],
        sides=[folder.parent.name for folder, _ in images] if sided else None,
        ids=None,
        where=lambda row: str(root / paths[row]),
        layout=("train and test, each with " if sided else "") + "one folder per class",
        notes=(left_out,) if others else (),
    )


def _entries(folder: Path) -> list[Path]:
    """The files and folders in a folder, by name, without hidden ones."""
    try:
        return sorted(entry for entry in folder.iterdir() if not is_hidden(entry.name))
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}") from None


def _images(folder: Path) -> tuple[list[Path], list[Path]]:
    """The images of one class, and the other files there."""
    inside = _entries(folder)
    for entry in inside:
        if entry.is_dir():
            raise DataError(
                f"{entry} is a folder inside a class folder, which may contain only images; {HOW}"
            )
    images: list[Path] = []
    others: list[Path] = []
    for entry in inside:
        (images if is_image(entry) else others).append(entry)
    if not images:
        raise DataError(
            f"the class folder {folder} has no readable image: remove it, or add images"
        )
    return images, others


def _digest(rows: Rows, files: list[Path]) -> str:
    digest = hashlib.sha256()
    groups = (
        [[]] * len(files) if rows.groups is None else [[group] for group in rows.groups.tolist()]
    )
    for name, label, group, path in zip(rows.ids, rows.labels.tolist(), groups, files, strict=True):
        try:
            with regular(path).open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from None
        # JSON: an id cannot look like the end of another row
        digest.update(json.dumps([name, rows.class_names[label], content, *group]).encode())
    return digest.hexdigest()


def _read(files: list[Path], row: int) -> Image:
    return open_image(files[row], str(files[row]))

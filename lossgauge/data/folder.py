"""Images of one's own: a folder with one folder a class, or a manifest that names each image and its class.

    pets/cat/1.jpg               pets/train/cat/1.jpg         pets/manifest.csv, or any .csv or .parquet:
    pets/dog/1.jpg               pets/test/dog/1.jpg          path,label[,split][,id]

Nothing outside the folder is read, whatever a manifest or a link says.
"""

from __future__ import annotations

import csv
import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from PIL.Image import Image

from lossgauge.data.images import is_image, open_image
from lossgauge.data.locations import first_few, is_hidden, reason_of, regular
from lossgauge.data.row_checks import SIDES, Rows, checked_rows
from lossgauge.data.splits import choose_split
from lossgauge.errors import DataError, nearest
from lossgauge.types import ImageSet

_MANIFESTS = (".csv", ".parquet")
COLUMNS = ("path", "label", "split", "id")
HOW = (
    "folder:PATH takes a folder with one folder a class, two folders train and test of such folders, "
    "or a manifest (.csv, .parquet, or manifest.csv in the folder) with the columns path and label"
)


class _Listing(NamedTuple):
    """What a folder or a manifest says, before any of it is checked."""

    root: Path
    """The folder that no image may lie outside of; resolved."""
    paths: Sequence[object]
    labels: Sequence[object]
    sides: Sequence[object] | None
    ids: Sequence[object] | None
    where: Callable[[int], str]
    layout: str
    notes: tuple[str, ...] = ()


def load(path: Path, *, split: str | None = None, seed: int = 0) -> ImageSet:
    """The images of a folder or a manifest, opened only when they are read; every file is hashed here.

    `split` is `given` (by the manifest, or by the folders train and test), `class-disjoint` or
    `stratified` (half of each class, picked by `seed`). Unnamed it is given where there is one, else
    class-disjoint from 20 classes on, else stratified. An image's id is the manifest's, or its path.
    Raises DataError that names the file or the row and says what to do.
    """
    listing = _listing(path)
    files = _files(listing)
    rows = checked_rows(
        listing.labels,
        ids=listing.paths if listing.ids is None else listing.ids,
        sides=listing.sides,
        where=listing.where,
        source=str(path),
    )
    train, test, protocol = choose_split(
        rows.labels, rows.trains, split=split, seed=seed, source=str(path)
    )
    return ImageSet(
        name=f"folder:{path.name or path.resolve().name}",
        ids=rows.ids,
        labels=rows.labels,
        class_names=rows.class_names,
        train=train,
        test=test,
        protocol=protocol,
        source=f"{path} ({listing.layout})",
        digest=_digest(rows, files),
        read=partial(_read, files),
        notes=(*listing.notes, *rows.notes),
    )


def _listing(path: Path) -> _Listing:
    if path.is_dir():
        manifests = [path / f"manifest{suffix}" for suffix in _MANIFESTS]
        manifests = [manifest for manifest in manifests if manifest.exists()]
        if len(manifests) == 2:
            raise DataError(
                f"{path} holds manifest.csv and manifest.parquet: name the one to use, as in folder:{manifests[0]}"
            )
        return _from_manifest(manifests[0]) if manifests else _from_folders(path)
    if not path.exists():
        raise DataError(f"there is no {path}; {HOW}")
    if path.suffix.lower() not in _MANIFESTS:
        raise DataError(f"{path} is neither a folder nor a .csv or .parquet file; {HOW}")
    return _from_manifest(path)


def _from_folders(root: Path) -> _Listing:
    inside = _entries(root)
    folders = [entry for entry in inside if entry.is_dir()]
    loose = [entry for entry in inside if is_image(entry)]
    if loose:
        raise DataError(
            f"{loose[0]} lies in no class: each image belongs into the folder of its class"
        )
    if not folders:
        raise DataError(f"{root} holds no folders; {HOW}")
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
        raise DataError(f"{root} holds no images; {HOW}")
    paths = [image.relative_to(root).as_posix() for _, image in images]
    left_out = (
        f"left out because they are not images, or of a format that is not read ({len(others):,}): "
        f"{first_few(others)}"
    )
    return _Listing(
        root=root.resolve(),
        paths=paths,
        labels=[folder.name for folder, _ in images],
        sides=[folder.parent.name for folder, _ in images] if sided else None,
        ids=None,
        where=lambda row: str(root / paths[row]),
        layout=("train and test, each with " if sided else "") + "one folder a class",
        notes=(left_out,) if others else (),
    )


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder, by name; hidden files are nobody's data."""
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
                f"{entry} is a folder inside the folder of a class, where only images belong; {HOW}"
            )
    images: list[Path] = []
    others: list[Path] = []
    for entry in inside:
        (images if is_image(entry) else others).append(entry)
    if not images:
        raise DataError(
            f"the class folder {folder} holds no image that can be read: remove it, or put some in"
        )
    return images, others


def _from_manifest(path: Path) -> _Listing:
    columns, where = _read_csv(path) if path.suffix.lower() == ".csv" else _read_parquet(path)
    for name in columns:
        if name not in COLUMNS:
            raise DataError(
                f"{path} has an unknown column {name!r}{_separator(columns) or nearest(name, COLUMNS)}"
            )
    for name in ("path", "label"):
        if name not in columns:
            raise DataError(f"{path} must have the columns path and label; {name} is missing")
    return _Listing(
        root=path.parent.resolve(),
        paths=columns["path"],
        labels=columns["label"],
        sides=columns.get("split"),
        ids=columns.get("id"),
        where=where,
        layout=f"manifest with the columns {', '.join(columns)}",
    )


def _separator(columns: Iterable[str]) -> str | None:
    """What to do where all columns came as one, separated by something else than commas."""
    name, *more = columns
    for separator, words in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if not more and separator in name:
            return f": its columns are separated by {words}, save it with commas"
    return None


def _check_once(path: Path, names: Sequence[str]) -> None:
    double = [name for name, count in Counter(names).items() if count > 1]
    if double:
        raise DataError(f"{path} has two columns named {double[0]!r}: rename or remove one")


def _read_csv(path: Path) -> tuple[dict[str, list[object]], Callable[[int], str]]:
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        # -sig: spreadsheets put a byte order mark first
        with regular(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for row in reader:
                if row:
                    rows.append(row)
                    lines.append(reader.line_num)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV in UTF-8: {reason_of(error)}") from None
    if not rows:
        raise DataError(f"{path} is empty; {HOW}")
    header, body = rows[0], rows[1:]
    _check_once(path, header)
    for row, line in zip(body, lines[1:], strict=True):
        if len(row) != len(header):
            raise DataError(
                f"{path}, line {line}, must have {len(header)} entries as the header has, got {len(row)}: "
                "put text with a comma into quotes"
            )
    columns: dict[str, list[object]] = {
        name: [row[place] for row in body] for place, name in enumerate(header)
    }
    return columns, lambda row: f"{path}, line {lines[row + 1]}"


def _read_parquet(path: Path) -> tuple[dict[str, list[object]], Callable[[int], str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(regular(path))
        names = file.schema_arrow.names
        _check_once(path, names)
        # others are refused by their name, whatever they hold
        known = file.read(columns=[name for name in names if name in COLUMNS]).to_pydict()
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {reason_of(error)}") from None
    columns: dict[str, list[object]] = {name: known.get(name, []) for name in names}
    return columns, lambda row: f"{path}, row {row}"


def _files(listing: _Listing) -> list[Path]:
    """The file of each row: inside the root, there, and no row's but its own."""
    files: list[Path] = []
    first: dict[Path, int] = {}
    for row, name in enumerate(listing.paths):
        where = listing.where(row)
        if not isinstance(name, str) or not name:
            raise DataError(f"every row needs a path, text, got {name!r} in {where}: fill it in")
        file = _inside(listing.root, name, where)
        if file in first:
            raise DataError(
                f"paths must differ, but {listing.where(first[file])} and {where} are both {file}: leave one out"
            )
        first[file] = row
        files.append(file)
    return files


def _inside(root: Path, name: str, where: str) -> Path:
    if PurePosixPath(name).is_absolute():
        raise DataError(
            f"{where}: paths are relative to {root}, got the absolute {name!r}: put the image in there"
        )
    try:
        file = (root / name).resolve()  # follows links: it is the target that must lie inside
        there = file.is_file()
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{where}: {name!r} is no path: {error}") from None
    if not file.is_relative_to(root):
        raise DataError(f"{where}: {name!r} leads out of {root}, to {file}: put the image in there")
    if not there:
        other = _in_another_form(root, name)
        if other is not None and other != root / name:
            return _inside(root, other.relative_to(root).as_posix(), where)
        if file.exists():
            raise DataError(f"{where}: {file} is no regular file: put an image there")
        raise DataError(f"{where}: there is no file {file}; paths are relative to {root}")
    return file


def _in_another_form(root: Path, name: str) -> Path | None:
    """The file whose path is this name once both are composed: `é` may be stored as a letter and an accent."""
    place = root
    for part in PurePosixPath(name).parts:
        here = place / part
        if not here.exists() and place.is_dir():
            wanted = unicodedata.normalize("NFC", part)
            alike = [e for e in place.iterdir() if unicodedata.normalize("NFC", e.name) == wanted]
            if len(alike) != 1:
                return None
            here = alike[0]
        place = here
    return place if place.is_file() else None


def _digest(rows: Rows, files: list[Path]) -> str:
    digest = hashlib.sha256()
    for name, label, path in zip(rows.ids, rows.labels.tolist(), files, strict=True):
        try:
            with regular(path).open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from None
        # JSON: no id can pass for another row's end
        digest.update(json.dumps([name, rows.class_names[label], content]).encode())
    return digest.hexdigest()


def _read(files: list[Path], row: int) -> Image:
    return open_image(files[row], str(files[row]))

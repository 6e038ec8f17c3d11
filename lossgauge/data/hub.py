"""Copies of datasets from the Hugging Face hub: fetched only if asked, then kept in the cache.

    <cache>/hub/<name>-<revision>/train.arrow   one row per image: its encoded bytes, its label
    <cache>/hub/<name>-<revision>/test.arrow
    <cache>/hub/<name>-<revision>/sha256.json   of both

Only `fetch` uses the network.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from lossgauge.data.annotated_images import check_counts
from lossgauge.data.cache import default_cache
from lossgauge.data.dataset import Dataset, HubCopy, Outline
from lossgauge.data.images import open_image
from lossgauge.data.locations import regular
from lossgauge.data.splits import class_disjoint
from lossgauge.errors import CacheError, DataError, MissingExtra
from lossgauge.types import ImageSet

SIDES = ("train", "test")
_SCHEMA = pa.schema([("image", pa.binary()), ("label", pa.int64())])
_SUMS, _NAMES = TypeAdapter(dict[str, str]), TypeAdapter(list[str])
_BATCH = 256


def stored(dataset: Dataset) -> Path | None:
    """The folder with the fetched copy of a dataset; None if none was fetched."""
    if dataset.hub is None:
        return None
    try:
        folder = _folder(dataset.name, dataset.hub)
    except CacheError:  # no cache
        return None
    return folder if folder.is_dir() else None


def outline(dataset: Dataset, folder: Path) -> Outline:
    """The place of the fetched copy and the number of its images, which were counted when it was fetched."""
    return dataset.complete_outline(folder, _layout(_copy(dataset)))


def fetch(dataset: Dataset) -> Path:
    """Fetch a dataset over the network, row by row, and return its folder in the cache, which is always complete.

    Raises MissingExtra without the library `datasets`, DataError if the hub cannot be reached or its copy has
    other counts than expected.
    """
    copy = _copy(dataset)
    try:
        datasets = import_module("datasets")
    except ImportError:
        raise MissingExtra(
            f"fetching {dataset.name} from the Hugging Face hub needs datasets: pip install 'lossgauge[hub]'"
        ) from None
    folder = _folder(dataset.name, copy)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    except OSError as error:
        raise DataError(f"{folder.parent} cannot be written: {error}") from None
    try:
        for side, split in zip(SIDES, copy.splits, strict=True):
            # streamed: only this split is fetched, and nothing is stored twice
            rows = datasets.load_dataset(
                copy.repository, revision=copy.revision, split=split, streaming=True
            )
            encoded = rows.cast_column(copy.image, datasets.Image(decode=False))
            _write(draft / f"{side}.arrow", encoded, copy.image)
        sums = {side: _sha256(draft / f"{side}.arrow") for side in SIDES}
        (draft / "sha256.json").write_text(json.dumps(sums))
        load(dataset, draft)
        if not folder.is_dir():
            draft.rename(folder)
    except DataError:
        raise
    except Exception as error:  # the network and the library may raise anything
        raise DataError(
            f"{dataset.name} cannot be fetched from {_layout(copy)}: {type(error).__name__}: {error}"
        ) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def load(dataset: Dataset, folder: Path) -> ImageSet:
    """The dataset that `fetch` put into a folder; its bytes are verified. Images are decoded when they are read."""
    copy, name = _copy(dataset), dataset.name
    sides = [_open(folder, side) for side in SIDES]
    counts = [table.num_rows for table in sides]
    numbers = np.concatenate([np.asarray(table.column("label"), dtype=np.int64) for table in sides])
    try:
        names = _NAMES.validate_json((sides[0].schema.metadata or {}).get(b"classes", b"[]"))
    except ValidationError:
        raise DataError(
            f"{name} in {folder} has no class names; delete the folder and fetch it again"
        ) from None
    if not np.isin(numbers, np.arange(len(names))).all():
        raise DataError(f"{name} in {folder} has labels outside its {len(names)} classes")
    if copy.sorted_classes:
        numbers = np.argsort(np.argsort(names))[numbers]
        names = sorted(names)
    labels = numbers + copy.first_class
    train, test = np.arange(counts[0]), np.arange(counts[0], sum(counts))
    if dataset.protocol == "class-disjoint":
        train, test = class_disjoint(labels)
    check_counts(
        dataset,
        folder,
        train=len(train),
        test=len(test),
        classes=len(np.unique(labels)),
        fix=f"delete the folder and fetch it again; it is {_layout(copy)}",
    )
    return ImageSet(
        name=name,
        ids=tuple(
            f"{split}/{row}"
            for split, count in zip(SIDES, counts, strict=True)
            for row in range(count)
        ),
        labels=labels,
        class_names=dict(enumerate(names, copy.first_class)),
        train=train,
        test=test,
        protocol=dataset.protocol,
        source=f"{folder} ({_layout(copy)})",
        digest=hashlib.sha256((folder / "sha256.json").read_bytes()).hexdigest(),
        read=partial(_read, name, sides, "RGB" if copy.color else "L"),
    )


def _copy(dataset: Dataset) -> HubCopy:
    if dataset.hub is None:
        raise DataError(f"{dataset.name} has no copy on the hub: {dataset.how_to_get}")
    return dataset.hub


def _folder(name: str, copy: HubCopy) -> Path:
    return default_cache() / "hub" / f"{name}-{copy.revision[:12]}"


def _layout(copy: HubCopy) -> str:
    return f"Hugging Face {copy.repository} at {copy.revision[:12]}"


def _write(path: Path, rows: Any, image: str) -> None:
    names = rows.features["label"].names
    schema = _SCHEMA.with_metadata({"classes": json.dumps(names)})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        for batch in rows.iter(batch_size=_BATCH):
            images = [cell["bytes"] for cell in batch[image]]
            writer.write_batch(pa.record_batch([images, batch["label"]], schema=schema))


def _open(folder: Path, side: str) -> pa.Table:
    path = folder / f"{side}.arrow"
    try:
        expected = _SUMS.validate_json(regular(folder / "sha256.json").read_bytes())[side]
        # before parsing: a mapped file is not checked again
        if _sha256(path) != expected:
            raise DataError(f"{path} is damaged: it has another SHA-256; delete {folder}")
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        if not table.schema.equals(_SCHEMA):
            raise ValueError(f"its columns are {', '.join(map(str, table.schema))}")
        return table
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read ({error}); delete {folder}") from None


def _sha256(path: Path) -> str:
    with regular(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(name: str, sides: list[pa.Table], mode: str, row: int) -> Image.Image:
    side = int(row >= sides[0].num_rows)
    place = row - side * sides[0].num_rows
    content = sides[side].column("image")[place].as_py()
    if content is None:
        raise DataError(f"{SIDES[side]}/{place} of {name} has no image")
    return open_image(content, f"{SIDES[side]}/{place} of {name}").convert(mode)

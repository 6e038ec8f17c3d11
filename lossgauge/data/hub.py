"""Datasets from the Hugging Face hub, at pinned revisions: fetched when asked to, then kept in the cache.

    <cache>/hub/<name>-<revision>/train.arrow   a row an image: its bytes as they were encoded, its label
    <cache>/hub/<name>-<revision>/test.arrow
    <cache>/hub/<name>-<revision>/sha256.json   of both

Only `fetch` touches the network.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from lossgauge.data.annotated_images import Expected, Outline, check_counts
from lossgauge.data.cache import default_cache
from lossgauge.data.images import open_image
from lossgauge.data.locations import regular
from lossgauge.data.splits import class_disjoint
from lossgauge.errors import CacheError, DataError, MissingExtra
from lossgauge.types import ImageSet

SIDES = ("train", "test")
_SCHEMA = pa.schema([("image", pa.binary()), ("label", pa.int64())])
_SUMS, _NAMES = TypeAdapter(dict[str, str]), TypeAdapter(list[str])
_BATCH = 256


class Repository(NamedTuple):
    """A dataset's copy on the hub."""

    path: str
    revision: str
    splits: tuple[str, str] = ("train", "test")
    """What the two sides are called there; other splits are not fetched."""
    image: str = "image"
    first_class: int = 0
    """The official id of the class that is 0 there."""
    protocol: str = "official"
    color: bool = True


REPOSITORIES = {
    "cifar10": Repository(
        "uoft-cs/cifar10", "0b2714987fa478483af9968de7c934580d0bb9a2", image="img"
    ),
    "cars196": Repository(
        "tanganke/stanford_cars",
        "9abf6cf7d6dfa7b95152a0d6e791ea9435b47a40",
        first_class=1,
        protocol="class-disjoint",
    ),
    "tiny-imagenet": Repository(
        "zh-plus/tiny-imagenet",
        "5a77092c28e51558c5586e9c5eb71a7e17a5e43f",
        splits=("train", "valid"),
    ),
    "fashion-mnist": Repository(
        "zalando-datasets/fashion_mnist",
        "531be5e2ccc9dba0c201ad3ae567a4f3d16ecdd2",
        color=False,
    ),
}


def stored(name: str) -> Path | None:
    """The folder with what was fetched of a dataset, None where nothing was."""
    try:
        folder = _folder(name) if name in REPOSITORIES else None
    except CacheError:  # there is no cache
        return None
    return folder if folder is not None and folder.is_dir() else None


def outline(name: str, folder: Path, expected: Expected) -> Outline:
    """What was fetched of a dataset; its counts were checked then."""
    repository = REPOSITORIES[name]
    return Outline(folder, _layout(repository), expected.train, expected.test, repository.protocol)


def fetch(name: str, expected: Expected) -> Path:
    """The folder in the cache with the dataset, just fetched: over the network, row by row, whole or not at all.

    Raises MissingExtra without the library datasets, DataError where the hub cannot be reached or has not
    what is expected.
    """
    try:
        datasets = import_module("datasets")
    except ImportError:
        raise MissingExtra(
            f"fetching {name} from the Hugging Face hub needs datasets: pip install 'lossgauge[hub]'"
        ) from None
    repository, folder = REPOSITORIES[name], _folder(name)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    except OSError as error:
        raise DataError(f"{folder.parent} cannot be written: {error}") from None
    try:
        for side, split in zip(SIDES, repository.splits, strict=True):
            # streamed: only this split is fetched, and nothing is kept twice
            rows = datasets.load_dataset(
                repository.path, revision=repository.revision, split=split, streaming=True
            )
            encoded = rows.cast_column(repository.image, datasets.Image(decode=False))
            _write(draft / f"{side}.arrow", encoded, repository.image)
        sums = {side: _sha256(draft / f"{side}.arrow") for side in SIDES}
        (draft / "sha256.json").write_text(json.dumps(sums))
        load(name, draft, expected)
        if not folder.is_dir():
            draft.rename(folder)
    except DataError:
        raise
    except Exception as error:  # whatever the network and the library come up with
        raise DataError(
            f"{name} cannot be fetched from {_layout(repository)}: {type(error).__name__}: {error}"
        ) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def load(name: str, folder: Path, expected: Expected) -> ImageSet:
    """What `fetch` has put into a folder; its bytes are verified. Images are decoded when they are asked for."""
    repository = REPOSITORIES[name]
    sides = [_open(folder, side) for side in SIDES]
    counts = [table.num_rows for table in sides]
    numbers = np.concatenate([np.asarray(table.column("label"), dtype=np.int64) for table in sides])
    try:
        names = _NAMES.validate_json((sides[0].schema.metadata or {}).get(b"classes", b"[]"))
    except ValidationError:
        raise DataError(
            f"{name} in {folder} has no names of its classes; delete the folder and fetch it again"
        ) from None
    if not np.isin(numbers, np.arange(len(names))).all():
        raise DataError(f"{name} in {folder} has labels that are none of its {len(names)} classes")
    if name == "tiny-imagenet":
        # the rank of its WordNet id is a class's number, as in the folder layout
        numbers = np.argsort(np.argsort(names))[numbers]
        names = sorted(names)
    labels = numbers + repository.first_class
    train, test = np.arange(counts[0]), np.arange(counts[0], sum(counts))
    if repository.protocol == "class-disjoint":
        train, test = class_disjoint(labels)
    check_counts(
        name,
        folder,
        expected,
        train=len(train),
        test=len(test),
        classes=len(np.unique(labels)),
        how=f"delete the folder and fetch it again; it is {_layout(repository)}",
    )
    return ImageSet(
        name=name,
        ids=tuple(
            f"{split}/{row}"
            for split, count in zip(SIDES, counts, strict=True)
            for row in range(count)
        ),
        labels=labels,
        class_names=dict(enumerate(names, repository.first_class)),
        train=train,
        test=test,
        protocol=repository.protocol,
        source=f"{folder} ({_layout(repository)})",
        digest=hashlib.sha256((folder / "sha256.json").read_bytes()).hexdigest(),
        read=partial(_read, name, sides, "RGB" if repository.color else "L"),
    )


def _folder(name: str) -> Path:
    return default_cache() / "hub" / f"{name}-{REPOSITORIES[name].revision[:12]}"


def _layout(repository: Repository) -> str:
    return f"Hugging Face {repository.path} at {repository.revision[:12]}"


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
        # before it is parsed: a mapped file is trusted
        if _sha256(path) != expected:
            raise DataError(f"{path} is damaged: its SHA-256 is another; delete {folder}")
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

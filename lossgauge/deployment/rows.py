"""The rows that a head is applied to, or that are kept as they are: features of images or texts, or a table of rows that are features already; in blocks.

A table has one side: all rows are queries, or documents, or neither.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

from lossgauge.backbones import load_backbone
from lossgauge.backbones.sentence_model import MINILM
from lossgauge.data import (
    EMBEDDINGS,
    FOLDER,
    PAIRS,
    TOY,
    check_dataset_name,
    load_dataset,
    loose_images,
    needs_backbone,
    texts,
    toy,
)
from lossgauge.data import TEXTS as TEXTS_PATH
from lossgauge.data.embedded_file import BACKBONE, HEAD, text_in
from lossgauge.data.embedding_shards import DOCUMENT, PLURALS, QUERY, SIDES
from lossgauge.data.feature_blocks import feature_blocks
from lossgauge.data.features import cut_note, fingerprint_of
from lossgauge.data.manifest import SUFFIXES
from lossgauge.data.pairs import load as load_pairs
from lossgauge.data.splits import fingerprint
from lossgauge.deployment.backbone import check_stated, hash_of
from lossgauge.deployment.head import ExportedHead
from lossgauge.diagnosis.source import Source, from_files
from lossgauge.diagnostics.references import FROZEN
from lossgauge.errors import DataError, InputError
from lossgauge.plan.study import names_pairs
from lossgauge.study.progress import Progress
from lossgauge.terminal import safe
from lossgauge.types import IMAGES, TEXTS, FeatureSet, ImageSet, PairRows, Text

FROZEN_BACKBONE = {IMAGES: "efficientnet-lite0", TEXTS: MINILM}
"""Without a head, if no other is named."""

BLOCK_ROWS = 4096
"""Rows that the head is applied to at a time."""

Blocks = Callable[[], Iterator[Float[Tensor, "block width"]]]

Check = Callable[[str | None], None]
"""Takes the hash of the backbone before features are extracted, and raises if they are not wanted."""


def _any_backbone(backbone: str | None) -> None:
    """Refuses none."""


class FeatureRows(NamedTuple):
    """Features for a head, not in memory yet."""

    row_count: int
    width: int
    labels: np.ndarray | None
    """Numbers, or the names of the classes; None if they are not known."""
    ids: np.ndarray | None
    """As text, as in the user's files; None if the rows have none."""
    blocks: Blocks
    """Reads all rows in order, again at each call; finite, float32."""
    notes: tuple[str, ...]
    training_rows: str
    """In words, how many of them the head was trained on; empty if none is known."""
    side: str | None = None
    """What all rows are, `query` or `document`; None if that is not known."""
    train: Bool[np.ndarray, " rows"] | None = None
    """Which queries are on the training side of a study; None of any other rows, and where that is not known."""
    backbone: str | None = None
    """A hash of what the features depend on; None where that is not known, as of a plain table."""
    centered: bool = False
    """Whether a file says that its mean is subtracted already."""


class BothSides(NamedTuple):
    """Queries and documents of one data set."""

    queries: FeatureRows
    documents: FeatureRows
    judged: tuple[tuple[str, str, float], ...]
    """Query, document and grade of each judgement of a test query: by ids, or by row numbers of each side, from 0, where there are no ids."""


def rows_for(
    head: ExportedHead | None,
    data: str,
    *,
    backbone: str | None = None,
    embeddings_name: str = "embeddings",
    labels_name: str = "labels",
    side: str | None = None,
    download: bool = False,
    progress: Progress,
    check: Check = _any_backbone,
) -> FeatureRows:
    """The features of `data` (a dataset's name, folder:PATH, texts:PATH, pairs:PATH, embeddings:PATH) for this head, or for none. Extracts
    those of images and texts.

    `side` says that all rows are queries, or documents; of queries and documents, it says which of them are wanted. Everything that does not
    need the features is checked first, and with `check` what their backbone is. Raises InputError if they are not those of the head's backbone, or if the side must be known and is not;
    DataError for data that cannot be read.
    """
    check_dataset_name(data)
    if side is not None and side not in SIDES:
        raise InputError(f"side must be {' or '.join(SIDES)}, got {side!r}")
    if names_pairs(data):
        if side is None:
            raise InputError(
                f"{data} has queries and documents, and a table has one side: say side query or document, or write both with embed_pairs"
            )
        both = both_sides(
            head, data, backbone=backbone, download=download, progress=progress, check=check
        )
        return both.queries if side == QUERY else both.documents
    if data.startswith(EMBEDDINGS):
        return _table(head, data, backbone, embeddings_name, labels_name, side)
    _check_side(head, data, side)
    if data.startswith(TOY):
        found = _in_memory(head, data, toy.load(data.removeprefix(TOY)), None)
    else:
        images, notes = _images(data, download)
        if side is not None and images.kind == TEXTS:
            images = _of_side(images, side)
        found = _extracted(head, data, images, notes, backbone, download, progress, check)
    return found._replace(side=side)


def both_sides(
    head: ExportedHead | None,
    data: str,
    *,
    backbone: str | None = None,
    download: bool = False,
    progress: Progress,
    check: Check = _any_backbone,
) -> BothSides:
    """The features of queries and documents (pairs:PATH, or a dataset's name). Errors are those of `rows_for`."""
    if data.startswith(PAIRS) and not needs_backbone(data):
        vectors = load_pairs(Path(data.removeprefix(PAIRS)))
        assert isinstance(vectors, FeatureSet)
        rows = _in_memory(head, data, vectors, backbone)
        return _sides(rows, cast(PairRows, vectors.pairs), vectors.test)
    found = load_dataset(data, download=download)
    rows = _extracted(head, data, found, (), backbone, download, progress, check)
    return _sides(rows, cast(PairRows, found.pairs), torch.from_numpy(found.test))


def _sides(rows: FeatureRows, pairs: PairRows, test: Int[Tensor, " test"]) -> BothSides:
    """Queries come first in `rows`."""
    count = rows.row_count - len(pairs.corpus)
    numbers = np.concatenate((np.arange(count), np.arange(len(pairs.corpus)))).astype(str)
    names = numbers if rows.ids is None else rows.ids
    tested = torch.isin(pairs.query, test)
    of = (pairs.query[tested], pairs.document[tested], pairs.grade[tested])
    judged = (
        (str(names[query]), str(names[document]), grade)
        for query, document, grade in zip(*(part.tolist() for part in of), strict=True)
    )
    rows = rows._replace(labels=None)  # numbers of connected queries: no classes
    return BothSides(
        rows._replace(
            row_count=count,
            ids=None if rows.ids is None else rows.ids[:count],
            blocks=partial(_between, rows.blocks, 0, count),
            side=QUERY,
            train=~np.isin(np.arange(count), test.numpy()),
        ),
        rows._replace(
            row_count=len(pairs.corpus),
            ids=None if rows.ids is None else rows.ids[count:],
            blocks=partial(_between, rows.blocks, count, rows.row_count),
            training_rows="",
            side=DOCUMENT,
        ),
        tuple(judged),
    )


def _between(blocks: Blocks, first: int, end: int) -> Iterator[Tensor]:
    """The rows from number `first` up to `end`."""
    done = 0
    for block in blocks():
        part = block[max(0, first - done) : max(0, end - done)]
        if len(part):
            yield part
        done += len(block)
        if done >= end:
            return


def _check_side(head: ExportedHead | None, data: str, side: str | None) -> None:
    if head is not None and head.manifest.head.sides == QUERY and side is None:
        raise InputError(
            f"only queries pass through this head, and {data} does not say what its rows are: say --side query or --side document"
        )


def _extracted(
    head: ExportedHead | None,
    data: str,
    images: ImageSet,
    notes: tuple[str, ...],
    backbone: str | None,
    download: bool,
    progress: Progress,
    check: Check,
) -> FeatureRows:
    """The features of images or texts, from the cache or computed now."""
    if head is None:
        loaded = load_backbone(backbone or FROZEN_BACKBONE[images.kind], download=download)
    else:
        loaded = head.load_backbone(backbone, download=download)
    identity = hash_of(loaded.identity)
    check(identity)
    found = feature_blocks(images, loaded, progress=partial(progress.features, data))
    _check_width(head, found.width, data)
    labels = None
    if images.protocol not in (loose_images.PROTOCOL, texts.NO_LABELS):
        labels = named(images.labels[found.kept], images.class_names)
    if skipped := np.setdiff1d(np.arange(len(images.ids)), found.kept).tolist():
        names = ", ".join(safe(str(images.ids[at])) for at in skipped[:NAMED])
        more = f" and {len(skipped) - NAMED:,} more" if len(skipped) > NAMED else ""
        have = "it has" if len(skipped) == 1 else "they have"
        notes = (
            *notes,
            f"{len(skipped):,} of {len(images.ids):,} images cannot be read: {have} no row ({names}{more})",
        )
    ids = np.array(images.own_ids or images.ids)[found.kept]
    return FeatureRows(
        len(found.kept),
        found.width,
        labels,
        ids,
        lambda: (part for block in found.blocks() for part in block.split(BLOCK_ROWS)),
        (*images.notes, *notes, *cut_note(images, loaded)),
        _trained_on(head, images, found.kept),
        backbone=identity,
    )


def _of_side(given: ImageSet, side: str) -> ImageSet:
    """The same texts as queries or documents: a backbone may put a prompt before each, so their features are others."""

    def read(row: int) -> Text:
        item = given.read(row)
        assert isinstance(item, Text)
        return item._replace(side=side)

    digest = hashlib.sha256(f"{side} {given.digest}".encode()).hexdigest()
    return replace(given, read=read, digest=digest)


def named(labels: Int64[np.ndarray, " rows"], names: Mapping[int, str]) -> np.ndarray:
    """The names of the classes as text, or the labels where names are only their numbers."""
    numbers, place = np.unique(labels, return_inverse=True)
    words = [names.get(int(number), str(number)) for number in numbers]
    if all(word == str(number) for word, number in zip(words, numbers, strict=True)):
        return labels
    return np.asarray(np.array(words)[place])


NAMED = 3
"""Images that cannot be read, whose names are shown."""


def _images(data: str, download: bool) -> tuple[ImageSet, tuple[str, ...]]:
    """The images or texts; those without classes have no labels, and a note says why."""
    if data.startswith(TEXTS_PATH):
        table = Path(data.removeprefix(TEXTS_PATH))
        if not texts.has_labels(table):
            return texts.load_unlabelled(table), ("the texts have no labels",)
    path = Path(data.removeprefix(FOLDER))
    try:
        return load_dataset(data, download=download), ()
    except DataError as error:
        manifests = [path / f"manifest{suffix}" for suffix in SUFFIXES]
        if not data.startswith(FOLDER) or not path.is_dir() or any(m.exists() for m in manifests):
            raise
        images = loose_images.load(path)
        return images, (f"the rows have no labels: {error}",)


def _table(
    head: ExportedHead | None,
    data: str,
    backbone: str | None,
    embeddings_name: str,
    labels_name: str,
    side: str | None,
) -> FeatureRows:
    """Rows of a file that are features; the array `sides` of the file says what they are, if `side` does not."""
    if head is not None:
        check_stated(head.manifest, backbone, data)
    source = from_files(
        Path(data.removeprefix(EMBEDDINGS)),
        embeddings_name=embeddings_name,
        labels_name=labels_name,
        least_rows=1,
    )
    if side is not None and source.side not in (None, side):
        raise InputError(
            f"the rows of {source.name} are {PLURALS[str(source.side)]}, as its array sides says, got --side {side}: leave --side out"
        )
    side = side or source.side
    _check_side(head, data, side)
    if any(array.dtype.kind != "f" for array in source.arrays):
        raise DataError(f"{source.name}: features must be floats: store them as float32")
    _check_width(head, source.width, source.name)
    labels = None if source.labels is None else named(source.labels, source.class_names)
    notes = ("the rows have no labels",) if labels is None else source.notes
    return FeatureRows(
        source.row_count,
        source.width,
        labels,
        source.ids,
        partial(_blocks, source),
        notes,
        _by_name(head, f"{EMBEDDINGS}{Path(source.name).name}"),
        side,
        source.trains if side == QUERY and _has_both(source.trains) else None,
        _stated_hash(head) or _hash_in(source),
        source.centered,
    )


def _has_both(trains: Bool[np.ndarray, " rows"] | None) -> bool:
    return trains is not None and 0 < int(trains.sum()) < len(trains)


def _stated_hash(head: ExportedHead | None) -> str | None:
    """Of a table for a head: it was said to have features of that head's backbone."""
    return None if head is None else hash_of(head.manifest.backbone.identity)


def _hash_in(source: Source) -> str | None:
    """What the rows of files of `embed` depend on: the backbone of frozen features, or the head of embeddings; None for any others."""
    found = set()
    for path in map(Path, source.paths):
        mark = text_in(path, HEAD)
        found.add(text_in(path, BACKBONE) if mark in (FROZEN, None) else hash_of({HEAD: str(mark)}))
    return found.pop() if len(found) == 1 else None


def _blocks(source: Source) -> Iterator[Tensor]:
    first = 0
    for array in source.arrays:
        for start in range(0, len(array), BLOCK_ROWS):
            with np.errstate(over="ignore"):
                rows = np.array(array[start : start + BLOCK_ROWS], dtype=np.float32, order="C")
            bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
            if len(bad):
                raise DataError(
                    f"features must be finite in float32, but {source.where(first + start + int(bad[0]))} is not: remove "
                    "that row, or compute it again"
                )
            yield torch.from_numpy(rows)
        first += len(array)


def _in_memory(
    head: ExportedHead | None, data: str, features: FeatureSet, stated: str | None
) -> FeatureRows:
    width = features.features.shape[1]
    if head is not None:
        check_stated(head.manifest, stated or features.backbone, data)
    _check_width(head, width, data)
    labels = named(features.labels.numpy(), features.class_names)
    return FeatureRows(
        len(labels),
        width,
        labels,
        None,
        lambda: iter(features.features.split(BLOCK_ROWS)),
        features.notes,
        _by_name(head, data),
        backbone=_stated_hash(head),
    )


def _trained_on(
    head: ExportedHead | None, images: ImageSet, kept: Int64[np.ndarray, " rows"]
) -> str:
    """The rows of the training side, if these images and their split are those of the head's study."""
    if head is None:
        return ""
    if images.pairs is not None:
        if fingerprint_of(images) == head.manifest.trained.fingerprint:
            return f"{len(images.train):,} of {len(images.ids) - len(images.pairs.corpus):,} queries are training queries of the head"
        return _by_name(head, images.name)
    place = np.full(len(images.ids), -1)
    place[kept] = np.arange(len(kept))
    train, test = (rows[rows >= 0] for rows in (place[images.train], place[images.test]))
    ids = [images.ids[number] for number in kept]
    if fingerprint(ids, images.labels[kept], train, test) == head.manifest.trained.fingerprint:
        return f"{len(train):,} of {len(kept):,} rows are training rows of the head"
    return _by_name(head, images.name)


def _by_name(head: ExportedHead | None, dataset: str) -> str:
    if head is None or head.manifest.trained.dataset != dataset:
        return ""
    return f"the head was trained on {dataset}, and some of these rows may be its training rows"


def _check_width(head: ExportedHead | None, width: int, source: str) -> None:
    if head is not None and width != head.feature_width:
        raise InputError(
            f"this head takes {head.feature_width} features ({head.manifest.backbone.name}), but the rows of {source} have "
            f"width {width}: use the features that it was trained on"
        )

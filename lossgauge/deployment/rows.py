"""The rows that a head is applied to, or that are kept as they are: features of images or texts, or a table of rows that are features already; in blocks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
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
    toy,
)
from lossgauge.data.feature_blocks import feature_blocks
from lossgauge.data.features import fingerprint_of
from lossgauge.data.manifest import SUFFIXES
from lossgauge.data.pairs import load as load_pairs
from lossgauge.data.splits import fingerprint
from lossgauge.deployment.backbone import check_stated
from lossgauge.deployment.head import ExportedHead
from lossgauge.diagnosis.source import Source, from_files
from lossgauge.errors import DataError, InputError
from lossgauge.plan.study import names_pairs
from lossgauge.study.progress import Progress
from lossgauge.types import IMAGES, TEXTS, FeatureSet, ImageSet, Text

FROZEN_BACKBONE = {IMAGES: "efficientnet-lite0", TEXTS: MINILM}
"""Without a head, if no other is named."""

QUERY, DOCUMENT = SIDES = ("query", "document")
"""What a row is, where some are searched for among others."""

BLOCK_ROWS = 4096
"""Rows that the head is applied to at a time."""


class FeatureRows(NamedTuple):
    """Features for a head, not in memory yet."""

    row_count: int
    width: int
    labels: np.ndarray | None
    """Numbers, or the names of the classes; None if they are not known."""
    ids: np.ndarray | None
    """As text; None if the rows have none."""
    blocks: Iterator[Float[Tensor, "block width"]]
    """All rows in order, finite, float32. Can be used once."""
    notes: tuple[str, ...]
    training_rows: str
    """In words, how many of them the head was trained on; empty if none is known."""
    sides: np.ndarray | None = None
    """`query` or `document` for each row; None if that is not known."""


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
) -> FeatureRows:
    """The features of `data` (a dataset's name, folder:PATH, texts:PATH, pairs:PATH, embeddings:PATH) for this head, or for none. Extracts
    those of images and texts.

    `side` says that all rows are queries, or documents; pairs:PATH says it itself. Everything that does not need the features is checked first. Raises
    InputError if they are not those of the head's backbone, or if the side must be known and is not; DataError for data that cannot be read.
    """
    check_dataset_name(data)
    _check_side(head, data, side)
    found = _rows_for(head, data, backbone, embeddings_name, labels_name, side, download, progress)
    if side is None:
        return found
    return found._replace(sides=np.full(found.row_count, side))


def _check_side(head: ExportedHead | None, data: str, side: str | None) -> None:
    if side is not None and side not in SIDES:
        raise InputError(f"side must be {' or '.join(SIDES)}, got {side!r}")
    if side is not None and names_pairs(data):
        raise InputError(f"{data} says itself which rows are queries: leave --side out")
    unclear = side is None and not names_pairs(data)
    if head is not None and head.manifest.head.sides == QUERY and unclear:
        raise InputError(
            f"only queries pass through this head, and {data} does not say what its rows are: say --side query or --side document"
        )


def _rows_for(
    head: ExportedHead | None,
    data: str,
    backbone: str | None,
    embeddings_name: str,
    labels_name: str,
    side: str | None,
    download: bool,
    progress: Progress,
) -> FeatureRows:
    if data.startswith(EMBEDDINGS):
        if head is not None:
            check_stated(head.manifest, backbone, data)
        path = Path(data.removeprefix(EMBEDDINGS))
        source = from_files(
            path, embeddings_name=embeddings_name, labels_name=labels_name, least_rows=1
        )
        return _table(head, source)
    if data.startswith(TOY):
        return _in_memory(head, data, toy.load(data.removeprefix(TOY)), None)
    if data.startswith(PAIRS) and not needs_backbone(data):
        vectors = load_pairs(Path(data.removeprefix(PAIRS)))
        if isinstance(vectors, FeatureSet):
            return _in_memory(head, data, vectors, backbone)
    images, notes = _images(data, download)
    if side is not None and images.kind == TEXTS:
        images = _of_side(images, side)
    if head is None:
        loaded = load_backbone(backbone or FROZEN_BACKBONE[images.kind], download=download)
    else:
        loaded = head.load_backbone(backbone, download=download)
    found = feature_blocks(images, loaded, progress=partial(progress.features, data))
    _check_width(head, found.width, data)
    labels = None
    if images.protocol != loose_images.PROTOCOL:
        labels = named(images.labels[found.kept], images.class_names)
    skipped = len(images.ids) - len(found.kept)
    if skipped:
        notes = (
            *notes,
            f"{skipped:,} of {len(images.ids):,} images cannot be read: they have no row",
        )
    ids = np.array(images.ids)[found.kept]
    blocks = (part for block in found.blocks for part in block.split(BLOCK_ROWS))
    return FeatureRows(
        len(found.kept),
        found.width,
        labels,
        ids,
        blocks,
        (*images.notes, *notes),
        _trained_on(head, images, found.kept),
        None if images.pairs is None else _sides(len(images.ids), images.pairs.corpus)[found.kept],
    )


def _sides(count: int, corpus: Int[Tensor, " documents"]) -> np.ndarray:
    sides = np.full(count, QUERY, dtype=f"U{len(DOCUMENT)}")
    sides[corpus.numpy()] = DOCUMENT
    return sides


def _of_side(texts: ImageSet, side: str) -> ImageSet:
    """The same texts as queries or documents: a backbone may put a prompt before each, so their features are others."""

    def read(row: int) -> Text:
        item = texts.read(row)
        assert isinstance(item, Text)
        return item._replace(side=side)

    digest = hashlib.sha256(f"{side} {texts.digest}".encode()).hexdigest()
    return replace(texts, read=read, digest=digest)


def named(labels: Int64[np.ndarray, " rows"], names: Mapping[int, str]) -> np.ndarray:
    """The names of the classes as text, or the labels where names are only their numbers."""
    numbers, place = np.unique(labels, return_inverse=True)
    words = [names.get(int(number), str(number)) for number in numbers]
    if all(word == str(number) for word, number in zip(words, numbers, strict=True)):
        return labels
    return np.asarray(np.array(words)[place])


def _images(data: str, download: bool) -> tuple[ImageSet, tuple[str, ...]]:
    """The images; those of a folder without classes have no labels, and a note says why."""
    path = Path(data.removeprefix(FOLDER))
    try:
        return load_dataset(data, download=download), ()
    except DataError as error:
        manifests = [path / f"manifest{suffix}" for suffix in SUFFIXES]
        if not data.startswith(FOLDER) or not path.is_dir() or any(m.exists() for m in manifests):
            raise
        images = loose_images.load(path)
        return images, (f"the rows have no labels: {error}",)


def _table(head: ExportedHead | None, source: Source) -> FeatureRows:
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
        _blocks(source),
        notes,
        _by_name(head, f"{EMBEDDINGS}{Path(source.name).name}"),
    )


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
    blocks = iter(features.features.split(BLOCK_ROWS))
    sides = None if features.pairs is None else _sides(len(labels), features.pairs.corpus)
    return FeatureRows(
        len(labels), width, labels, None, blocks, features.notes, _by_name(head, data), sides
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

"""Features of images or texts, block after block, in this process."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lossgauge.data.locations import Unreachable
from lossgauge.errors import DataError
from lossgauge.types import PADDING, TEXTS, Backbone, ImageSet

BATCH = 32
"""Items that go through the network at a time: few enough that its activations fit in the CPU cache."""

TEXT_BLOCK = 256
"""Texts that are sorted by length before they are divided into batches, so that little is padded. Our choice."""


def block_rows(images: ImageSet) -> int:
    """Items of one block: a batch of images, or several batches of texts."""
    return TEXT_BLOCK if images.kind == TEXTS else BATCH


class Extracted(NamedTuple):
    """Features of one block."""

    rows: Float[Tensor, "rows width"]
    next_image: int
    """Number of the item after the last one of the block."""
    skipped: dict[int, str]
    """Numbers of images that could not be read → the reason."""
    first: tuple[int, tuple[int, ...]] | None
    """Number of the first readable image, and the shape that all images must have; None without a readable image, and
    for texts, which have different lengths."""


def extract_batches(
    images: ImageSet, backbone: Backbone, starts: range, *, decoders: int
) -> Generator[Extracted, None, None]:
    """The blocks that begin at `starts`; images that cannot be read have no row.

    `decoders` threads prepare the next two blocks while the network processes one. Raises DataError for images
    of two sizes in one batch, and if a file cannot be accessed.
    """
    total, size = len(images.ids), block_rows(images)

    def prepare(rows: range) -> list[Tensor | DataError]:
        prepared: list[Tensor | DataError] = []
        for row in rows:
            try:
                prepared.append(backbone.prepare(images.read(row)))
            except Unreachable:
                raise
            except DataError as error:
                prepared.append(error)
        return prepared

    with ThreadPoolExecutor(decoders, thread_name_prefix="decode") as pool:
        ahead: deque[list[Future[list[Tensor | DataError]]]] = deque()
        waiting = iter(starts)
        try:
            for start in starts:
                while len(ahead) < 3 and (later := next(waiting, None)) is not None:
                    rows = range(later, min(later + size, total))
                    parts = range(0, len(rows), size // 4)
                    ahead.append([pool.submit(prepare, rows[p : p + size // 4]) for p in parts])
                prepared = chain.from_iterable(job.result() for job in ahead.popleft())
                yield _extract(images, backbone, start, list(prepared))
        finally:
            for jobs in ahead:
                for job in jobs:
                    job.cancel()


def different_sizes(
    images: ImageSet, backbone: Backbone, row: int, one: object, other: object
) -> DataError:
    """The error for an image whose size differs from the images before it."""
    return DataError(
        f"{backbone.name} needs images of one size, got {one} and, for {images.ids[row]} of {images.name}, {other}"
    )


def _extract(
    images: ImageSet, backbone: Backbone, start: int, prepared: list[Tensor | DataError]
) -> Extracted:
    readable = {
        row: image for row, image in enumerate(prepared, start) if isinstance(image, Tensor)
    }
    skipped = {row: str(error) for row, error in enumerate(prepared, start) if row not in readable}
    next_image = start + len(prepared)
    if not readable:
        return Extracted(torch.empty(0, 0), next_image, skipped, None)
    batch = list(readable.values())
    if images.kind == TEXTS:
        return Extracted(_extract_texts(backbone, batch), next_image, skipped, None)
    shape = tuple(batch[0].shape)
    for row, image in readable.items():
        if image.shape != shape:
            raise different_sizes(images, backbone, row, shape, tuple(image.shape))
    rows = backbone.extract(torch.stack(batch)).clone()
    return Extracted(rows, next_image, skipped, (min(readable), shape))


def _extract_texts(backbone: Backbone, texts: list[Tensor]) -> Float[Tensor, "rows width"]:
    """Features of texts of any lengths; texts of similar length go through the network together."""
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    parts = [order[first : first + BATCH] for first in range(0, len(order), BATCH)]
    rows = [
        backbone.extract(
            pad_sequence([texts[row] for row in part], batch_first=True, padding_value=PADDING)
        )
        for part in parts
    ]
    return torch.cat(rows)[torch.tensor(order).argsort()].clone()

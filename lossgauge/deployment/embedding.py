"""Apply an exported head to data, or normalise its frozen features, block by block, and write the embeddings as one .npz file."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from lossgauge.deployment.head import WEIGHTS, ExportedHead
from lossgauge.deployment.rows import DOCUMENT, rows_for
from lossgauge.errors import DataError, DiskError, InputError
from lossgauge.files import atomic_file, remove_leftovers
from lossgauge.ranking.scores import norms_and_directions
from lossgauge.study.progress import Progress
from lossgauge.user_folders import can_be_written

MARK = "head"
"""The array with the SHA-256 of the head's weights, or `FROZEN`: only files with it are replaced."""

FROZEN = "frozen features"

TOO_GOOD = (
    "score thresholds from this file are too good; take those of the test side, which `lossgauge head` printed and "
    "manifest.json has"
)


class EmbeddedData(NamedTuple):
    """The file that was written."""

    path: Path
    row_count: int
    embedding_size: int
    has_labels: bool
    notes: tuple[str, ...]


def embed_data(
    head: ExportedHead | None,
    data: str,
    out: Path,
    *,
    backbone: str | None = None,
    embeddings_name: str = "embeddings",
    labels_name: str = "labels",
    side: str | None = None,
    frozen: bool = False,
    download: bool = False,
    progress: Progress | None = None,
) -> EmbeddedData:
    """Write the embeddings of `data` to `out`: arrays `embeddings`, `labels`, `ids` and `sides` where they are known, and `head`.

    `data` is a dataset's name, folder:PATH, texts:PATH, pairs:PATH or embeddings:PATH; a folder without classes has no labels. `sides` says which rows are
    queries and which are documents: pairs:PATH has both, and of other data `side` says which of them all rows are. Features of images and texts
    come from the cache, or are extracted into it. `backbone` names the head's backbone where it has another place, or says that the rows of a
    table are features of it. `frozen` writes the features themselves, of length 1: minus the mean that the head subtracts, as a study measures
    its frozen features; without a head, no mean is subtracted, and features are those of `backbone`, or of efficientnet-lite0 for images and minilm-l6 for texts. Memory holds one shard of features and the labels and ids. The file is complete, or as it was before. Raises
    InputError before any work for a wrong place or another backbone, DataError for data that cannot be read.
    """
    check_place(out)
    if head is None and not frozen:
        raise InputError("embeddings need a head; for the features without one, use frozen")
    rows = rows_for(
        head,
        data,
        backbone=backbone,
        embeddings_name=embeddings_name,
        labels_name=labels_name,
        side=side,
        download=download,
        progress=progress or Progress(),
    )
    others = {"labels": rows.labels, "ids": rows.ids, "sides": rows.sides}
    columns = {name: array for name, array in others.items() if array is not None}
    if head is None or frozen:
        columns[MARK] = np.array(FROZEN)
        width = rows.width
        center = torch.zeros(width) if head is None else head.center
        blocks = _frozen(center, rows.blocks)
    else:
        columns[MARK] = np.array(head.manifest.files[WEIGHTS].sha256)
        width = head.embedding_size
        blocks = _embedded(head, rows.blocks, data, rows.sides)
    shape = rows.row_count, width
    notes = rows.notes
    if rows.training_rows and not frozen:
        notes = (*notes, f"{rows.training_rows}: {TOO_GOOD}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(out)
        with atomic_file(out) as temporary:
            write_npz(temporary, blocks, shape, columns)
    except OSError as error:
        raise DiskError(
            f"the embeddings cannot be written to {out} ({error.strerror or error}); give another file with --out"
        ) from None
    return EmbeddedData(out, *shape, rows.labels is not None, notes)


def check_place(out: Path) -> None:
    """InputError unless `out` is a new .npz file, or one that an earlier call wrote; DiskError if it cannot be written."""
    if out.suffix != ".npz":
        raise InputError(f"embeddings are written as .npz, got {out}; name a file like out.npz")
    if not can_be_written(out.parent):
        raise DiskError(
            f"{out.parent} is not a folder that can be written; give another file with --out"
        )
    try:
        mode = out.lstat().st_mode
    except FileNotFoundError:
        return
    elsewhere = "delete it, or give another file with --out"
    if not stat.S_ISREG(mode):
        raise InputError(f"{out} is not a regular file; {elsewhere}")
    try:
        with zipfile.ZipFile(out) as archive:
            known = f"{MARK}.npy" in archive.namelist()
    except zipfile.BadZipFile:
        known = False
    if not known:
        raise InputError(f"{out} exists and was not written by `lossgauge embed`; {elsewhere}")


def write_npz(
    path: Path,
    blocks: Iterator[np.ndarray],
    shape: tuple[int, int],
    columns: Mapping[str, np.ndarray],
) -> None:
    """A file for `numpy.load`, like that of `numpy.savez`, without all rows of `embeddings` in memory.

    The same content gives the same bytes.
    """
    with zipfile.ZipFile(path, "w") as archive:
        # with a date of its own, a file would differ from call to call
        with archive.open(zipfile.ZipInfo("embeddings.npy"), "w", force_zip64=True) as entry:
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(cast(BinaryIO, entry), header)
            for block in blocks:
                entry.write(block.astype("<f4", copy=False).tobytes())
        for name, column in columns.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                np.lib.format.write_array(cast(BinaryIO, entry), column, allow_pickle=False)


@torch.inference_mode()
def _embedded(
    head: ExportedHead, blocks: Iterator[Tensor], data: str, sides: np.ndarray | None
) -> Iterator[np.ndarray]:
    done = 0
    for block in blocks:
        embeddings = head(block)
        if sides is not None:
            of_documents = torch.from_numpy(sides[done : done + len(block)] == DOCUMENT)
            embeddings[of_documents] = head.embed_documents(block[of_documents])
        bad = (~embeddings.isfinite().all(dim=1)).nonzero().flatten()
        if len(bad):
            raise DataError(
                f"{data}, row {done + int(bad[0])}: its features are too large for this head, and give no finite embedding"
            )
        yield embeddings.numpy()
        done += len(block)


@torch.inference_mode()
def _frozen(center: Tensor, blocks: Iterator[Tensor]) -> Iterator[np.ndarray]:
    """As the frozen features of a study: minus the mean, of length 1."""
    for block in blocks:
        _, directions = norms_and_directions(block - center)
        yield directions.float().numpy()

"""Apply an exported head to data, or normalise its frozen features, block by block, and write the embeddings as .npz: one file, or one for each side."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from lossgauge.data import EMBEDDINGS
from lossgauge.data.embedded_file import BACKBONE, HEAD, MEAN, SPLIT
from lossgauge.data.embedding_shards import DOCUMENT, PLURALS, QUERY, SIDES, file_of_side
from lossgauge.deployment.centering import StoredMean, centered, mean_of, read_mean
from lossgauge.deployment.head import WEIGHTS, ExportedHead
from lossgauge.deployment.place import check_apart, check_npz, check_place, check_qrels
from lossgauge.deployment.rows import Blocks, FeatureRows, both_sides, rows_for
from lossgauge.diagnostics.references import FROZEN
from lossgauge.errors import DataError, DiskError, InputError
from lossgauge.files import atomic_file, remove_leftovers
from lossgauge.ranking.scores import norms_and_directions
from lossgauge.study.progress import Progress

TOO_GOOD = (
    "score thresholds from this file are too good; take those of the test side, which `lossgauge head` printed and "
    "manifest.json has"
)


class EmbeddedData(NamedTuple):
    """A file that was written."""

    path: Path
    row_count: int
    embedding_size: int
    has_labels: bool
    notes: tuple[str, ...]
    replaced: bool
    """Whether it replaced an earlier one."""
    mean: str = ""
    """Whose mean was subtracted; empty if none was."""


class EmbeddedPairs(NamedTuple):
    """The files of queries and documents that were written."""

    queries: EmbeddedData
    documents: EmbeddedData
    judgements: Path
    judged_count: int
    judged_queries: int
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
    center: bool = False,
    center_of: Path | None = None,
    download: bool = False,
    progress: Progress | None = None,
) -> EmbeddedData:
    """Write the embeddings of `data` to `out`: arrays `embeddings`, `labels`, `ids`, `sides`, `split` of queries and `backbone` where they are known,
    `head` (the SHA-256 of its weights, or `FROZEN`: a file is replaced only by one of its kind), and `mean` if it is centered.

    `data` is a dataset's name, folder:PATH, texts:PATH, embeddings:PATH, or pairs:PATH with a `side`; a folder or table without classes has no labels. `side`
    says that all rows are queries, or documents; of queries and documents it says which of them are written (`embed_pairs` writes both). Features of images and texts
    come from the cache, or are extracted into it. `backbone` names the head's backbone where it has another place, or says that the rows of a
    table are features of it. `frozen` writes the features themselves, of length 1: minus the mean that the head subtracts, as a study measures
    its frozen features; without a head, no mean is subtracted, and features are those of `backbone`, or of efficientnet-lite0 for images and minilm-l6 for texts.
    `center` subtracts the mean of the embeddings last, and makes their length 1 again: the mean of all rows, or of the training queries where
    they are known, as in the centered raw model of a study; `center_of` subtracts the mean in an earlier file of the same side instead. Memory holds one shard of features and the labels and ids. The file is complete, or as it was before. Raises
    InputError before any work for a wrong place or another backbone, DataError for data that cannot be read.
    """
    mark, centers = _mark(head, frozen), _centers(center, center_of)
    is_table = data.startswith(EMBEDDINGS)
    mean = None
    if center_of is not None:
        check_apart([out], [center_of])
        mean = read_mean(center_of, mark=mark, side=side)
        _check_mean(mean, head, mark)
        if side is not None or not is_table:
            mean.check_side(side)
    replaced = check_place(out, mark, centers=centers, side=side, any_side=is_table)
    rows = rows_for(
        head,
        data,
        backbone=backbone,
        embeddings_name=embeddings_name,
        labels_name=labels_name,
        side=side,
        download=download,
        progress=progress or Progress(),
        check=partial(_check_backbone, [mean], mark),
    )
    if centers and rows.centered:
        option = "--center" if center else "--center-of"
        raise InputError(
            f"{option} needs rows that are not centered, and {data} has the array mean, so its mean is subtracted already: leave {option} out, or "
            "give the data that this file was made from"
        )
    check_place(out, mark, centers=centers, side=rows.side)
    table = _Table(out, rows, mean)
    _check_table(head, table, mark)
    (written,) = _write(head, data, [table], mark, centers)
    notes = (*rows.notes, *_center_notes(head, [table], mark, center))
    if rows.training_rows and not frozen:
        notes = (*notes, f"{rows.training_rows}: {TOO_GOOD}")
    return EmbeddedData(out, *written.shape, rows.labels is not None, notes, replaced, written.mean)


def embed_pairs(
    head: ExportedHead | None,
    data: str,
    out: Path,
    *,
    backbone: str | None = None,
    frozen: bool = False,
    center: bool = False,
    center_of: Path | None = None,
    download: bool = False,
    progress: Progress | None = None,
) -> EmbeddedPairs:
    """Write queries and documents of `data` (pairs:PATH, or a dataset's name) to a file each, with the judgements of the test queries beside them.

    For `out` x.npz these are x-queries.npz, x-documents.npz and x-qrels.tsv, as `lossgauge diagnose` and BEIR read them. Ids are those of
    a BEIR folder, or the place in a table where a text is first; vectors have none, and qrels name their row numbers. The test side is that of a study, so no training query of a head is
    in x-qrels.tsv. `center` subtracts from each side its own mean; `center_of` y.npz, the means in y-queries.npz and y-documents.npz. All files are
    complete, or as they were before. The rest is as in `embed_data`.
    """
    mark, centers = _mark(head, frozen), _centers(center, center_of)
    check_npz(out)
    places = [file_of_side(out, side) for side in SIDES]
    qrels = out.with_name(f"{out.stem}-qrels.tsv")
    means: list[StoredMean | None] = [None, None]
    if center_of is not None:
        files = [file_of_side(center_of, side) for side in SIDES]
        check_apart(places, files)
        for number, (file, side) in enumerate(zip(files, SIDES, strict=True)):
            means[number] = mean = read_mean(file, mark=mark, side=side)
            _check_mean(mean, head, mark)
            mean.check_side(side)
    replaced = [
        check_place(place, mark, centers=centers, side=side)
        for place, side in zip(places, SIDES, strict=True)
    ]
    both = both_sides(
        head,
        data,
        backbone=backbone,
        download=download,
        progress=progress or Progress(),
        check=partial(_check_backbone, means, mark),
    )
    table = _qrels(both.judged)
    check_qrels(qrels, table)
    queries, documents = both.queries, both.documents
    tables = [_Table(*each) for each in zip(places, (queries, documents), means, strict=True)]
    for each in tables:
        _check_table(head, each, mark)
    found = _write(head, data, tables, mark, centers, {qrels: table})
    notes = (*queries.notes, *_center_notes(head, tables, mark, center))
    if queries.training_rows and not frozen:
        notes = (*notes, f"{queries.training_rows}; {qrels.name} has test queries only")
    written = [
        EmbeddedData(place, *each.shape, False, (), again, each.mean)
        for place, each, again in zip(places, found, replaced, strict=True)
    ]
    asked = len({query for query, _, _ in both.judged})
    return EmbeddedPairs(written[0], written[1], qrels, len(both.judged), asked, notes)


def _mark(head: ExportedHead | None, frozen: bool) -> str:
    if frozen:
        return FROZEN
    if head is None:
        raise InputError("embeddings need a head; for the features without one, use frozen")
    return head.manifest.files[WEIGHTS].sha256


def _centers(center: bool, center_of: Path | None) -> bool:
    if center and center_of is not None:
        raise InputError(
            f"--center computes the mean and --center-of takes that of {center_of}: give one of them"
        )
    if center_of is not None and center_of.suffix != ".npz":
        raise InputError(
            f"--center-of needs a file that `lossgauge embed --center` wrote, such as raw.npz, got {center_of}"
        )
    return center or center_of is not None


class _Table(NamedTuple):
    """What is written to a file."""

    out: Path
    rows: FeatureRows
    center_of: StoredMean | None
    """The mean that is subtracted; None for its own."""


def _check_mean(mean: StoredMean, head: ExportedHead | None, mark: str) -> None:
    """All that is known before the features."""
    if head is not None:
        mean.check_width(head.feature_width if mark == FROZEN else head.embedding_size)


def _check_backbone(means: Sequence[StoredMean | None], mark: str, backbone: str | None) -> None:
    """Frozen features of two backbones have one mark; embeddings of a head have its own, and the head checks its backbone."""
    for mean in means:
        if mean is not None and mark == FROZEN:
            mean.check_backbone(backbone)


def _check_table(head: ExportedHead | None, of: _Table, mark: str) -> None:
    if of.center_of is not None:
        of.center_of.check_width(
            of.rows.width if head is None or mark == FROZEN else head.embedding_size
        )
        of.center_of.check_side(of.rows.side)
        _check_backbone([of.center_of], mark, of.rows.backbone)


def _center_notes(
    head: ExportedHead | None, tables: Sequence[_Table], mark: str, center: bool
) -> Iterator[str]:
    if center and mark != FROZEN and head is not None and head.manifest.head.sides == QUERY:
        yield "--center changes documents too, though only queries pass through this head: embed the index again"
    for of in tables:
        if (
            of.center_of is None
            or mark != FROZEN
            or None not in (of.center_of.backbone, of.rows.backbone)
        ):
            continue
        which = of.center_of.path if of.center_of.backbone is None else "this data"
        yield (
            f"whether the mean in {of.center_of.path} is that of the same model is not known: {which} does not say which backbone its rows come from"
        )


class _Written(NamedTuple):
    shape: tuple[int, int]
    mean: str


def _write(
    head: ExportedHead | None,
    data: str,
    tables: Sequence[_Table],
    mark: str,
    centers: bool,
    texts: Mapping[Path, str] = MappingProxyType({}),
) -> list[_Written]:
    """All files appear when all are complete."""
    written = []
    try:
        with ExitStack() as files:
            for of in tables:
                written.append(
                    _write_table(head, data, of, mark, centers, _temporary(files, of.out))
                )
            for out, text in texts.items():
                _temporary(files, out).write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        places = " and ".join(str(of.out) for of in tables)
        raise DiskError(
            f"the embeddings cannot be written to {places} ({error.strerror or error}); give another file with --out"
        ) from None
    return written


def _write_table(
    head: ExportedHead | None, data: str, of: _Table, mark: str, centers: bool, place: Path
) -> _Written:
    """One file. Where its own mean is subtracted, the features are read twice."""
    rows, columns = of.rows, _columns(of.rows, mark)
    blocks: Blocks
    if head is None or mark == FROZEN:
        width = rows.width
        center = torch.zeros(width) if head is None else head.center
        blocks = partial(_frozen, center, rows.blocks)
    else:
        width, blocks = head.embedding_size, partial(_embedded, head, rows, data)
    shape = (rows.row_count, width)
    if not centers:
        write_npz(place, map(Tensor.numpy, blocks()), shape, columns)
        return _Written(shape, "")
    every = "rows" if rows.side is None else PLURALS[rows.side]
    if of.center_of is None:
        mean = mean_of(blocks(), rows.train, rows=every, data=data)
    else:
        mean = of.center_of.as_mean()
    columns = {**columns, MEAN: mean.vector.numpy()}
    write_npz(place, map(Tensor.numpy, centered(blocks(), mean.vector)), shape, columns)
    return _Written(shape, mean.words)


def _temporary(files: ExitStack, out: Path) -> Path:
    out.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(out)
    return files.enter_context(atomic_file(out))


def _columns(rows: FeatureRows, mark: str) -> dict[str, np.ndarray]:
    sides = None if rows.side is None else np.full(rows.row_count, rows.side)
    others = {
        "labels": rows.labels,
        "ids": rows.ids,
        "sides": sides,
        SPLIT: None if rows.train is None else np.where(rows.train, "train", "test"),
        BACKBONE: None if rows.backbone is None else np.array(rows.backbone),
    }
    known = {name: array for name, array in others.items() if array is not None}
    return {**known, HEAD: np.array(mark)}


def _qrels(judged: Sequence[tuple[str, str, float]]) -> str:
    """As BEIR has them."""
    text = io.StringIO()
    lines = csv.writer(text, delimiter="\t", lineterminator="\n")
    lines.writerow(("query-id", "corpus-id", "score"))
    lines.writerows((query, document, f"{grade:g}") for query, document, grade in judged)
    return text.getvalue()


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
def _embedded(head: ExportedHead, rows: FeatureRows, data: str) -> Iterator[Tensor]:
    embed = head.embed_documents if rows.side == DOCUMENT else head
    done = 0
    for block in rows.blocks():
        embeddings = embed(block)
        bad = (~embeddings.isfinite().all(dim=1)).nonzero().flatten()
        if len(bad):
            raise DataError(
                f"{data}, row {done + int(bad[0])}: its features are too large for this head, and give no finite embedding"
            )
        yield embeddings
        done += len(block)


@torch.inference_mode()
def _frozen(center: Tensor, blocks: Blocks) -> Iterator[Tensor]:
    """As the frozen features of a study: minus the mean of the head, of length 1."""
    for block in blocks():
        yield norms_and_directions(block - center)[1]

"""Queries and gallery as a caller gives them: they form one task with a defined answer, or raise one clear error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from lossgauge.batch import ArrayLike, as_batch
from lossgauge.errors import InputError
from lossgauge.ranking.query_set import Matches, QuerySet, matches

Labelled = Sequence[ArrayLike]
"""A pair: embeddings, and one label for each."""

Keys = tuple[Int64[Tensor, " queries"], Int64[Tensor, " gallery"]]
"""A whole number for each query, and for each gallery row."""


class LabelledQueries(NamedTuple):
    """Queries and gallery with their classes."""

    ranked: QuerySet
    labels: Int64[Tensor, " queries"]
    """Of the queries, as given."""
    query_classes: Int64[Tensor, " queries"]
    gallery_classes: Int64[Tensor, " gallery"]
    members: Matches
    """For each query, the gallery rows of its class, also those that are left out."""
    right_count: Int64[Tensor, " queries"]
    """R: how many of them are ranked."""


def labelled_queries(
    queries: Labelled,
    gallery: Labelled | None,
    *,
    query_ids: ArrayLike | None,
    gallery_ids: ArrayLike | None,
    query_groups: ArrayLike | None,
    gallery_groups: ArrayLike | None,
) -> LabelledQueries:
    """Queries and gallery, checked. Without a gallery, or with one that is equal to the queries, rows are ranked against each other.

    Raises InputError if something has another length or width, and if no query has a right answer.
    """
    rows, labels = _side("queries", queries, gallery is not None)
    others, other_labels = (rows, labels) if gallery is None else _side("gallery", gallery, True)
    if rows.shape[1] != others.shape[1]:
        raise InputError(
            f"queries and gallery must have the same width, got {rows.shape[1]} and {others.shape[1]}"
        )
    if rows.device.type != "cuda" or others.device != rows.device:
        # other devices may have no float64
        rows, labels, others, other_labels = (
            part.cpu() for part in (rows, labels, others, other_labels)
        )
    same = gallery is None or (torch.equal(rows, others) and torch.equal(labels, other_labels))
    sizes = len(rows), len(others)
    ids = _keys("ids", query_ids, gallery_ids, sizes, alone=same, device=rows.device)
    groups = _keys("groups", query_groups, gallery_groups, sizes, alone=same, device=rows.device)
    if ids is None and same:
        numbers = torch.arange(len(rows), device=rows.device)
        ids = numbers, numbers
    classes = _numbered(labels, other_labels)
    _check_classes(other_labels, classes[1], "the gallery" if gallery is not None else "retrieval")

    of_group = None if groups is None else _joint(classes, groups)
    left_out = [matches(*keys) for keys in (ids, of_group) if keys is not None]
    members = matches(*classes)
    right = members.counts.clone()
    candidates = torch.full_like(right, len(others))
    if ids is not None:
        right -= matches(*_joint(classes, ids)).counts
        candidates -= left_out[0].counts
    if of_group is not None:
        right -= left_out[-1].counts
        candidates -= left_out[-1].counts
    if ids is not None and of_group is not None:  # these were subtracted twice
        twice = matches(*_joint(of_group, ids)).counts
        right += twice
        candidates += twice
    _check_right(right, other_labels, alone=gallery is None)
    ranked = QuerySet(
        rows if same else torch.cat([others, rows]),
        torch.arange(len(rows), device=rows.device) + (0 if same else len(others)),
        len(others),
        tuple(left_out),
        candidates,
    )
    return LabelledQueries(ranked, labels, *classes, members, right)


def _side(name: str, side: Labelled, named: bool) -> tuple[Tensor, Tensor]:
    """Embeddings and labels of a side; `named` if an error must say which side it is."""
    if not isinstance(side, tuple | list) or len(side) != 2:
        raise InputError(f"{name} must be a pair of embeddings and labels, as in {name}=(z, y)")
    try:
        return as_batch(*side)
    except InputError as error:
        raise InputError(f"{name}: {error}" if named else str(error)) from None


def _keys(
    what: str,
    of_queries: ArrayLike | None,
    of_gallery: ArrayLike | None,
    sizes: tuple[int, int],
    *,
    alone: bool,
    device: torch.device,
) -> Keys | None:
    """Ids or groups as whole numbers, equal where they are equal; None if they are not given."""
    if of_queries is None and of_gallery is None:
        return None
    if alone and of_gallery is None:
        of_gallery = of_queries
    if of_queries is None or of_gallery is None:
        missing = "query" if of_queries is None else "gallery"
        raise InputError(f"query_{what} and gallery_{what} belong together: give {missing}_{what}")
    query, gallery = (
        _entries(f"{side}_{what}", values, size)
        for side, values, size in zip(
            ("query", "gallery"), (of_queries, of_gallery), sizes, strict=True
        )
    )
    if (query.dtype.kind in "US") != (gallery.dtype.kind in "US"):
        raise InputError(
            f"query_{what} and gallery_{what} must both be whole numbers or both be text, "
            f"got {query.dtype} and {gallery.dtype}"
        )
    _, numbers = np.unique(np.concatenate([query, gallery]), return_inverse=True)
    both = torch.from_numpy(numbers.astype(np.int64)).to(device)
    return both[: len(query)], both[len(query) :]


def _entries(name: str, values: Any, size: int) -> np.ndarray:
    """One whole number or text for each row."""
    array = np.asarray(values.cpu() if isinstance(values, Tensor) else values)
    if array.dtype.kind == "O":  # text of pandas
        array = np.array(array.tolist())
    if array.shape != (size,):
        raise InputError(
            f"{name} must have one entry for each of the {size} rows, got shape {array.shape}"
        )
    if array.dtype.kind not in "iubUS":
        raise InputError(f"{name} must be whole numbers or text, got {array.dtype}")
    return array


def _numbered(query: Tensor, gallery: Tensor) -> Keys:
    """Keys as numbers from 0, so that two of them can be joined."""
    _, numbers = torch.cat([query, gallery]).unique(return_inverse=True)
    return numbers[: len(query)], numbers[len(query) :]


def _joint(one: Keys, other: Keys) -> Keys:
    """A key for each pair of keys."""
    size = 1 + max(int(part.max()) for part in other)
    return _numbered(one[0] * size + other[0], one[1] * size + other[1])


def _check_classes(labels: Tensor, classes: Tensor, what: str) -> None:
    if bool((classes == classes[0]).all()):
        raise InputError(
            f"{what} needs at least two classes, got only label {int(labels[0])}: every neighbour would be correct"
        )


def _check_right(right: Tensor, labels: Tensor, *, alone: bool) -> None:
    if right.any():
        return
    if alone and len(labels) == len(labels.unique()):
        raise InputError(
            f"each of the {len(labels)} classes has only one sample, so no query has a correct neighbour; "
            "give at least one class two samples"
        )
    raise InputError(
        f"none of the {len(right)} queries has a row of its class in the gallery that is not left out: "
        "check the labels, ids and groups of both sides"
    )

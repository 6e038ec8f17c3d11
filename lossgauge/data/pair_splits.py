"""The split of queries into a training and a test side, such that no right document is on both; and its fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from lossgauge.data.groups import check_groups, held_rows
from lossgauge.errors import DataError, InputError, nearest
from lossgauge.stats.number_format import counted
from lossgauge.types import PairRows

COMPONENTS = "component-disjoint"
SPLITS = ("given", COMPONENTS)
TEST_SHARE = 0.5
"""Of the queries, if the data has no split: as for labelled data, and enough queries for a narrow interval. Our choice."""
_SLICE_SEED = 0


class PairSplit(NamedTuple):
    """Rows of queries of both sides, ascending; the name of the split; what to know about it."""

    train: Int[np.ndarray, " train"]
    test: Int[np.ndarray, " test"]
    protocol: str
    notes: tuple[str, ...]


def components(pairs: PairRows, groups: np.ndarray | None = None) -> Int[np.ndarray, " rows"]:
    """The number of the connected component of each row: queries are connected by a right document (equal texts are one).

    `groups`, one for each query, connect their queries too. A document that is right for no query is a component of its own.
    """
    rows = len(pairs.text)
    right = (pairs.grade > 0).numpy()
    query, document = pairs.query.numpy()[right], pairs.document.numpy()[right]
    texts = pairs.text.numpy()
    # a right document is connected to its text, and queries of one text are connected
    queries = rows - len(pairs.corpus)
    edges = [(query, document), (document, rows + texts[document])]
    edges.append((np.arange(queries), rows + int(texts.max()) + 1 + texts[:queries]))
    count = rows + 2 * (int(texts.max()) + 1)
    if groups is not None:
        numbers = np.unique(groups, return_inverse=True)[1].reshape(-1)
        edges.append((np.arange(queries), count + numbers))
        count += int(numbers.max()) + 1
    one, other = (np.concatenate(side) for side in zip(*edges, strict=True))
    graph = coo_matrix((np.ones(len(one), dtype=bool), (one, other)), shape=(count, count))
    found = connected_components(graph, directed=False)[1][:rows]
    first = np.unique(found, return_index=True)[1]
    # numbered in the order of their first row
    place = np.empty(len(first), dtype=np.int64)
    place[np.argsort(first)] = np.arange(len(first))
    return place[np.unique(found, return_inverse=True)[1].reshape(-1)]


def split_queries(
    pairs: PairRows,
    labels: Int[np.ndarray, " rows"],
    trains: Bool[np.ndarray, " queries"] | None,
    *,
    split: str | None,
    seed: int,
    source: str,
    groups: np.ndarray | None = None,
) -> PairSplit:
    """The queries of both sides; the data may have its own split (`trains`), or none (None).

    `split` is `given` or `component-disjoint`; None is the first that is possible. Component-disjoint: whole components
    (`labels`) are drawn with `seed`, so that about `TEST_SHARE` of the queries are for testing. A split of the data that
    has right documents on both sides is used as it is, with a note. Raises InputError for an unknown split, DataError for a
    side with fewer than two queries and for a group that is on both sides.
    """
    split = split or ("given" if trains is not None else COMPONENTS)
    if split not in SPLITS:
        raise InputError(f"unknown split of queries {split!r}{nearest(split, SPLITS)}")
    count = len(labels) - len(pairs.corpus)
    notes: tuple[str, ...] = ()
    if split == COMPONENTS:
        of_queries = labels[:count]
        tests = held_rows(
            np.zeros(count, np.int64),
            of_queries,
            wanted=np.array([TEST_SHARE * count]),
            generator=np.random.default_rng(seed),
        )
        train, test = np.flatnonzero(~tests), np.flatnonzero(tests)
        largest = int(np.bincount(of_queries).max())
        if count < 4:
            raise DataError(
                f"{source} has {counted(count, 'query')}: at least 4 are needed, two for each side of a split; add more"
            )
        if min(len(train), len(test)) < 2:
            raise DataError(
                f"{source} cannot be split: {largest:,} of its {count:,} queries are connected by right documents or groups, and all of them "
                "must be on one side; give a split: a column split with train and test, or qrels/train.tsv and qrels/test.tsv"
            )
        notes = (
            f"its queries were split by us: {len(train):,} for training, {len(test):,} for testing; no right document is on both sides",
        )
        return PairSplit(train, test, split, notes)
    if trains is None:
        raise DataError(
            f"{source} gives no split: add a column split with train and test (a BEIR folder: qrels/train.tsv and qrels/test.tsv), "
            f"or use split: {COMPONENTS}"
        )
    train, test = np.flatnonzero(trains), np.flatnonzero(~trains)
    if min(len(train), len(test)) < 2:
        raise DataError(
            f"each side of a split needs two queries, but {source} has {len(train):,} for training and {len(test):,} for testing"
        )
    if groups is not None:
        fix = f"use split: {COMPONENTS}, or correct or remove the column group"
        check_groups(groups, train, test, source=f"the given split of {source}", fix=fix)
    right = (pairs.grade > 0).numpy()
    query, text = pairs.query.numpy()[right], pairs.text[pairs.document].numpy()[right]
    shared = np.intersect1d(text[np.isin(query, train)], text[np.isin(query, test)])
    if len(shared):
        leaked = len(np.unique(query[np.isin(query, test) & np.isin(text, shared)]))
        notes = (
            f"{counted(len(shared), 'right document')} of its split {'is' if len(shared) == 1 else 'are'} on both sides: {leaked:,} of "
            f"{len(test):,} test queries {'has' if leaked == 1 else 'have'} one that was seen in training",
        )
    return PairSplit(train, test, split, notes)


def validation_queries(
    labels: Int[np.ndarray, " rows"], train: Int[np.ndarray, " train"], *, share: float
) -> tuple[Int[np.ndarray, " rest"], Int[np.ndarray, " validation"]]:
    """The training queries in two parts: those still used for training, and about `share` of them as a validation slice.

    Whole components (`labels`) are held out, so that no right document of the slice is trained on. The rows depend only on
    labels, not on the loss or the seed. Raises DataError if a part has fewer than two queries.
    """
    held = held_rows(
        np.zeros(len(train), np.int64),
        labels[train],
        wanted=np.array([max(2, round(share * len(train)))], dtype=float),
        generator=np.random.default_rng(_SLICE_SEED),
    )
    rest, validation = train[~held], train[held]
    if min(len(rest), len(validation)) < 2:
        raise DataError(
            f"a validation slice of {share:g} of {len(train):,} training queries leaves {len(rest):,} for training and "
            f"{len(validation):,} for validation, where two are needed: use another validation_share, selection: last without "
            "tune, or more data"
        )
    return rest, validation


def fingerprint_of_pairs(
    ids: Sequence[str],
    pairs: PairRows,
    train: Int[np.ndarray, " train"],
    test: Int[np.ndarray, " test"],
) -> str:
    """SHA-256 over the sorted queries of each side with their judgements, and over the corpus, by ids.

    The same for the same data in any order of rows, if the ids are the same.
    """
    judged: dict[int, list[str]] = {}
    for query, document, grade in zip(
        pairs.query.tolist(), pairs.document.tolist(), pairs.grade.tolist(), strict=True
    ):
        judged.setdefault(query, []).append(f"{ids[document]}\t{grade:g}")
    digest = hashlib.sha256()
    for side, rows in (("train", train), ("test", test)):
        for entry in sorted(
            "\t".join([ids[row], *sorted(judged.get(row, []))]) for row in rows.tolist()
        ):
            digest.update(f"{side}\t{entry}\n".encode())
    for entry in sorted(ids[row] for row in pairs.corpus.tolist()):
        digest.update(f"corpus\t{entry}\n".encode())
    return digest.hexdigest()

"""A user's queries and documents: `pairs:PATH`, a table or a folder in the format of BEIR.

    .csv, .parquet, .jsonl   query,positive[,negative][,negative_1 …][,split][,group]: texts, or lists of floats
    a folder                 corpus.jsonl, queries.jsonl, qrels/*.tsv (Thakur et al. 2021: https://arxiv.org/abs/2104.08663)

A query is its text: rows of one query together have several right documents. Two texts of a table that differ only in white space are
one text.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool

from lossgauge.data import beir
from lossgauge.data.embeddings import BACKBONE
from lossgauge.data.groups import group_numbers
from lossgauge.data.judgements import Judged, pair_notes, pair_rows
from lossgauge.data.manifest import Columns, Where
from lossgauge.data.pair_splits import components, fingerprint_of_pairs, split_queries
from lossgauge.data.row_checks import checked_groups, checked_sides
from lossgauge.data.text_tables import checked_texts, read_json_lines, read_table, same_words
from lossgauge.data.texts import digest_of, read_side
from lossgauge.errors import DataError, LossgaugeError, nearest
from lossgauge.stats.number_format import counted
from lossgauge.types import TEXTS, FeatureSet, ImageSet, PairRows

_NEGATIVE = re.compile(r"negative(_[0-9]{1,4})?")
_OTHER_NAMES = {"question": "query", "anchor": "query", "answer": "positive"}
"""What data sets for sentence-transformers call the columns."""
_KNOWN = ("query", "positive", "negative", "negative_1", "split", "group")


class Given(NamedTuple):
    """Queries and documents of a table or folder before the split; queries come before documents in all of them."""

    items: list[str] | np.ndarray
    """The text of each row, or its vector."""
    pairs: PairRows
    ids: tuple[str, ...]
    trains: Bool[np.ndarray, " queries"] | None
    groups: np.ndarray | None
    """The group of each query, as text."""
    layout: str
    notes: tuple[str, ...]
    own_ids: tuple[str, ...] | None = None
    """As in `ImageSet`."""


def load(path: Path, *, split: str | None = None, seed: int = 0) -> ImageSet | FeatureSet:
    """Queries and documents: texts, which need a backbone, or a feature set of vectors.

    Without a split in the data, queries are split by connected component with `seed` (`split_queries`). Raises DataError
    with the file or the row, and the fix.
    """
    if path.is_dir():
        found = beir.read(path)
        given = Given(
            items=found.texts,
            pairs=found.pairs,
            ids=found.ids,
            trains=found.trains,
            groups=None,
            layout=beir.LAYOUT,
            notes=found.notes,
            own_ids=found.own_ids,
        )
    elif path.exists():
        given = _from_table(path)
    else:
        raise DataError(f"there is no file or folder {path}; {HOW}")
    return pair_set(
        f"pairs:{path.name or path.resolve().name}",
        given,
        source=str(path),
        split=split,
        seed=seed,
    )


HOW = (
    "pairs:PATH takes a .csv, .parquet or .jsonl file with the columns query and positive, or a folder with corpus.jsonl, "
    "queries.jsonl and qrels/*.tsv"
)


def has_vectors(path: Path) -> bool:
    """Whether a table has lists of floats, which need no backbone; False for a file that cannot be read."""
    try:
        if path.suffix.lower() == ".parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            try:
                kind = pq.read_schema(path).field("query").type
            except (pa.ArrowException, OSError, KeyError, ValueError):
                return False
            return not (pa.types.is_string(kind) or pa.types.is_large_string(kind))
        if path.suffix.lower() == ".jsonl":
            return isinstance(next(iter(read_json_lines(path)), (0, {}))[1].get("query"), list)
    except LossgaugeError:
        return False
    return False


def counts(pairs: PairRows) -> str:
    """`50 queries, 200 documents, 60 right pairs, 0 hard negatives`."""
    return (
        f"{len(pairs.text) - len(pairs.corpus):,} queries, {len(pairs.corpus):,} documents, {int((pairs.grade > 0).sum()):,} right pairs, "
        f"{len(pairs.negative_query):,} hard negatives"
    )


def pair_set(
    name: str, given: Given, *, source: str, split: str | None, seed: int
) -> ImageSet | FeatureSet:
    """The data set of judged rows: with its split, its labels (connected components) and its notes."""
    count = len(given.items) - len(given.pairs.corpus)
    labels = components(given.pairs, given.groups)
    train, test, protocol, split_notes = split_queries(
        given.pairs,
        labels,
        given.trains,
        split=split,
        seed=seed,
        source=source,
        groups=given.groups,
    )
    notes = (
        *given.notes,
        *pair_notes(given.pairs, given.ids.__getitem__),
        *split_notes,
    )
    if isinstance(given.items, list):
        return ImageSet(
            name=name,
            ids=given.ids,
            labels=labels,
            class_names={},
            train=train,
            test=test,
            protocol=protocol,
            source=f"{source} ({given.layout})",
            digest=digest_of(given.items, str(count)),
            read=partial(read_side, given.items, count),
            notes=notes,
            groups=None,
            kind=TEXTS,
            pairs=given.pairs,
            own_ids=given.own_ids,
        )
    return FeatureSet(
        dataset=name,
        backbone=BACKBONE,
        features=torch.from_numpy(given.items),
        labels=torch.from_numpy(labels),
        train=torch.from_numpy(train),
        test=torch.from_numpy(test),
        protocol=protocol,
        fingerprint=fingerprint_of_pairs(given.ids, given.pairs, train, test),
        identity={
            "dataset": name,
            "backbone": BACKBONE,
            "embeddings": hashlib.sha256(np.ascontiguousarray(given.items).data).hexdigest(),
        },
        notes=notes,
        groups=group_numbers(None),
        pairs=given.pairs,
    )


def _missing(missing: Sequence[str], columns: Sequence[str], others: Sequence[str]) -> str:
    """Which columns are missing, and which of the `others` to rename."""
    meant = {name: old for old, name in _OTHER_NAMES.items() if old in others and name in missing}
    both = f"both are missing, got {', '.join(columns)}"
    if len(meant) == len(missing):
        renames = " and ".join(f"{old} to {name}" for name, old in meant.items())
        return f"{both if len(missing) == 2 else f'{missing[0]} is missing'}: rename {renames}"
    if len(missing) == 2:
        return f"{both}: rename the columns"
    hint = nearest(missing[0], others) if others else ""
    return f"{missing[0]} is missing{hint}: rename the column"


def _from_table(path: Path) -> Given:
    columns, where = read_table(
        path, lambda name: name in _KNOWN or bool(_NEGATIVE.fullmatch(name))
    )
    negatives = [name for name in columns if _NEGATIVE.fullmatch(name)]
    others = [name for name in columns if name not in _KNOWN and name not in negatives]
    if missing := [name for name in ("query", "positive") if name not in columns]:
        raise DataError(
            f"{path} must have the columns query and positive; {_missing(missing, list(columns), others)}"
        )
    names = ["query", "positive", *negatives]
    items: list[str] | np.ndarray
    if isinstance(next(iter(columns["query"]), None), list | np.ndarray):
        items, numbers = _vectors(columns, names, where)
    else:
        items, numbers = _texts(columns, names, where)
    query_items, query_of = _numbered(numbers[0][:, None])
    document_items, documents = _numbered(np.stack(numbers[1:], axis=1))
    rows = np.arange(len(query_of))
    query, (positive, *wrong) = query_of[:, 0], documents.T
    _check_negatives(query, positive, wrong, names[2:], where)
    present = [(query[given >= 0], given[given >= 0]) for given in wrong]
    judged = Judged(
        query_text=query_items,
        document_text=document_items,
        query=query,
        document=positive,
        grade=np.ones(len(rows)),
        negative_query=np.concatenate([np.empty(0, np.int64), *(one for one, _ in present)]),
        negative_document=np.concatenate([np.empty(0, np.int64), *(two for _, two in present)]),
    )
    pairs = pair_rows(judged)
    notes = _spaced_notes(columns, names, items, numbers, where)
    once = np.unique(np.stack((query, positive)), axis=1, return_index=True)[1]
    if len(again := np.setdiff1d(rows, once)):
        notes.append(
            f"{counted(len(again), 'row')} {'repeats' if len(again) == 1 else 'repeat'} a query with the same positive, the first is "
            f"{where(int(again[0]))}: each counts once"
        )
    if others:
        notes.append(f"columns of {path} that are not read: {', '.join(map(_column, others))}")
    texts = np.concatenate((query_items, document_items))
    return Given(
        items=[items[number] for number in texts] if isinstance(items, list) else items[texts],
        pairs=pairs,
        ids=_ids(_first_rows(query), documents, len(document_items), names, where),
        trains=_of_queries(columns, "split", checked_sides, query, where),
        groups=_of_queries(columns, "group", checked_groups, query, where),
        layout=f"table with the columns {', '.join(columns)}",
        notes=tuple(notes),
    )


def _texts(
    columns: Columns, names: Sequence[str], where: Where
) -> tuple[list[str], list[np.ndarray]]:
    """The different texts, each as it is written first, and the number of the text of each row in each column; -1: no negative there."""
    number: dict[str, int] = {}
    different: list[str] = []
    found = []
    for name in names:
        entries = columns[name]
        optional = name not in ("query", "positive")
        rows = [row for row, entry in enumerate(entries) if not (optional and _is_absent(entry))]
        texts = checked_texts([entries[row] for row in rows], name, _places(rows, where))
        numbers = np.full(len(entries), -1, dtype=np.int64)
        for row, text in zip(rows, texts, strict=True):
            numbers[row] = number.setdefault(same_words(text), len(number))
            if numbers[row] == len(different):
                different.append(text)
        found.append(numbers)
    return different, found


def _spaced_notes(
    columns: Columns,
    names: Sequence[str],
    items: list[str] | np.ndarray,
    numbers: Sequence[np.ndarray],
    where: Where,
) -> list[str]:
    """One line if texts differ from an earlier one only in white space."""
    if not isinstance(items, list):
        return []
    odd = [
        (row, name)
        for name, of in zip(names, numbers, strict=True)
        for row in np.flatnonzero(of >= 0).tolist()
        if columns[name][row] != items[of[row]]
    ]
    if not odd:
        return []
    row, name = odd[0]
    are = "entry differs" if len(odd) == 1 else "entries differ"
    return [
        f"{len(odd):,} {are} from another text only in white space and {'counts' if len(odd) == 1 else 'count'} as that text: the first is "
        f"{name} of {where(row)}"
    ]


def _column(name: str) -> str:
    """`negativ (did you mean 'negative'?)`: a column that is not read, with the one that was perhaps meant."""
    close = get_close_matches(name.lower(), _KNOWN, n=1, cutoff=0.8)
    return f"{name} (did you mean {close[0]!r}?)" if close else name


def _check_negatives(
    query: np.ndarray,
    positive: np.ndarray,
    wrong: Sequence[np.ndarray],
    names: Sequence[str],
    where: Where,
) -> None:
    """DataError, with both places, if a text is right for a query and its negative at once."""
    count = int(max(map(np.max, (positive, *wrong)))) + 1
    right, first = np.unique(query * count + positive, return_index=True)
    found: list[tuple[int, str, int]] = []
    for name, given in zip(names, wrong, strict=True):
        keys = np.where(given >= 0, query * count + given, -1)
        for row in np.flatnonzero(np.isin(keys, right)).tolist():
            found.append((row, name, int(first[np.searchsorted(right, keys[row])])))
    if found:
        row, name, other = min(found)
        more = f" ({len(found):,} such negatives)" if len(found) > 1 else ""
        raise DataError(
            f"a text must not be right for a query and its negative at once, but {where(other)}, has it as positive and {where(row)}, as "
            f"{name} of the same query{more}: remove one of them"
        )


def _places(rows: list[int], where: Where) -> Where:
    return lambda place: where(rows[place])


def _is_absent(entry: object) -> bool:
    return entry is None or entry == "" or (isinstance(entry, float) and entry != entry)


def _vectors(
    columns: Columns, names: Sequence[str], where: Where
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The different vectors as float32, and the number of the vector of each row in each column; -1: no negative there."""
    number: dict[bytes, int] = {}
    found, width = [], None
    for name in names:
        numbers = np.full(len(columns[name]), -1, dtype=np.int64)
        for row, entry in enumerate(columns[name]):
            if entry is None and name not in ("query", "positive"):
                continue
            vector = _vector(entry, name, row, where)
            width = width or len(vector)
            if len(vector) != width:
                raise DataError(
                    f"all vectors must have the same width, but {name} has {len(vector)} numbers in {where(row)}, and "
                    f"query has {width} in {where(0)}: compute all of them with one model"
                )
            numbers[row] = number.setdefault(vector.tobytes(), len(number))
        found.append(numbers)
    rows = np.frombuffer(b"".join(number), dtype=np.float32).reshape(len(number), -1)
    return rows.copy(), found


def _vector(entry: Any, name: str, row: int, where: Where) -> np.ndarray:
    try:
        with np.errstate(over="ignore"):
            vector = np.asarray(entry, dtype=np.float32)
    except (TypeError, ValueError, OverflowError):
        vector = np.empty(0, np.float32)
    if vector.ndim != 1 or not len(vector):
        raise DataError(
            f"{name} must be a list of floats in every row, as query in the first one, got {type(entry).__name__} in {where(row)}"
        )
    if not np.isfinite(vector).all():
        raise DataError(f"vectors must be finite in float32, but {name} is not in {where(row)}")
    if not vector.any():
        raise DataError(f"a vector must not be zero, but {name} is all zeros in {where(row)}")
    return vector + np.float32(0)  # -0 and 0 are the same number


def _numbered(items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different items in the order of their first use, row by row; and their numbers in it. -1 stays -1."""
    flat = items.reshape(-1)
    found, first, inverse = np.unique(flat, return_index=True, return_inverse=True)
    inverse = inverse.reshape(-1)
    if len(found) and found[0] == -1:
        found, first, inverse = found[1:], first[1:], inverse - 1
    order = np.argsort(first)
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    numbers = np.where(flat >= 0, place[inverse] if len(place) else inverse, -1)
    return found[order], numbers.reshape(items.shape)


def _first_rows(numbers: np.ndarray) -> list[int]:
    """The row in which each number is used first; numbers are in the order of their first use."""
    return [int(row) for row in np.unique(numbers, return_index=True)[1]]


def _ids(
    query_rows: list[int], documents: np.ndarray, count: int, names: Sequence[str], where: Where
) -> tuple[str, ...]:
    """`query of line 2`, `negative_1 of line 7`: the place where each was used first; of a text that is right somewhere, as right."""
    flat = documents.reshape(-1)
    used = np.flatnonzero(flat >= 0)
    used = used[np.argsort(used % documents.shape[1] > 0, kind="stable")]  # column 0 is `positive`
    first = used[np.unique(flat[used], return_index=True)[1]]
    places = [divmod(int(place), documents.shape[1]) for place in first]

    def line(row: int) -> str:
        return where(row).rpartition(", ")[2]

    return (
        *(f"query of {line(row)}" for row in query_rows),
        *(f"{names[1 + column]} of {line(row)}" for row, column in places),
    )


def _of_queries(
    columns: Columns,
    name: str,
    check: Callable[[Sequence[object], Where], np.ndarray],
    query: np.ndarray,
    where: Where,
) -> np.ndarray | None:
    """The entry of each query in a column; DataError if the rows of a query have different ones."""
    if name not in columns:
        return None
    entries = check(columns[name], where)
    first = np.array(_first_rows(query))
    differ = np.flatnonzero(entries != entries[first][query])
    if len(differ):
        row = int(differ[0])
        raise DataError(
            f"all rows of a query must have one {name}, but {where(int(first[query[row]]))} and {where(row)} have the same query "
            f"and different ones: use one of them for both"
        )
    result: np.ndarray = entries[first]
    return result

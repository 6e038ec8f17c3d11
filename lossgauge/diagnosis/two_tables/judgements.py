"""Which documents are right for which query: from a file of TREC or BEIR, a table, a mapping or numbers of rows."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from lossgauge.batch import ArrayLike
from lossgauge.data.locations import not_utf_8, reason_of
from lossgauge.diagnosis.source import Source
from lossgauge.errors import DataError, InputError
from lossgauge.stats.number_format import counted

Given = str | Path | Mapping[Any, Mapping[Any, float]] | ArrayLike
"""A file; query → document → grade; or rows of (query, document) or (query, document, grade) with numbers of rows."""

NAMES = {
    "query": ("query", "query-id", "query_id", "qid"),
    "document": ("document", "corpus-id", "corpus_id", "document-id", "document_id", "doc_id"),
    "grade": ("grade", "score", "relevance", "rel"),
}
"""What a column may be called."""
_DELIMITERS = {".tsv": "\t", ".csv": ","}


_Error = type[DataError | InputError]


class Judgements(NamedTuple):
    """Judged pairs as numbers of rows, by ascending query, then document; each pair once."""

    query: Int64[np.ndarray, " judged"]
    document: Int64[np.ndarray, " judged"]
    grade: Float64[np.ndarray, " judged"]
    """Above 0: the document is right, and more so the higher the grade. 0: judged as not right."""
    repeated: int
    """Judgements that were given more than once, with the same grade."""

    def some(self, which: np.ndarray) -> Judgements:
        return Judgements(self.query[which], self.document[which], self.grade[which], self.repeated)

    @property
    def right(self) -> Judgements:
        """Those above 0."""
        return self.some(self.grade > 0)

    def clusters(self, queries: Int64[np.ndarray, " queries"]) -> Int64[np.ndarray, " queries"]:
        """For each of `queries`, numbers of rows, the number of its cluster: those that right documents connect have the same."""
        right = self.right
        query, document = (
            np.unique(numbers, return_inverse=True) for numbers in (right.query, right.document)
        )
        count = len(query[0])
        edges = np.ones(len(right.query), dtype=bool), (query[1], count + document[1])
        graph = coo_matrix(edges, shape=(count + len(document[0]),) * 2)
        number = connected_components(graph, directed=False)[1][:count]
        return np.asarray(number[np.searchsorted(query[0], queries)], dtype=np.int64)


class _Line(NamedTuple):
    where: str
    query: str
    document: str
    grade: float


def judgements_of(given: Given, queries: Source, documents: Source) -> Judgements:
    """The judgements of rows of both tables, named by their ids, or by their row numbers from 0 where a table has no ids.

    Grades below 0, which TREC uses for junk, count as 0. Raises DataError for a file, and InputError for arrays: for what is not a
    judgement, an id that no row has, a grade that is not a number, two grades for one pair, and judgements without a right document.
    """
    error: _Error = InputError
    name, lines = "judgements", []
    if isinstance(given, str | Path):
        name, error = str(given), DataError
        lines = list(_read(Path(given)))
    else:
        lines = list(_entries(given))
    if not lines:
        raise error(f"{name} must hold judgements, got none: give query, document and grade")
    found = Judgements(
        _rows(lines, "query", queries, name, error),
        _rows(lines, "document", documents, name, error),
        np.array([max(line.grade, 0.0) for line in lines]),
        0,
    )
    order = np.lexsort((found.document, found.query))
    found = found.some(order)
    same = (found.query[1:] == found.query[:-1]) & (found.document[1:] == found.document[:-1])
    differ = np.flatnonzero(same & (found.grade[1:] != found.grade[:-1]))
    if len(differ):
        first, second = sorted(int(order[differ[0] + step]) for step in (0, 1))
        raise error(
            f"a document must have one grade for a query, but {lines[first].where} and {lines[second].where} give two for query "
            f"{lines[first].query} and document {lines[first].document}: keep one"
        )
    found = found.some(np.append(True, ~same))._replace(repeated=int(same.sum()))
    if not (found.grade > 0).any():
        raise error(
            f"{name} must have a grade above 0, which means right, but none of its {counted(len(lines), 'grade')} is: judge a document as right"
        )
    return found


def _rows(
    lines: list[_Line], side: str, source: Source, name: str, error: _Error
) -> Int64[np.ndarray, " judged"]:
    """The row of each line's query or document."""
    asked = np.array([getattr(line, side) for line in lines])
    if source.ids is None:
        numbers = np.char.isdecimal(asked) & (np.char.str_len(asked) < 19)
        rows = np.where(numbers, asked, "-1").astype(np.int64)
        rows[rows >= source.row_count] = -1
        kind = f"{source.name} has no ids, so ids are row numbers, 0 to {source.row_count - 1}"
    else:
        order = np.argsort(source.ids)
        place = np.searchsorted(source.ids, asked, sorter=order).clip(max=source.row_count - 1)
        rows = order[place]
        rows[source.ids[rows] != asked] = -1
        kind = f"no row of {source.name} has this id"
    missing = np.flatnonzero(rows < 0)
    if len(missing):
        first = lines[int(missing[0])]
        count = len(np.unique(asked[missing]))
        more = f" ({count:,} such ids)" if count > 1 else ""
        raise error(
            f"{name} must name rows of both tables, but {first.where} has {side} {getattr(first, side)!r}, and {kind}{more}: add these "
            "rows, or remove their judgements"
        )
    return np.asarray(rows, dtype=np.int64)


def _entries(given: Any) -> Iterator[_Line]:
    """Of a mapping, or of rows of numbers."""
    if isinstance(given, Mapping):
        for query, grades in given.items():
            if not isinstance(grades, Mapping):
                raise InputError(
                    f"judgements must map a query to its documents and their grades, got {grades!r} for query {query!r}"
                )
            for document, grade in grades.items():
                where = f"the entry of query {query!r}, document {document!r}"
                yield _line(where, query, document, grade, InputError)
        return
    try:
        rows = np.asarray(given)
    except (ValueError, TypeError) as problem:
        raise InputError(f"judgements must be rows of equal length: {problem}") from None
    if rows.ndim != 2 or rows.shape[1] not in (2, 3):
        raise InputError(
            f"judgements must have the shape (judgements, 2) or (judgements, 3): query, document, grade; got {rows.shape}"
        )
    whole = rows[:, :2]
    if rows.dtype.kind == "f" and (whole == np.floor(whole)).all():
        whole = whole.astype(np.int64)
    for number, (pair, row) in enumerate(zip(whole.tolist(), rows.tolist(), strict=True)):
        grade = row[2] if len(row) == 3 else 1
        yield _line(f"judgement {number}", pair[0], pair[1], grade, InputError)


def _line(where: str, query: object, document: object, grade: object, error: _Error) -> _Line:
    for side, entry in (("query", query), ("document", document)):
        if entry is None or entry != entry or str(entry) == "":
            raise error(f"every judgement needs a {side}, but {where} has none")
    try:
        value = float(str(grade))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise error(f"a grade must be a number, got {grade!r} in {where}: 0 means not right")
    return _Line(where, str(query), str(document), value)


def _read(path: Path) -> Iterator[_Line]:
    if path.suffix == ".parquet":
        yield from _from_columns(path, _parquet(path))
        return
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path} must be a file with judgements, but it does not exist") from None
    except UnicodeDecodeError:
        raise DataError(not_utf_8(path)) from None
    except OSError as problem:
        raise DataError(f"{path} cannot be read: {reason_of(problem)}") from None
    if path.suffix in (".jsonl", ".ndjson"):
        yield from _from_columns(path, _json_lines(path, text))
    else:
        yield from _from_text(path, text)


def _parquet(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    import pyarrow
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except (OSError, pyarrow.ArrowException) as problem:
        raise DataError(f"{path} cannot be read as a Parquet file: {problem}") from None
    for number, row in enumerate(rows):
        yield f"{path}, row {number}", row


def _json_lines(path: Path, text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise DataError(f"every line must be a JSON object, but {path}, line {number} is not")
        yield f"{path}, line {number}", row


def _from_columns(path: Path, rows: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[_Line]:
    for where, row in rows:
        names = _columns(list(row), path)
        grade = row[names["grade"]] if "grade" in names else 1
        yield _line(where, row[names["query"]], row[names["document"]], grade, DataError)


def _columns(header: list[str], path: Path) -> dict[str, str]:
    """Which column has the query, the document and, if there is one, the grade."""
    found = {}
    for side, words in NAMES.items():
        known = [name for name in header if name.strip().lower() in words]
        if len(known) > 1 or (not known and side != "grade"):
            raise DataError(
                f"{path} must have one column of {side}, called {words[0]} or {words[1]}, got {', '.join(header) or 'no column'}"
            )
        if known:
            found[side] = known[0]
    if "grade" not in found:  # every judgement would count as right
        for name in header:
            if near := get_close_matches(name.strip().lower(), NAMES["grade"], n=1, cutoff=0.75):
                raise DataError(
                    f"{path} has no column grade, but {name!r}: rename it to {near[0]!r}, or remove it (then every judgement counts as right)"
                )
    return found


def _from_text(path: Path, text: str) -> Iterator[_Line]:
    """Lines of TREC (query, 0, document, grade, between spaces), or of a table whose first line may name its columns."""
    delimiter = _DELIMITERS.get(path.suffix)
    lines = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
    if delimiter == "\t" and lines and "\t" not in lines[0][1]:
        delimiter = None  # TREC's own files are between spaces, whatever their names
    split = [
        (n, line.split() if delimiter is None else next(csv.reader([line], delimiter=delimiter)))
        for n, line in lines
    ]
    places = {"query": 0, "document": 1, "grade": 2}
    width = len(split[0][1]) if split else 0
    if split and any(word.strip().lower() in NAMES["query"] for word in split[0][1]):
        header = split.pop(0)[1]
        places = {side: header.index(name) for side, name in _columns(header, path).items()}
    elif width == 4:
        places = {"query": 0, "document": 2, "grade": 3}
    elif width == 2:
        places = {"query": 0, "document": 1}
    elif split and width != 3:
        raise DataError(
            f"{path} must have lines of query, document and grade, or TREC's query, 0, document and grade; line {split[0][0]} has "
            f"{width} entries"
        )
    for number, words in split:
        where = f"{path}, line {number}"
        if len(words) != width:
            raise DataError(f"{where} has {len(words)} entries, but the first line has {width}")
        grade = words[places["grade"]] if "grade" in places else 1
        query, document = (words[places[side]].strip() for side in ("query", "document"))
        yield _line(where, query, document, grade, DataError)

"""A folder in the format of BEIR: corpus.jsonl, queries.jsonl, and qrels/*.tsv with the columns query-id, corpus-id, score.

Thakur et al. 2021: https://arxiv.org/abs/2104.08663
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from lossgauge.data.judgements import Judged, pair_rows
from lossgauge.data.locations import first_few, not_utf_8, reason_of, regular
from lossgauge.data.text_tables import check_text, read_json_lines, same_words
from lossgauge.errors import DataError
from lossgauge.stats.number_format import counted
from lossgauge.types import PairRows

LAYOUT = "corpus.jsonl, queries.jsonl and qrels"
TRAINING = ("train", "dev", "validation")
"""Files of judgements for the training side, of which we hold out the validation slice; `test` is for testing."""


class Collection(NamedTuple):
    """Queries that have a right document, then all documents."""

    texts: list[str]
    pairs: PairRows
    ids: tuple[str, ...]
    """Unique over both sides: `query 7`, `document 7`."""
    own_ids: tuple[str, ...]
    """As in the files."""
    trains: Bool[np.ndarray, " queries"] | None
    notes: tuple[str, ...]


class _Judgement(NamedTuple):
    query: str
    document: str
    grade: float
    trains: bool
    where: str
    """`qrels/test.tsv, line 3`, with the path of the folder."""


def read(folder: Path) -> Collection:
    """The collection of a folder. Title and text of a document are joined by a space, as in BEIR.

    The split is that of the files: train.tsv and dev.tsv, test.tsv; None with only one of these sides. Queries without a
    right document are left out, with a note. Raises DataError for a missing or damaged file, and for an id without its text.
    """
    for name in ("corpus.jsonl", "queries.jsonl", "qrels"):
        if not (folder / name).exists():
            raise DataError(
                f"{folder} has no {name}: a folder of pairs has corpus.jsonl, queries.jsonl and qrels/*.tsv"
            )
    documents = _read_texts(folder / "corpus.jsonl", titles=True)
    queries = _read_texts(folder / "queries.jsonl", titles=False)
    judgements = _judgements(folder / "qrels", set(queries), set(documents))
    right = {judged.query for judged in judgements if judged.grade > 0}
    names = [name for name in queries if name in right]
    if not names:
        raise DataError(f"{folder} has no query with a right document")
    notes = []
    if left_out := [name for name in queries if name not in right]:
        notes.append(
            f"left out because no document is judged right for {'it' if len(left_out) == 1 else 'them'} ({len(left_out):,} of "
            f"{counted(len(queries), 'query')}): {first_few(left_out)}"
        )
    if below := [judged for judged in judgements if judged.grade < 0]:
        notes.append(
            f"{counted(len(below), 'judgement')} {'has' if len(below) == 1 else 'have'} a grade below 0, the first is {below[0].where}: "
            "counted as 0, not right"
        )
    number = {name: row for row, name in enumerate(names)}
    place = {name: row for row, name in enumerate(documents)}
    kept = [judged for judged in judgements if judged.query in number]
    texts = [queries[name] for name in names] + list(documents.values())
    text_number: dict[str, int] = {}
    numbers = np.array(
        [text_number.setdefault(same_words(text), len(text_number)) for text in texts]
    )
    pairs = pair_rows(
        Judged(
            query_text=numbers[: len(names)],
            document_text=numbers[len(names) :],
            query=np.array([number[judged.query] for judged in kept]),
            document=np.array([place[judged.document] for judged in kept]),
            grade=np.array([max(judged.grade, 0.0) for judged in kept]),
            negative_query=np.empty(0, np.int64),
            negative_document=np.empty(0, np.int64),
        )
    )
    if repeated := len(kept) - len(pairs.query):
        again = _first_repeated(kept)
        notes.append(
            f"{counted(repeated, 'judgement')} {'repeats' if repeated == 1 else 'repeat'} an earlier one of the same query and document, the "
            f"first is {again}: the highest grade counts"
        )
    ids = (*(f"query {name}" for name in names), *(f"document {name}" for name in documents))
    own_ids = (*names, *documents)
    return Collection(texts, pairs, ids, own_ids, _sides(kept, number), tuple(notes))


def _first_repeated(judgements: list[_Judgement]) -> str:
    """The place of the first judgement whose query and document have an earlier one."""
    seen: set[tuple[str, str]] = set()
    for judged in judgements:
        if (pair := (judged.query, judged.document)) in seen:
            return judged.where
        seen.add(pair)
    return ""


def _read_texts(path: Path, *, titles: bool) -> dict[str, str]:
    """The text of each id, in the order of the file."""
    texts: dict[str, str] = {}
    empty = []
    for line, row in read_json_lines(path):
        name, text, title = row.get("_id"), row.get("text"), row.get("title") or ""
        if not isinstance(name, str | int) or isinstance(name, bool) or name == "":
            raise DataError(f"every row needs an _id, got {name!r} in {path}, line {line}")
        if not isinstance(text, str) or not isinstance(title, str):
            raise DataError(f"text and title must be text in {path}, line {line}: correct it")
        if str(name) in texts:
            raise DataError(
                f"ids must be unique, but {path}, line {line}, repeats {str(name)!r}: remove one"
            )
        words = f"{title} {text}".strip() if titles else text
        check_text(words, "text", lambda line=line: f"{path}, line {line}")  # type: ignore[misc]
        if not words.strip():
            empty.append(line)
        texts[str(name)] = words
    if empty:
        raise DataError(
            f"every text must have words, but {path}, line {empty[0]}, is empty ({len(empty):,} of {len(texts):,} "
            f"{'is' if len(empty) == 1 else 'are'}): remove such rows, and their judgements"
        )
    if not texts:
        raise DataError(f"{path} is empty")
    return texts


def _judgements(folder: Path, queries: set[str], documents: set[str]) -> list[_Judgement]:
    files = sorted(folder.glob("*.tsv"))
    if not files:
        raise DataError(f"{folder} has no .tsv file with judgements, such as test.tsv")
    for path in files:
        if path.stem not in (*TRAINING, "test"):
            raise DataError(
                f"{path} must be named after a side, {', '.join(TRAINING)} or test: rename or remove it"
            )
    found = []
    for path in files:
        try:
            lines = regular(path).read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise DataError(not_utf_8(path)) from None
        except OSError as error:
            raise DataError(f"{path} cannot be read: {reason_of(error)}") from None
        for number, line in enumerate(lines, 1):
            fields = line.split("\t")
            if not line.strip() or (number == 1 and fields[-1] == "score"):
                continue
            found.append(_judgement(path, number, fields, queries, documents))
    return found


def _judgement(
    path: Path, line: int, fields: list[str], queries: set[str], documents: set[str]
) -> _Judgement:
    try:
        query, document, score = fields
        grade = float(score)
        if not math.isfinite(grade):
            raise ValueError
    except ValueError:
        line_shown = "\t".join(fields)[:80]
        raise DataError(
            f"{path}, line {line}, must have a query id, a document id and a grade that is a number, separated by tabs, got {line_shown!r}: correct it"
        ) from None
    for name, known, file in (
        (query, queries, "queries.jsonl"),
        (document, documents, "corpus.jsonl"),
    ):
        if name not in known:
            raise DataError(
                f"{path}, line {line}, names {name!r}, which is not in {file}: add it there, or remove the line"
            )
    return _Judgement(query, document, grade, path.stem != "test", f"{path}, line {line}")


def _sides(
    judgements: list[_Judgement], number: dict[str, int]
) -> Bool[np.ndarray, " queries"] | None:
    """Which queries train; None if all judgements are of one side. DataError for a query on both."""
    first: dict[str, _Judgement] = {}
    for judged in judgements:
        earlier = first.setdefault(judged.query, judged)
        if earlier.trains != judged.trains:
            raise DataError(
                f"a query must be on one side of the split, but {judged.query!r} has judgements for training and for testing in "
                f"{earlier.where}, and {judged.where}: remove those of one side"
            )
    if len({judged.trains for judged in first.values()}) < 2:
        return None
    sides = np.zeros(len(number), dtype=bool)
    for name, judged in first.items():
        sides[number[name]] = judged.trains
    return sides

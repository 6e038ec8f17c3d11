"""The diagnosis of two tables: each side alone, the search of queries among documents, and what judgements add."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from lossgauge.batch import ArrayLike
from lossgauge.diagnosis.comparison import same_items, share_ids
from lossgauge.diagnosis.over_pairs import directions_of
from lossgauge.diagnosis.sampling import draw
from lossgauge.diagnosis.source import Source
from lossgauge.diagnosis.two_tables.comparison import compare
from lossgauge.diagnosis.two_tables.judged import (
    equal_documents,
    failures_of,
    grades_of,
    judged_numbers,
    per_query,
    right_pairs,
    thresholds_of,
    unjudged_copies,
)
from lossgauge.diagnosis.two_tables.judgements import Given, Judgements, judgements_of
from lossgauge.diagnosis.two_tables.nearest import Nearest, nearest_documents, query_budget
from lossgauge.diagnosis.two_tables.records import (
    Centered,
    Judged,
    JudgementCounts,
    PerQuery,
    RetrievalDiagnosis,
)
from lossgauge.diagnosis.two_tables.side import Measured, Side, measure_side, read_side
from lossgauge.diagnostics.found_documents import FoundDocuments, found_documents
from lossgauge.diagnostics.modality_gap import modality_gap
from lossgauge.diagnostics.moments import overall_mean
from lossgauge.errors import InputError
from lossgauge.health.finding import Finding, worst_first
from lossgauge.health.retrieval import LEAST_ROWS, retrieval_findings
from lossgauge.health.space import norm_findings, space_findings
from lossgauge.ranking.judged import CUT
from lossgauge.stats.crossed import over_new_queries
from lossgauge.stats.intervals import Interval
from lossgauge.stats.number_format import counted

Table = str | Path | ArrayLike
CENTERED = ("cone", "modality-gap", "hub-documents")
"""Findings whose advice is to subtract the mean."""
_MEAN_ROWS = 4096


class _Sides(NamedTuple):
    """Both tables of one model."""

    queries: Source
    documents: Source
    of_queries: Measured
    of_documents: Measured


def diagnose_two_tables(
    queries: Table,
    corpus: Table,
    judgements: Given | None = None,
    *,
    against: Table | None = None,
    against_corpus: Table | None = None,
    embeddings_name: str = "embeddings",
    query_count: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, rows: None,
) -> RetrievalDiagnosis:
    """What queries and documents are like together; see `lossgauge.diagnose`.

    Raises DataError or InputError, in one line, for what cannot be read or compared.
    """
    if (against is None) != (against_corpus is None):
        raise InputError(
            "another model needs both its tables: give against (queries) and against_corpus (documents), --against and --against-corpus"
        )
    tables = [_read(queries, corpus, embeddings_name, "")]
    if against is not None and against_corpus is not None:
        tables.append(_read(against, against_corpus, embeddings_name, "other "))
        for mine, theirs in zip(*tables, strict=True):
            same_items(mine, theirs)
    judged = None if judgements is None else judgements_of(judgements, *tables[0])
    if len(tables) == 2:
        # only now: judgements name the rows by the ids of their own file
        sides = [share_ids(*both) for both in zip(*tables, strict=True)]
        tables = list(zip(*sides, strict=True))
    done, rows = [0], sum(source.row_count for both in tables for source in both)

    def step(count: int) -> None:
        done[0] += count
        progress(done[0], rows)

    models = [
        _Sides(one, other, measure_side(one, step), measure_side(other, step))
        for one, other in tables
    ]
    asked = _asked(models, judged, query_count, seed)
    found = [_diagnosis(model, judged, asked, seed) for model in models]
    if len(found) == 1:
        return found[0]
    doubts = _training_note(models[1].queries, judged)
    return replace(found[0], notes=(*found[0].notes, *doubts), against=compare(*found))


def _read(queries: Table, corpus: Table, embeddings_name: str, which: str) -> tuple[Source, Source]:
    """Both tables of a model; `which` is put before the names of arrays."""
    one = read_side(queries, f"{which}queries", embeddings_name)
    other = read_side(corpus, f"{which}corpus", embeddings_name)
    if one.width != other.width:
        raise InputError(
            f"queries and documents must have the same width, got {one.width} in {one.name} and {other.width} in {other.name}: embed "
            "both with one model"
        )
    return one, other


def _asked(
    models: list[_Sides], judged: Judgements | None, query_count: int | None, seed: int
) -> Int64[np.ndarray, " queries"]:
    """The rows of the queries that are searched for, the same in all models: those with a right document, where some are judged."""
    rows = models[0].of_queries.rows
    for model in models[1:]:
        rows = np.intersect1d(rows, model.of_queries.rows)
    if judged is not None:
        rows = np.intersect1d(rows, judged.right.query)
    if not len(rows):
        raise InputError(
            f"{models[0].queries.name}: no query that could be searched for has a direction, their rows are all zero"
        )
    budget = min(query_budget(of.of_documents.side, query_count) for of in models)
    drawn: np.ndarray = rows[draw(len(rows), budget, seed)]
    return drawn


def _diagnosis(
    of: _Sides, judged: Judgements | None, asked: Int64[np.ndarray, " queries"], seed: int
) -> RetrievalDiagnosis:
    queries, documents, known = of.queries, of.documents, of.of_documents.rows
    nearest = nearest_documents(queries, asked, documents, known)
    of_asked = None if judged is None else judged.some(np.isin(judged.query, asked))
    grades = (
        np.full(nearest.documents.shape, np.nan)
        if of_asked is None
        else grades_of(nearest, of_asked)
    )
    found = RetrievalDiagnosis(
        queries=of.of_queries.side,
        documents=of.of_documents.side,
        notes=tuple(_notes(of, judged, asked)),
        judgements=None if judged is None else _counts(judged, queries.row_count),
        searched_queries=len(asked),
        judged=(),
        alignment=None,
        thresholds=None,
        centered=None,
        gap=modality_gap(of.of_queries.moments, of.of_documents.moments),
        found=_found(nearest, grades, known),
        most_found="",
        equal=tuple(equal_documents(queries, documents, nearest, grades > 0)),
        unjudged_copies=None,
        failures=(),
        findings=(),
        nearest=nearest,
        per_query=None,
        query_ids=queries.ids,
        document_ids=documents.ids,
    )
    if found.found is not None:
        found = replace(found, most_found=documents.id_of(known[found.found.most_found_row]))
    lost: Interval | None = None
    if of_asked is not None:
        found, lost = _with_judgements(found, of, of_asked, grades, seed)
    found = replace(found, findings=tuple(_findings(found, lost)))
    advised = any(one.name in CENTERED and one.level != "ok" for one in found.findings)
    if of_asked is None or not advised or _is_centered(found):
        return found
    return replace(found, centered=_centered(found, of, of_asked))


def _with_judgements(
    found: RetrievalDiagnosis,
    of: _Sides,
    judged: Judgements,
    grades: Float64[np.ndarray, "queries k"],
    seed: int,
) -> tuple[RetrievalDiagnosis, Interval | None]:
    """With the numbers that need right documents; and what R@1 by dot product loses, where the norms of the documents differ."""
    queries, documents, known = of.queries, of.documents, of.of_documents.rows
    right = right_pairs(queries, documents, known, judged)
    by_query = per_query(found.nearest.rows, grades, judged)
    ranked: list[Judged] = [judged_numbers("cosine", by_query)]
    lost: Interval | None = None
    if found.documents.norms.differ:
        by_dot = _by_dot(of, found.nearest.rows, judged)
        ranked.append(judged_numbers("dot", by_dot))
        lost = over_new_queries(by_query.hit_at[1] - by_dot.hit_at[1], by_query.cluster)
    copied = unjudged_copies(found.documents.copies, judged)
    return replace(
        found,
        judged=tuple(ranked),
        alignment=float((2 - 2 * right.cosine).mean()) if len(right.query) else None,
        thresholds=thresholds_of(queries, documents, known, judged, right, seed),
        unjudged_copies=tuple(queries.id_of(row) for row in copied),
        failures=tuple(failures_of(queries, documents, found.nearest, grades, judged, right)),
        per_query=by_query,
    ), lost


def _by_dot(of: _Sides, asked: Int64[np.ndarray, " queries"], judged: Judgements) -> PerQuery:
    nearest = nearest_documents(
        of.queries, asked, of.documents, of.of_documents.rows, similarity="dot"
    )
    return per_query(asked, grades_of(nearest, judged), judged)


def _centered(found: RetrievalDiagnosis, of: _Sides, judged: Judgements) -> Centered:
    """Retrieval after both sides are centred, beside that without."""
    assert found.per_query is not None
    asked, before = found.nearest.rows, found.per_query
    center, over = _query_mean(of)
    centers = (center, overall_mean(of.of_documents.moments))
    nearest = nearest_documents(
        of.queries, asked, of.documents, of.of_documents.rows, centers=centers
    )
    after = per_query(asked, grades_of(nearest, judged), judged)
    change = over_new_queries(after.ndcg_at_10 - before.ndcg_at_10, before.cluster)
    return Centered(judged_numbers("cosine", after), change, over)


def _query_mean(of: _Sides) -> tuple[Float64[Tensor, " width"], str]:
    """The mean direction of the training queries, as in a study, or of all where they are not known; and which they are."""
    rows = of.of_queries.rows
    train = rows[:0] if of.queries.trains is None else rows[of.queries.trains[rows]]
    if not len(train) or len(train) == len(rows):
        return overall_mean(of.of_queries.moments), f"all {counted(len(rows), 'query')}"
    total = torch.zeros(of.queries.width, dtype=torch.float64)
    for start in range(0, len(train), _MEAN_ROWS):
        total += directions_of(of.queries, train[start : start + _MEAN_ROWS]).sum(dim=0)
    return total / len(train), f"the {counted(len(train), 'training query')}"


def _is_centered(of: RetrievalDiagnosis) -> bool:
    return of.queries.centered or of.documents.centered


def _found(
    nearest: Nearest,
    grades: Float64[np.ndarray, "queries k"],
    known: Int64[np.ndarray, " documents"],
) -> FoundDocuments | None:
    if min(len(nearest.rows), len(known)) < LEAST_ROWS:
        return None
    places = np.searchsorted(known, nearest.documents[:, :CUT])
    right = torch.from_numpy(grades[:, :CUT] > 0)
    return found_documents(torch.from_numpy(places), len(known), right)


def _counts(judged: Judgements, queries: int) -> JudgementCounts:
    right = judged.right
    count = len(np.unique(right.query))
    return JudgementCounts(len(judged.query), len(right.query), count, queries - count)


def _findings(of: RetrievalDiagnosis, lost: Interval | None) -> list[Finding]:
    """The one place where rules are asked."""
    found: list[Finding] = []
    for side, subject in ((of.queries, "the queries"), (of.documents, "the documents")):
        space = space_findings(side.geometry, width=side.width, centered=_is_centered(of))
        found += [one._replace(subject=subject) for one in space]
    few = min(_known(of.queries), _known(of.documents)) < LEAST_ROWS
    found += retrieval_findings(
        gap=None if few else of.gap,
        thresholds=of.thresholds,
        found=of.found,
        most_found=of.most_found,
        repeated=len(of.documents.copies.row),
        documents=of.documents.row_count,
        equal=of.equal,
        queries=of.searched_queries,
        unjudged_copies=of.unjudged_copies,
        judged_queries=of.judged[0].query_count if of.judged else 0,
        centered=_is_centered(of),
    )
    if len(of.judged) > 1:
        cosine, dot = of.judged
        norms = norm_findings(
            (of.documents.norms.least, of.documents.norms.most),
            cosine_recall=cosine.recall_at[1].mean,
            dot_recall=dot.recall_at[1].mean,
            difference=lost,
        )
        found += [one._replace(subject="the documents") for one in norms]
    return worst_first(found)


def _known(side: Side) -> int:
    return side.row_count - side.norms.zero_count


def _training_note(queries: Source, judged: Judgements | None) -> Iterator[str]:
    """Judged queries that the array `split` of their file calls training queries; nothing if there are none."""
    if judged is None or queries.trains is None:
        return
    rows = np.unique(judged.right.query)
    train = int(queries.trains[rows].sum())
    if not train:
        return
    name, ending = Path(queries.name).name, "-queries.npz"
    ours = (
        str(Path(queries.name).with_name(f"{name.removesuffix(ending)}-qrels.tsv"))
        if name.endswith(ending)
        else "judgements of test queries only, such as the X-qrels.tsv of `lossgauge embed pairs:PATH`"
    )
    yield (
        f"{train:,} of {counted(len(rows), 'judged query')} {'is a training query' if train == 1 else 'are training queries'} (array split of "
        f"{queries.name}): a head that was trained on them looks too good; use {ours}"
    )


def _notes(
    of: _Sides, judged: Judgements | None, asked: Int64[np.ndarray, " queries"]
) -> Iterator[str]:
    for source, measured in ((of.queries, of.of_queries), (of.documents, of.of_documents)):
        norms = measured.side.norms
        if norms.zero_count:
            yield (
                f"{norms.zero_count:,} of {source.row_count:,} rows of {source.name} are all zeros and are left out, the first is "
                f"{source.where(norms.first_zero)}"
            )
    one, other = of.of_queries.side, of.of_documents.side
    if one.centered != other.centered:
        done, left = (one, other) if one.centered else (other, one)
        yield (
            f"{done.name} is centered (it has the array mean), and {left.name} is not: write both sides with `lossgauge embed --center`, or "
            "both without"
        )
    yield from _training_note(of.queries, judged)
    could = of.of_queries.rows
    if judged is None:
        yield "no judgements: all that needs right documents is left out"
    else:
        could = np.intersect1d(could, judged.right.query)
        without = of.queries.row_count - len(np.unique(judged.right.query))
        if without:
            yield (
                f"{without:,} of {counted(of.queries.row_count, 'query')} {'has' if without == 1 else 'have'} no document that is judged right, and "
                f"{'is' if without == 1 else 'are'} not searched for"
            )
        if judged.repeated:
            verb = "repeats" if judged.repeated == 1 else "repeat"
            yield f"{counted(judged.repeated, 'judgement')} {verb} another one with the same grade"
    if len(asked) < len(could):
        yield (
            f"{len(asked):,} of {len(could):,} queries are searched for, among all documents; --queries gives another number"
        )

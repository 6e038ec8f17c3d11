"""Findings about queries and the documents that they are searched in: sides that do not meet, hubs, copies.

The thresholds are our choice, and each stands here only; docs/findings.md says how they were fixed. A check whose numbers are not known
gives no record.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lossgauge.health.finding import EMBED_CENTERED, Finding
from lossgauge.health.records import finding, level_of
from lossgauge.stats.number_format import counted

if TYPE_CHECKING:
    from lossgauge.diagnostics.found_documents import FoundDocuments
    from lossgauge.diagnostics.modality_gap import ModalityGap
    from lossgauge.diagnostics.pair_thresholds import PairThresholds

NOT_NEARER = (0.25, 0.4)
"""EER of right against other documents above this: watch, act. 0.5 is chance."""
GAP = 0.2
"""Share of the squared distance of a query and a document that is the gap between the means above this: watch. Never `act`, because a gap
that is the same for all documents need not change the ranking."""
FOUND_TOO_OFTEN = (0.05, 0.2)
"""Share of the queries that find one document though it is not right, above the most that chance gives: watch, act."""
REPEATED = (0.01, 0.1)
"""Share of the documents that are a copy of an earlier one above this: watch, act."""
EQUAL = (0.0, 0.1)
"""Share of the queries that equal a document which is not judged right above this: watch, act."""
UNJUDGED_COPIES = (0.01, 0.1)
"""Share of the queries whose right document has a copy that is not judged right above this: watch, act."""
LEAST_ROWS = 20
"""With fewer queries or documents, the gap and hubs are not judged, and `right-not-nearer` is never `act`: chance gives them."""
MOST_SHOWN = 5
CENTER = f"subtract from each side its own mean and normalise again ({EMBED_CENTERED})"


def retrieval_findings(
    *,
    gap: ModalityGap | None,
    thresholds: PairThresholds | None,
    found: FoundDocuments | None,
    most_found: str,
    repeated: int,
    documents: int,
    equal: Sequence[tuple[str, str]],
    unjudged_copies: Sequence[str] | None,
    judged_queries: int,
    queries: int,
    centered: bool = False,
) -> list[Finding]:
    """What the numbers of two tables say. `most_found` is the id of the document that is found most often without need, `repeated` the
    number of copies among all `documents`; `equal` has (query, document), of all `queries` that were searched. With a side that is `centered` already, no advice is to
    subtract the mean."""
    findings = []
    if thresholds is not None:
        findings.append(_not_nearer(thresholds))
    if gap is not None and not math.isnan(gap.share):
        findings.append(_gap(gap, centered))
    if found is not None:
        findings.append(hub_finding(found, most_found, centered=centered))
    findings.append(_repeated(repeated, documents))
    findings.append(_equal(equal, queries))
    if unjudged_copies is not None and judged_queries:
        findings.append(_unjudged_copies(unjudged_copies, judged_queries))
    return findings


def _not_nearer(of: PairThresholds) -> Finding:
    level = level_of(of.eer.mean, NOT_NEARER)
    return finding(
        "right-not-nearer",
        "watch" if level == "act" and of.query_count < LEAST_ROWS else level,
        "the right documents",
        f"a threshold that passes right and rejects other documents equally well is wrong in {of.eer.mean:.1%} of both (EER over "
        f"{of.genuine_count:,} right pairs)",
        f"50 % is chance; below {NOT_NEARER[0]:.0%} is usual for a model that suits the texts",
        why="Right documents are hardly nearer to their queries than any others: queries and documents come from two models or two "
        "versions, a prefix is missing, or the judgements name other rows.",
        advice="embed ten queries and their right documents again with one model and its prefixes (`query: `, `passage: `), and compare "
        "them with the stored rows; then check that row i has id i",
    )


def _gap(of: ModalityGap, centered: bool) -> Finding:
    return finding(
        "modality-gap",
        "watch" if of.share > GAP else "ok",
        "queries and documents",
        f"their means are {of.distance:.2f} apart, which is {of.share:.1%} of the squared distance of a query and a document",
        f"up to {GAP:.0%} is usual for text on both sides",
        why="All queries are on one side and all documents on the other, so a query is nearer to any query than to its document: "
        "thresholds of one side do not fit the other, and lists that mix both are sorted by kind.",
        advice=("" if centered else f"{CENTER}, and compare Recall@10; ")
        + "keep queries and documents in two indexes",
    )


def hub_finding(of: FoundDocuments, name: str, *, centered: bool = False) -> Finding:
    """Whether one document, which has this name, is found by more queries than chance gives."""
    return finding(
        "hub-documents",
        level_of(of.excess, FOUND_TOO_OFTEN),
        "the documents",
        f"document {name} is among the {of.k} nearest of {of.most_found:,} of {counted(of.query_count, 'query')} "
        f"({of.share:.1%}) for which it is not judged right",
        f"chance gives up to {of.most_by_chance:,}; up to {FOUND_TOO_OFTEN[0]:.0%} of the queries more is usual",
        why="One document is returned for very many questions (a hub) and takes the place of right ones.",
        advice="read that document: an empty, very short or boilerplate text should be removed"
        + ("" if centered else f"; otherwise {CENTER}"),
    )


def _repeated(count: int, documents: int) -> Finding:
    return finding(
        "repeated-documents",
        level_of(count / documents, REPEATED),
        "the documents",
        f"{count:,} of {counted(documents, 'document')} {'equals' if count == 1 else 'equal'} an earlier one",
        f"up to {REPEATED[0]:.0%} changes little",
        why="Copies fill the first places of a search with one text.",
        advice="keep one of each: `_, keep = numpy.unique(embeddings, axis=0, return_index=True); keep.sort()`, and rename the others in "
        "the judgements",
    )


def _equal(pairs: Sequence[tuple[str, str]], queries: int) -> Finding:
    some = ", ".join(f"{query} = {document}" for query, document in pairs[:MOST_SHOWN])
    first = f"; the first (query = document): {some}" if some else ""
    return finding(
        "queries-in-corpus",
        level_of(len(pairs) / queries, EQUAL),
        "the documents",
        f"{len(pairs):,} of {counted(queries, 'query')} {'equals' if len(pairs) == 1 else 'equal'} a document that is not judged right"
        f"{first}",
        "none should: each takes the first place of its search",
        why="The query itself is among the documents, so a search finds it first, before every right document.",
        advice="remove these documents, or leave a query's own text out of its search",
    )


def _unjudged_copies(queries: Sequence[str], judged: int) -> Finding:
    some = f"; the first: {', '.join(queries[:MOST_SHOWN])}" if queries else ""
    return finding(
        "unjudged-copies",
        level_of(len(queries) / judged, UNJUDGED_COPIES),
        "the judgements",
        f"{len(queries):,} of {counted(judged, 'query')} {'has' if len(queries) == 1 else 'have'} a right document with a copy that is "
        f"not judged right{some}",
        f"up to {UNJUDGED_COPIES[0]:.0%} changes little",
        why="The copy is as near as the right document but counts as a miss; in training it is a false negative.",
        advice="judge the copies too, or keep one of each before you measure or train",
    )

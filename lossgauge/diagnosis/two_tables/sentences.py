"""A diagnosis of two tables in words, line by line."""

from __future__ import annotations

from collections.abc import Iterator

from lossgauge.diagnosis.sentences import (
    finding_lines,
    number,
    point_threshold,
    points,
    shown_share,
    shown_threshold,
    spectrum_words,
)
from lossgauge.diagnosis.two_tables.comparison import QueryChange, RetrievalComparison
from lossgauge.diagnosis.two_tables.records import Failure, Judged, RetrievalDiagnosis
from lossgauge.diagnosis.two_tables.side import Side
from lossgauge.stats.number_format import counted, rounded, shown, shown_interval

MOST_FAILURES, MOST_COPIES, MOST_CHANGED = 5, 3, 5


def lines(of: RetrievalDiagnosis) -> Iterator[str]:
    """What was measured, what it says, and what changed."""
    yield from of.notes
    yield size_line(of)
    yield from judged_lines(of)
    yield from centered_lines(of)
    yield from threshold_lines(of)
    yield gap_line(of)
    yield from space_lines(of)
    yield from hubness_lines(of)
    yield from failure_lines(of)
    yield from copy_lines(of)
    yield from finding_lines(of.findings)
    if of.against is not None:
        yield from comparison_lines(of.against)


def size_line(of: RetrievalDiagnosis) -> str:
    judged = ""
    if of.judgements is not None:
        right = of.judgements
        judged = f"; {counted(right.pair_count, 'judgement')}, {counted(right.right_count, 'right pair')} of {counted(right.query_count, 'query')}"
    return (
        f"{counted(of.queries.row_count, 'query')} ({_norms(of.queries)}) against {counted(of.documents.row_count, 'document')} "
        f"({_norms(of.documents)}), width {of.queries.width}{judged}"
    )


def _norms(side: Side) -> str:
    norms = side.norms
    if norms.differ:
        return f"norms from {number(norms.least)} to {number(norms.most)}"
    return f"all norms {number(norms.mean)}"


def judged_lines(of: RetrievalDiagnosis) -> Iterator[str]:
    for judged in of.judged:
        yield judged_line(judged, of.nearest.searched)


def centered_lines(of: RetrievalDiagnosis) -> Iterator[str]:
    """What the advice of a cone, a gap or a hub would change."""
    if of.centered is not None:
        yield (
            f"each side centred (minus the mean of {of.centered.query_mean} and of all {counted(of.documents.row_count, 'document')}, then "
            f"normalised): nDCG@10 {shown_share(of.centered.judged.ndcg_at_10)}, a change of "
            f"{points(of.centered.ndcg_at_10)}, paired by query"
        )


def judged_line(of: Judged, searched: int) -> str:
    found = "  ".join(f"Recall@{k} {shown_share(value)}" for k, value in of.found_at.items())
    by = "dot product" if of.similarity == "dot" else of.similarity
    groups = f" in {counted(of.group_count, 'group')} with common right documents"
    return (
        f"retrieval by {by}: nDCG@10 {shown_share(of.ndcg_at_10)}  MRR@10 {shown_share(of.mrr_at_10)}  {found} "
        f"({counted(of.query_count, 'query')}{groups if of.group_count < of.query_count else ''} against {counted(searched, 'document')}; ± over new queries)"
    )


def threshold_lines(of: RetrievalDiagnosis) -> Iterator[str]:
    if of.alignment is not None:
        yield (
            f"right documents: cosine {rounded(1 - of.alignment / 2, 3)} on average, alignment {rounded(of.alignment, 3)} (mean squared "
            "distance)"
        )
    measured = of.thresholds
    if measured is None:
        return
    rates = "  ".join(
        f"TPR {shown_share(point.tpr)} at FAR {point.far:g} ({point_threshold(point)})"
        for point in measured.at_far
    )
    yield (
        f"thresholds on the cosine: EER {shown_share(measured.eer)} at {shown_threshold(measured.eer_threshold)}  {rates} "
        f"({counted(measured.genuine_count, 'pair')} with a right document, {measured.impostor_count:,} with another; intervals over "
        f"{measured.eer.over})"
    )
    yield (
        f"best single threshold {shown_threshold(measured.best_threshold)}: balanced accuracy {shown_share(measured.best_accuracy)}"
    )


def gap_line(of: RetrievalDiagnosis) -> str:
    gap = of.gap
    one, other = (side.geometry.offset for side in (of.queries, of.documents))
    return (
        f"modality gap: the means of queries and documents are {rounded(gap.distance, 3)} apart, {shown(gap.share, 'percent')} of the "
        f"squared distance of a query and a document; mean cosine of two queries {rounded(one, 2)}, of two documents {rounded(other, 2)}, of "
        f"a query and a document {rounded(gap.between, 2)}"
    )


def space_lines(of: RetrievalDiagnosis) -> Iterator[str]:
    for side, name in ((of.queries, "queries"), (of.documents, "documents")):
        even = side.geometry.uniformity
        uniformity = f"uniformity {rounded(even, 2)}; " if even == even else ""
        yield f"space of the {name}: {uniformity}{spectrum_words(side.spectrum)}"


def hubness_lines(of: RetrievalDiagnosis) -> Iterator[str]:
    found = of.found
    if found is None:
        return
    skew = f"skew {rounded(found.skew, 2)}; " if found.skew == found.skew else ""
    though = " for which it is not judged right" if of.judgements is not None else ""
    yield (
        f"hubness: {skew}{shown(found.never_found, 'percent')} of the documents are among the {found.k} nearest of no query "
        f"({shown(found.never_found_by_chance, 'percent')} by chance); document {of.most_found} is among those of "
        f"{found.most_found:,} of {counted(found.query_count, 'query')}{though}"
    )


def failure_lines(of: RetrievalDiagnosis) -> Iterator[str]:
    if of.per_query is None:
        return
    asked = len(of.per_query.row)
    if not of.failures:
        yield f"no query of {asked:,} misses all its right documents in the first 10"
        return
    yield (
        f"failures: {len(of.failures):,} of {counted(asked, 'query')} {'has' if len(of.failures) == 1 else 'have'} no right document among "
        f"the first 10; the worst first:"
    )
    for failure in of.failures[:MOST_FAILURES]:
        yield f"  {failure_words(failure)}"


def failure_words(of: Failure) -> str:
    rank = f"rank {of.rank}" if of.rank is not None else "not among the first 100"
    nearer = ", ".join(
        f"{document} ({rounded(score, 3)})"
        for document, score in zip(of.nearer, of.nearer_similarity, strict=True)
    )
    return f"query {of.query}: right document {of.right} ({cosine_words(of)}) is {rank}; first are {nearer}"


def cosine_words(of: Failure) -> str:
    return rounded(of.similarity, 3) if of.similarity == of.similarity else "all zeros"


def copy_lines(of: RetrievalDiagnosis) -> Iterator[str]:
    copied = of.documents.copies
    if len(copied.row):
        ids = of.document_ids
        pairs = ", ".join(
            f"document {row if ids is None else ids[row]} equals {first if ids is None else ids[first]}"
            for row, first in zip(
                copied.row[:MOST_COPIES].tolist(), copied.of[:MOST_COPIES].tolist(), strict=True
            )
        )
        more = ", …" if len(copied.row) > MOST_COPIES else ""
        equal = "equals" if len(copied.row) == 1 else "equal"
        yield f"copies: {counted(len(copied.row), 'document')} {equal} an earlier one: {pairs}{more}"
    if of.equal:
        pairs = ", ".join(
            f"query {query} = document {one}" for query, one in of.equal[:MOST_COPIES]
        )
        more = ", …" if len(of.equal) > MOST_COPIES else ""
        yield f"queries among the documents: {len(of.equal):,}: {pairs}{more}"


def comparison_lines(of: RetrievalComparison) -> Iterator[str]:
    """What changed with the other model."""
    yield f"against {of.name}:"
    if of.ndcg_at_10 is not None and of.mrr_at_10 is not None:
        parts = [f"nDCG@10 {points(of.ndcg_at_10)}", f"MRR@10 {points(of.mrr_at_10)}"]
        parts += [f"Recall@{k} {points(value)}" for k, value in of.found_at.items()]
        yield f"  retrieval by cosine changes by {'  '.join(parts)}, paired by query"
        worst = f"; worst first: {', '.join(map(change_words, of.got_worse[:MOST_CHANGED]))}"
        yield (
            f"  {counted(len(of.got_worse), 'query')} got worse (nDCG@10), {len(of.got_better):,} got better"
            f"{worst if of.got_worse else ''}"
        )
    ids = of.after.query_ids
    moved = [str(row if ids is None else ids[row]) for row in of.moved[:MOST_CHANGED].tolist()]
    most = f"; most: {', '.join(moved)}" if moved else ""
    yield f"  moved: {shown_interval(of.new_neighbors, 'percent')} of the nearest documents are new{most}"
    yield f"  {gap_line(of.after)}"
    for finding in of.after.findings:
        if finding.level != "ok":
            yield f"  {finding.level}: {finding.name}: {finding.sentence}"


def change_words(of: QueryChange) -> str:
    return f"{of.query} ({shown(of.before, 'percent')} → {shown(of.after, 'percent')})"

"""Health of precomputed embeddings: retrieval, geometry and known problems, from one file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lossgauge.batch import as_batch
from lossgauge.data.embeddings import GivenEmbeddings, read_embeddings
from lossgauge.diagnostics.variance import Geometry, geometry
from lossgauge.errors import InputError
from lossgauge.health.finding import Finding
from lossgauge.health.space import space_findings
from lossgauge.health.titles import TITLES
from lossgauge.ranking.metrics import Retrieval, retrieval
from lossgauge.ranking.scores import norms_and_directions

UNIT_TOLERANCE = 1e-3
"""Rows whose norms are this close to 1 count as normalized."""


class EmbeddingHealth(NamedTuple):
    """The measurements of labelled rows. `geometry` and `retrieval` are computed without normalising the rows."""

    geometry: Geometry
    retrieval: Retrieval
    """By cosine if the rows are normalized, else by dot product."""
    findings: list[Finding]
    """Of the normalized rows."""
    is_normalized: bool
    norms: tuple[float, float]
    """The smallest and the largest norm."""
    zero_rows: tuple[int, ...]
    """Rows of zeros: they have no direction."""
    row_count: int
    notes: tuple[str, ...]
    """One line for each thing in the file that was left out or is doubtful."""


def embedding_health(
    path: Path, *, embeddings_name: str = "embeddings", labels_name: str = "labels"
) -> EmbeddingHealth:
    """Read a file or folder of embeddings and labels, and measure it.

    Raises DataError or InputError for files that cannot be read or measured. Time grows as rows².
    """
    given = read_embeddings(path, embeddings_name=embeddings_name, labels_name=labels_name)
    try:
        return _health(given)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _health(given: GivenEmbeddings) -> EmbeddingHealth:
    embeddings, labels = as_batch(given.embeddings, given.labels)
    norms, directions = norms_and_directions(embeddings)
    is_normalized = bool((norms - 1).abs().max() <= UNIT_TOLERANCE)
    measured = geometry(embeddings, labels)
    of_directions = measured if is_normalized else geometry(directions, labels)
    return EmbeddingHealth(
        geometry=measured,
        retrieval=retrieval(embeddings, labels, similarity="cosine" if is_normalized else "dot"),
        findings=space_findings(of_directions, names=given.class_names, width=embeddings.shape[1]),
        is_normalized=is_normalized,
        norms=(float(norms.min()), float(norms.max())),
        zero_rows=tuple((norms == 0).nonzero().flatten().tolist()),
        row_count=len(norms),
        notes=tuple(given.notes),
    )


def health_lines(health: EmbeddingHealth) -> Iterator[str]:
    """The measurements in words, line by line."""
    measured, ranked = health.geometry, health.retrieval
    yield from health.notes
    of_one = (
        f", {measured.singleton_count} with only one sample" if measured.singleton_count else ""
    )
    yield f"{measured.sample_count} rows of {measured.class_count} classes{of_one}"
    yield (
        f"R@1 {ranked.recall_at[1]:.1%}  MAP@R {ranked.map_at_r:.1%}  intra {_short(measured.intra)}  "
        f"inter {_short(measured.inter)}  offset {_short(measured.offset)}  "
        f"effective rank {measured.effective_rank:.1f}"
    )
    if not health.is_normalized:
        smallest, largest = health.norms
        yield (
            f"row norms are between {smallest:.3g} and {largest:.3g}: R@1 and MAP@R use dot products, "
            "the warnings below are about the normalized rows"
        )
    if health.zero_rows:
        yield (
            f"{len(health.zero_rows)} of {health.row_count} rows are all zeros, the first is row "
            f"{health.zero_rows[0]}: they have no direction"
        )
    warnings = [finding for finding in health.findings if finding.level != "ok"]
    for finding in warnings:
        yield f"{TITLES[finding.name]}: {finding.sentence}"
    if not warnings:
        yield "no known problem found"


def _short(value: float) -> str:
    """Three decimals if they are enough, else three digits and a power of ten."""
    return f"{value:.3f}" if value == 0 or 1e-3 <= value < 1e5 else f"{value:.2e}"

"""The diagnosis of a table of embeddings: linear numbers over all rows, numbers over pairs over all rows or a sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from numbers import Integral
from pathlib import Path
from typing import overload

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from lossgauge.batch import ArrayLike
from lossgauge.diagnosis.comparison import compare, same_items, share_ids
from lossgauge.diagnosis.one_pass import measure_part
from lossgauge.diagnosis.over_pairs import (
    Classes,
    confused_of,
    directions_of,
    hubness_of,
    label_errors_of,
    open_set_of,
    thresholds_of,
)
from lossgauge.diagnosis.parts import PartMeasures, Queries, merge_parts
from lossgauge.diagnosis.ranked import ranked_all, ranked_by_dot, ranked_of, recall_difference
from lossgauge.diagnosis.records import Diagnosis, Ranked
from lossgauge.diagnosis.sampling import (
    draw,
    query_count,
)
from lossgauge.diagnosis.search import NEIGHBORS, search_all, search_candidates, with_queries
from lossgauge.diagnosis.source import LABELS_NAME, Source, from_arrays, from_files
from lossgauge.diagnosis.two_tables.judgements import Given
from lossgauge.diagnosis.two_tables.measure import Table, diagnose_two_tables
from lossgauge.diagnosis.two_tables.records import RetrievalDiagnosis
from lossgauge.diagnostics.copies import Copies, copies
from lossgauge.diagnostics.hubness import Hubness
from lossgauge.diagnostics.label_errors import LabelErrors
from lossgauge.diagnostics.moments import Moments
from lossgauge.diagnostics.spectrum import spectrum
from lossgauge.diagnostics.uniformity import evenly_spaced, uniformity
from lossgauge.diagnostics.variance import Geometry, geometry_of, geometry_without_classes
from lossgauge.errors import InputError
from lossgauge.health.data import data_findings
from lossgauge.health.finding import Finding, worst_first
from lossgauge.health.space import norm_findings, space_findings
from lossgauge.ranking.scores import norms_and_directions
from lossgauge.stats.intervals import Interval

ENGINES = ("local", "ray")
Progress = Callable[[int, int], None]
"""Is called with the rows that are done, and all."""


@overload
def diagnose(
    embeddings: Table,
    labels: ArrayLike | None = None,
    *,
    corpus: None = None,
    judgements: None = None,
    against: Table | None = None,
    against_corpus: None = None,
    embeddings_name: str = "embeddings",
    labels_name: str = LABELS_NAME,
    queries: int | None = None,
    seed: int = 0,
    engine: str = "local",
    progress: Progress = lambda done, rows: None,
) -> Diagnosis: ...


@overload
def diagnose(
    embeddings: Table,
    labels: None = None,
    *,
    corpus: Table,
    judgements: Given | None = None,
    against: Table | None = None,
    against_corpus: Table | None = None,
    embeddings_name: str = "embeddings",
    labels_name: str = LABELS_NAME,
    queries: int | None = None,
    seed: int = 0,
    engine: str = "local",
    progress: Progress = lambda done, rows: None,
) -> RetrievalDiagnosis: ...


def diagnose(
    embeddings: Table,
    labels: ArrayLike | None = None,
    *,
    corpus: Table | None = None,
    judgements: Given | None = None,
    against: Table | None = None,
    against_corpus: Table | None = None,
    embeddings_name: str = "embeddings",
    labels_name: str = LABELS_NAME,
    queries: int | None = None,
    seed: int = 0,
    engine: str = "local",
    progress: Progress = lambda done, rows: None,
) -> Diagnosis | RetrievalDiagnosis:
    """What a table of embeddings is like, and what is wrong with it. `str` of the result is the text of `lossgauge diagnose`.

    `embeddings` is a file or folder (see docs/your-own-data.md), or an array with its `labels`, integers or text. Labels are not needed, but much
    is measured with labels only. Where all rows are too many to be compared with each other, `queries` of them (128 or more
    by default) are compared with all, and the numbers have an interval; `seed` draws them. `against` has the
    same rows of another model, and `diagnosis.against` what has changed. `engine="ray"` reads each file of a folder
    on a Ray cluster.

    With a `corpus`, `embeddings` are queries that are searched in its documents, and the result is a `RetrievalDiagnosis`. `judgements` say
    which documents are right: a file (qrels of TREC or BEIR, or a table with query, document and grade), query → document → grade, or rows
    of (query, document, grade). They name rows by the `ids` of the files, or by row numbers. `against` and `against_corpus` are
    the same rows of another model.

    Rows are normalised, rows of zeros are left out. Reads .npy and .safetensors files once from the disk, and needs about 50 bytes of
    memory for each row, and 100 MB. Raises DataError or InputError, in one line, for what cannot be read or compared.
    """
    if queries is not None and (not isinstance(queries, Integral) or queries < 1):
        raise InputError(f"queries must be a whole number, at least 1, got {queries!r}")
    if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= seed < 2**63:
        raise InputError(f"seed must be a whole number from 0 to 2^63 - 1, got {seed!r}")
    if engine not in ENGINES:
        raise InputError(f"engine must be local or ray, got {engine!r}")
    if corpus is not None:
        if labels is not None:
            raise InputError("two tables have judgements instead of labels: give judgements=")
        if labels_name != LABELS_NAME:
            raise InputError(
                "labels_name has no effect with two tables: they have judgements instead"
            )
        if engine != "local":
            raise InputError(f"engine must be local for two tables, got {engine!r}")
        return diagnose_two_tables(
            embeddings,
            corpus,
            judgements,
            against=against,
            against_corpus=against_corpus,
            embeddings_name=embeddings_name,
            query_count=queries,
            seed=int(seed),
            progress=progress,
        )
    for name, given in (("judgements", judgements), ("against_corpus", against_corpus)):
        if given is not None:
            raise InputError(f"{name} needs a second table, of documents: give corpus=")
    read = partial(from_files, embeddings_name=embeddings_name, labels_name=labels_name)
    if isinstance(embeddings, str | Path):
        if labels is not None:
            raise InputError("the labels are read from the file: give either a file, or two arrays")
        source = read(Path(embeddings))
    else:
        source = from_arrays(embeddings, labels)
    run = partial(_diagnose, seed=int(seed), engine=engine, progress=progress)
    if against is None:
        return run(source, queries=queries)
    other = read(Path(against)) if isinstance(against, str | Path) else from_arrays(against, labels)
    source, other = share_ids(source, same_items(source, other))
    # both search for the same queries, though the widths may differ
    count = min(query_count(of.row_count, of.width, queries) for of in (source, other))
    before, after = run(source, queries=count), run(other, queries=count)
    return replace(before, against=compare(before, after, source, other))


def _diagnose(
    source: Source, *, queries: int | None, seed: int, engine: str, progress: Progress
) -> Diagnosis:
    classes = Classes.of(source)
    count = query_count(source.row_count, source.width, queries)
    every = count == source.row_count
    drawn = None if every else _queries(source, classes, draw(source.row_count, count, seed))
    parts = _parts(source, classes, drawn, exact=every, engine=engine, progress=progress)
    if parts.moments is None:
        raise InputError(
            f"{source.name}: all {source.row_count} rows are zero, so none has a direction"
        )
    keep = np.ones(source.row_count, dtype=bool)
    keep[parts.zero] = False
    groups = np.where(keep, classes.groups, -1)
    classes = classes._replace(groups=groups)
    if keep.sum() < 2:
        raise InputError(f"{source.name}: all rows but one are zero, and a diagnosis compares rows")

    copied, spread = _copies(source, parts, keep), spectrum(parts.moments)
    # rows in one direction are all equally near, and which comes first is chance
    differ_at_all = spread.for_90_percent > 0 and len(copied.row) < keep.sum() - 1
    comparable = classes.usable and differ_at_all

    rows = np.flatnonzero(keep) if every else None
    directions = None if rows is None else directions_of(source, rows)
    differ = parts.norms.differ
    ranked: list[Ranked] = []
    lost: Interval | None = None
    if directions is not None and rows is not None:
        search = search_all(directions, rows, groups[rows])
        if comparable:
            first, of_queries = ranked_all(directions, groups[rows], "cosine")
            ranked = [first]
            search = with_queries(search, of_queries)
            if differ:
                by_dot, of_dot = ranked_all(source.rows(rows), groups[rows], "dot")
                ranked.append(by_dot)
                lost = recall_difference(of_queries, of_dot)
    else:
        assert drawn is not None
        assert parts.candidates is not None
        search = search_candidates(source, drawn, parts.candidates, int(keep.sum()))
        if comparable:
            ranked = [ranked_of(search, groups)]
            if differ:
                both, lost = ranked_by_dot(source, classes.groups, seed=seed)
                ranked += both
    measured = _geometry(source, classes, parts.moments, directions, keep)
    hubs, hub_intervals = (
        hubness_of(source, search, keep, every=every, seed=seed) if differ_at_all else (None, {})
    )
    suspects = label_errors_of(search, classes) if comparable else None
    names = source.class_names
    findings = _findings(measured, source, classes, hubs, suspects, copied, parts, ranked, lost)
    return Diagnosis(
        name=source.name,
        row_count=source.row_count,
        width=source.width,
        class_count=0 if source.labels is None else len(classes.labels),
        class_names=names,
        notes=(*source.notes, *_notes(source, classes, parts, differ_at_all=differ_at_all)),
        norms=parts.norms,
        geometry=measured,
        spectrum=spread,
        ranked=tuple(ranked),
        thresholds=thresholds_of(source, classes, seed) if comparable else None,
        open_set=open_set_of(search) if comparable else None,
        hubness=hubs,
        hubness_intervals=hub_intervals,
        confused=tuple(confused_of(search, classes)) if comparable else (),
        label_errors=suspects,
        copies=copied,
        findings=tuple(findings),
        search=search,
        labels=source.labels,
        ids=source.ids,
    )


def _queries(source: Source, classes: Classes, rows: Int64[np.ndarray, " queries"]) -> Queries:
    """Rows of zeros are no queries."""
    norms, directions = norms_and_directions(source.rows(rows))
    known = ((norms > 0) & torch.isfinite(norms)).numpy()
    return Queries(rows[known], classes.groups[rows[known]], directions.numpy()[known])


def _parts(
    source: Source,
    classes: Classes,
    queries: Queries | None,
    *,
    exact: bool,
    engine: str,
    progress: Progress,
) -> PartMeasures:
    done = [0]

    def step(rows: int) -> None:
        done[0] += rows
        progress(done[0], source.row_count)

    measure = partial(
        measure_part,
        class_count=len(classes.labels),
        queries=queries,
        neighbors=NEIGHBORS,
        exact=exact,
    )
    starts = source.starts
    ranges = list(pairwise(starts))
    if engine == "ray":
        from lossgauge.diagnosis.on_ray import measure_on_ray

        return merge_parts(
            measure_on_ray(source, [classes.groups[a:b] for a, b in ranges], measure, step)
        )
    parts = [
        measure(array, classes.groups[a:b], first_row=a, where=source.where, progress=step)
        for array, (a, b) in zip(source.arrays, ranges, strict=True)
    ]
    return merge_parts(parts)


def _geometry(
    source: Source,
    classes: Classes,
    of: Moments,
    directions: Tensor | None,
    keep: Bool[np.ndarray, " rows"],
) -> Geometry:
    if directions is None:
        spaced = evenly_spaced(source.row_count).numpy()
        directions = directions_of(source, spaced[keep[spaced]])
    even = uniformity(directions)
    if not classes.usable or len(of.labels) < 2 or bool((of.sizes == 1).all()):
        return geometry_without_classes(of, uniformity=even)
    labels = torch.from_numpy(classes.labels)[of.labels]
    return geometry_of(of._replace(labels=labels), uniformity=even)


def _copies(source: Source, parts: PartMeasures, keep: Bool[np.ndarray, " rows"]) -> Copies:
    """Rows of zeros are left out: they are counted as such."""
    known = slice(None) if keep.all() else np.flatnonzero(keep)
    found = copies(
        torch.from_numpy(parts.hashes[known].view(np.int64)),
        None if source.labels is None else torch.from_numpy(source.labels[known]),
        None if source.trains is None else torch.from_numpy(source.trains[known]),
    )
    if isinstance(known, slice):
        return found
    numbers = torch.from_numpy(known)
    return found._replace(row=numbers[found.row], of=numbers[found.of])


def _findings(
    measured: Geometry,
    source: Source,
    classes: Classes,
    hubs: Hubness | None,
    suspects: LabelErrors | None,
    copied: Copies,
    parts: PartMeasures,
    ranked: Sequence[Ranked],
    lost: Interval | None,
) -> list[Finding]:
    """The one place where rules are asked."""
    names = source.class_names
    sizes: dict[int, int] = {}
    if classes.usable:
        counts = np.bincount(classes.groups[classes.groups >= 0], minlength=len(classes.labels))
        sizes = dict(zip(classes.labels.tolist(), counts.tolist(), strict=True))
    found = space_findings(
        measured,
        hubness=hubs,
        names=names,
        width=source.width,
        row_name=source.id_of,
        centered=source.centered,
    )
    found += data_findings(
        label_errors=suspects, copies=copied, class_sizes=sizes, names=names, row_name=source.id_of
    )
    if len(ranked) > 1:
        dot = ranked[-1]
        cosine = next(one for one in ranked[-2::-1] if one.searched == dot.searched)
        found += norm_findings(
            (parts.norms.least, parts.norms.most),
            cosine_recall=cosine.recall_at[1].mean,
            dot_recall=dot.recall_at[1].mean,
            difference=lost,
            sample=dot.searched if dot.searched < ranked[0].searched else None,
        )
    return worst_first(found)


def _notes(
    source: Source, classes: Classes, parts: PartMeasures, *, differ_at_all: bool
) -> list[str]:
    notes = []
    if parts.norms.zero_count:
        notes.append(
            f"{parts.norms.zero_count:,} of {source.row_count:,} rows are all zeros and are left out, the first is "
            f"{source.where(parts.norms.first_zero)}"
        )
    if not differ_at_all:
        notes.append(
            "all rows have the same direction: nothing that compares rows with each other is measured"
        )
    if source.labels is not None and len(classes.labels) == 1:
        notes.append("all rows have one label: nothing that compares classes is measured")
    elif source.labels is not None and not classes.usable:
        notes.append("every row has its own label: nothing that compares classes is measured")
    return notes

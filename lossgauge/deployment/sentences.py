"""An exported head in words: what it is, why this one, what it measures, its score thresholds, and what it costs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lossgauge.deployment.cost_sentences import aligned, cost_lines, narrow_lines
from lossgauge.deployment.manifest import Manifest, ThresholdsRecord
from lossgauge.diagnosis.sentences import shown_share
from lossgauge.report.text.rankings import in_points
from lossgauge.stats.intervals import Interval
from lossgauge.stats.number_format import counted, rounded, shown, shown_interval

if TYPE_CHECKING:
    from lossgauge.deployment.embedding import EmbeddedData, EmbeddedPairs
    from lossgauge.deployment.export import HeadExport
    from lossgauge.deployment.model_card import Compared


FEW_PAIRS = 10
"""A threshold that fewer pairs of two classes may pass changes much with other rows: our choice."""
_TITLE = re.compile(r"(.+?:\w+|\w+)\((?!tuned\))(\w.*?)\)(\(tuned\))?")
"""A loss with settings as tables show it: `triplet(margin=0.1)(tuned)`, `mined(triplet(margin=0.3), miner=hard)`."""


def export_lines(of: HeadExport) -> Iterator[str]:
    """All that `lossgauge head` prints."""
    manifest = of.head.manifest
    yield head_line(manifest)
    title = manifest.trained.loss
    name, settings = name_and_settings(title)
    if settings:
        yield f"settings: {settings}"
    yield f"chosen: {manifest.trained.chosen.replace(title, name)}"
    yield from measured_lines(manifest, of.compared)
    if manifest.head.reduced_from is not None:
        yield from narrow_lines(of.costs)
    for note in of.notes:
        yield f"note: {note}"
    yield from threshold_lines(
        manifest.thresholds, of_pairs=manifest.measured.documents is not None
    )
    yield from cost_lines(of.costs)
    if manifest.head.sides == "query":
        yield (
            "no narrower width: only queries pass through this head, and documents keep the width of the features; train with sides: both for one"
        )
    if of.model is not None:
        yield f"model: {of.model} (for SentenceTransformer: the backbone and this head; README.md has its numbers)"
    replaced = "; replaced an earlier head" if of.replaced else ""
    yield f"head: {of.folder} ({', '.join(sorted(manifest.files))}, manifest.json{replaced})"


def name_and_settings(title: str) -> tuple[str, str]:
    """`triplet` and `margin=0.1` of `triplet(margin=0.1)`; the settings are empty where the title has none."""
    found = _TITLE.fullmatch(title)
    return (found[1] + (found[3] or ""), found[2]) if found else (title, "")


def head_line(of: Manifest) -> str:
    """`triplet, seed 0, epoch 10, on digits: 64 features by pixels to 16 numbers of length 1`."""
    trained = of.trained
    return (
        f"{name_and_settings(trained.loss)[0]}, seed {trained.seed}, epoch {trained.epoch}, on {trained.dataset}: "
        f"{of.head.feature_width} features ({of.backbone.name}) to {of.head.embedding_size} numbers of length 1, {head_form(of)}"
    )


def head_form(of: Manifest) -> str:
    """`one linear layer`; `the features plus an update of rank 16, for queries only`."""
    layers = "one linear layer"
    if of.head.kind == "mlp":
        layers = f"two layers with {of.head.hidden_size} hidden units"
    elif of.head.kind == "residual":
        layers = f"the features plus an update of rank {of.head.rank}"
    if of.head.sides == "query":
        layers += ", for queries only"
    if of.head.reduced_from is not None:
        layers += f" ({of.head.reduced_from} reduced to their principal directions)"
    return layers


def frozen_line(
    of: Manifest | None, place: Path | None, *, of_pairs: bool = False, centers: bool = False
) -> str:
    """What is written where no head is applied, or is centered (`centers`). A study of queries and documents (`of_pairs`) subtracts no mean either."""
    if of is None and centers:
        return "no head: normalised features, centered"
    if of is None:
        return (
            "no head: normalised features, no mean subtracted"
            if of_pairs
            else "no head: normalised features, no mean subtracted (a study subtracts the mean of its training rows first, unless "
            "center_features is false: with --head, so does this)"
        )
    mean = f"minus the mean in {place}" if of.head.centered else f"no mean, as in {place}"
    return f"no head: normalised features, {mean}: the frozen features of its study{', centered' if centers else ''}"


def embedded_lines(of: EmbeddedData) -> Iterator[str]:
    """The notes on a file of embeddings that was written, and the file."""
    yield from (f"note: {note}" for note in of.notes)
    yield f"embeddings: {_file_words(of, 'labels' if of.has_labels else 'no labels')}"
    yield from _later_lines(of)


def embedded_pairs_lines(of: EmbeddedPairs) -> Iterator[str]:
    """The notes on the files of queries and documents that were written, the files, and the command that reads them."""
    yield from (f"note: {note}" for note in of.notes)
    yield f"queries: {_file_words(of.queries)}"
    yield f"documents: {_file_words(of.documents)}"
    yield (
        f"judgements: {of.judgements} ({counted(of.judged_count, 'judgement')} of {counted(of.judged_queries, 'test query')})"
    )
    yield from _later_lines(of.queries, of.documents)
    queries, documents, judgements = (
        shlex.quote(str(path)) for path in (of.queries.path, of.documents.path, of.judgements)
    )
    yield f"measure them: lossgauge diagnose {queries} --corpus {documents} --judgements {judgements}"


def _file_words(of: EmbeddedData, labels: str = "") -> str:
    words = [f"{counted(of.row_count, 'row')} of {of.embedding_size} numbers", labels]
    words.append(f"minus {of.mean}" if of.mean else "")
    words.append("replaced an earlier file" if of.replaced else "")
    return f"{of.path} ({', '.join(filter(None, words))})"


def _later_lines(*of: EmbeddedData) -> Iterator[str]:
    """Where the means are, which later rows need too."""
    if of[0].mean:
        options = (f"--center-of {shlex.quote(str(one.path))}" for one in of)
        yield f"center later rows with the same mean: {' or '.join(options)}"


def measured_lines(manifest: Manifest, compared: Sequence[Compared]) -> Iterator[str]:
    """Retrieval of the head, and of the features without it; of queries and documents a table of the numbers `compared`."""
    of, form = manifest.measured, manifest.head
    again = "measured" if form.reduced_from else "measured again, as in its run"
    if of.documents is None:
        words = f"{again}: R@1 {_percent(of.recall_at_1)}, MAP@R {_percent(of.map_at_r)}"
        if of.frozen_map_at_r is not None:
            words += f"; frozen features R@1 {_percent(of.frozen_recall_at_1)}, MAP@R {_percent(of.frozen_map_at_r)}"
        yield f"{words} ({of.test_rows:,} test rows)"
        return
    yield f"{again}: {counted(of.test_rows, 'test query')} among {of.documents:,} documents"
    widths = (form.embedding_size, form.feature_width) if form.reduced_from else ()
    sides = [f", {width:,} numbers" for width in widths] or ["", ""]
    yield from aligned(
        [
            ("", *(one.title for one in compared)),
            (f"head{sides[0]}", *(shown_interval(one.with_head, "percent") for one in compared)),
            (f"raw model{sides[1]}", *(shown_interval(one.without, "percent") for one in compared)),
            ("change in points", *(in_points(one.change) for one in compared)),
        ]
    )
    words = "Recall@k is the share of the right documents of a query that are among its first k"
    if any(one.change.half_width is not None for one in compared):
        words += "; ± is a 95\u00a0% interval over new queries"
    yield words


def threshold_lines(of: ThresholdsRecord | None, *, of_pairs: bool = False) -> Iterator[str]:
    """Which cosine says that two rows are of one class, or that a document is right for a query."""
    what, genuine, impostor = "one class", "of one class", "of two"
    every, others = "the pairs of one class", "pairs of two classes"
    if of_pairs:
        what, genuine, impostor = (
            "a right document",
            "of a query and a right document",
            "of a query and another document",
        )
        every, others = "the right pairs", "pairs with another document"
    if of is None:
        yield f"no score thresholds: the test side has no pair {genuine}, or none {impostor}"
        return
    for point in of.at_far:
        one_in = f"1 in {round(1 / point.far):,}"
        if point.threshold is None:
            yield (
                f"no threshold lets at most {one_in} {others} pass: too many have the highest score"
            )
            continue
        tpr = shown_share(Interval(point.tpr, point.tpr_half_width, 0))
        passing = int(point.far * of.impostor_pairs)
        few = f"; it is from few pairs: {passing} {others} may pass"
        yield (
            f"threshold: {what} from a cosine of {rounded(point.threshold, 3)}: at most {one_in} {others} "
            f"pass, and {tpr} of {every}{few if passing < FEW_PAIRS else ''}"
        )
    yield (
        f"thresholds are from {of.genuine_pairs:,} pairs {genuine} and {of.impostor_pairs:,} {impostor}, intervals are over "
        f"{of.intervals_over}"
    )


def _percent(value: float | None) -> str:
    return "—" if value is None else shown(value, "percent")

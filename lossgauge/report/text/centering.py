"""What centering the raw model gives without any training, and which document is a hub: of queries and documents."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator

from lossgauge.diagnostics.references import CENTERED, FROZEN
from lossgauge.report.naming import cut, short_name
from lossgauge.report.text.not_training import compared
from lossgauge.report.text.rankings import in_points
from lossgauge.results.columns import COLUMNS
from lossgauge.results.layout import Layout
from lossgauge.results.query_changes import QueryChanges, read_query_changes
from lossgauge.results.view import Loss, StudyView
from lossgauge.stats.decisions import decide
from lossgauge.stats.intervals import Interval, known
from lossgauge.stats.number_format import shown

LONGEST_TEXT = 80
LONGEST_NAME = 40


def free_baseline(view: StudyView, dataset: str, column: str) -> Iterator[str]:
    """A sentence about the centered raw model, and one about a hub; nothing if they were not measured."""
    sentence = centering_sentence(view, dataset, column)
    if sentence:
        yield sentence
    if view.of_pairs and view.files is not None:
        changed = read_query_changes(Layout(view.files.folder), dataset)
        if changed is not None and changed.hub is not None:
            yield hub_sentence(changed)


def centering_sentence(view: StudyView, dataset: str, column: str) -> str:
    """`Centering the raw model alone gives nDCG@10 57.1 % (+5.7 ± 2.0 points); the adapter with mnrl gives +7.1 ± 1.9 points.`

    A gain without an interval, or with one that contains 0, says so. Where centering gains, the commands that write these embeddings follow.
    """
    rows = {row["reference"]: row for row in view.references(dataset)}
    raw, centered = rows.get(FROZEN), rows.get(CENTERED)
    if not view.of_pairs or raw is None or centered is None:
        return ""
    change = view.contrast([{0: centered}], [{0: raw}], column)
    level = known(centered.get(column))
    if change is None or level is None:
        return ""
    title = COLUMNS[column].title
    words = (
        f"Centering the {view.measures.raw} alone (each side minus its own mean) gives {title} {shown(level, 'percent')} "
        f"({_gain(change, why_none=', no interval was measured')})"
    )
    how = f" {_commands(dataset)}" if change.mean > 0 else ""
    family = compared(view, dataset, column)
    if family is None:
        return f"{words}.{how}"
    best = max(family.means, key=lambda loss: family.means[loss])
    name = cut(short_name(best, view.losses), LONGEST_NAME)
    more = (
        ", clearly more than any loss" if _beats_all(view, dataset, column, family.losses) else ""
    )
    against_raw = best, view.measures.raw
    adapter = family.differences[against_raw]
    left_open = adapter.excludes_zero and family.decisions[against_raw].side == "open"
    corrected = ", not clear after the correction for all losses" if left_open else ""
    return f"{words}{more}; the adapter with {name} gives {_gain(adapter)}{corrected}.{how}"


def _commands(dataset: str) -> str:
    """The head has the backbone with its settings; it is not applied."""
    embed = shlex.join(("lossgauge", "embed", dataset, "--frozen", "--head", "head", "--center"))
    return f"`lossgauge head FOLDER --out head`, then `{embed}` writes them centered."


def hub_sentence(of: QueryChanges) -> str:
    """Which document is found too often, with the start of its text."""
    assert of.hub is not None
    text = f" ({cut(of.hub.text, LONGEST_TEXT)!r})" if of.hub.text else ""
    evidence = of.hub.evidence.removeprefix(f"document {of.hub.document} ")
    return f"Read document {of.hub.document}{text} first: it {evidence}."


def _beats_all(view: StudyView, dataset: str, column: str, losses: Iterable[Loss]) -> bool:
    """Whether the centered raw model is clearly better than every loss, all of them as one family."""
    family = [
        view.contrast(
            [view.reference_runs(dataset, loss, CENTERED)],
            [view.settled_runs(dataset, loss)],
            column,
        )
        for loss in losses
    ]
    return all(of.side == "higher" for of in decide(family, COLUMNS[column].margin))


def _gain(of: Interval, why_none: str = "") -> str:
    """`+1.4 ± 2.3 points: cannot be told from no change`; without an interval, `why_none`."""
    points = f"{in_points(of)} points"
    if of.half_width is None:
        return points + (why_none if of.mean else "")
    return points if of.excludes_zero else f"{points}: cannot be told from no change"

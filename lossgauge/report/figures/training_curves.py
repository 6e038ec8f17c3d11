"""Training curves: VARIANCE, GREEDINESS and R@1, in panels that share one axis of epochs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from lossgauge.report.figures.style import (
    Chart,
    Figure,
    Trace,
    axis,
    five_digits,
    layout_axis,
    plot_text,
    stacked_panels,
    transparent,
)
from lossgauge.report.naming import GREY, OWN_COLORS, color_of, display_name, key_of
from lossgauge.results.columns import COLUMNS
from lossgauge.results.run_files import FROZEN
from lossgauge.results.view import BASELINE, Loss, StudyView
from lossgauge.stats.intervals import Interval, interval, known
from lossgauge.stats.number_format import Unit, shown
from lossgauge.types import Record


class Panel(NamedTuple):
    group: str
    column: str
    note: str = ""
    log: bool = False
    from_zero: bool = True

    @property
    def title(self) -> str:
        """`VARIANCE: intra (test)`."""
        title = f"{self.group}: {COLUMNS[self.column].title}"
        return f"{title} ({self.note})" if self.note else title

    @property
    def percent(self) -> bool:
        return COLUMNS[self.column].unit == "percent"


PANELS = (
    Panel("VARIANCE", "test_intra", "test"),
    Panel("VARIANCE", "test_inter", "test"),
    Panel("GREEDINESS", "term_active_ratio"),
    Panel("GREEDINESS", "gradient_active_ratio"),
    Panel("GREEDINESS", "embedding_gradient", "log", log=True),
    Panel("RETRIEVAL", "recall_at_1", "test", from_zero=False),
)
_GAP, _BOTTOM = 42, 44


def training_curves(view: StudyView, dataset: str) -> Figure | None:
    """A panel for each quantity, a colour for each loss: a line is the mean over seeds, a band its 95 % interval.

    The legend hides a loss in all panels at once. The dashed grey line is the untrained head, the dotted grey line the
    frozen features. A tuned loss is a dotted line in the colour of its default, without a band, and hidden at first.
    """
    losses = view.losses_and_tuned
    all_rows = [row for loss in (*losses, BASELINE) for row in view.epochs(dataset, loss)]
    if not all_rows:
        return None
    bands: list[Trace] = []
    lines: list[Trace] = []
    for loss in losses:
        rows = view.epochs(dataset, loss)
        color, in_legend = color_of(loss, losses), False
        for number, panel in enumerate(PANELS, start=1):
            if not (points := _points(rows, panel)):
                continue
            shared = _shared(display_name(loss), key_of(loss), number)
            if loss.tuned:
                shared["visible"] = False
            elif any(over.half_width for _, over in points):
                bands.append({**_band(points, panel, color), **shared, "showlegend": False})
            line = _line(points, panel, color, _dash(loss, color))
            lines.append({**line, **shared, "showlegend": not in_legend})
            in_legend = True
    epochs = max(int(row["epoch"]) for row in all_rows)
    levels = _levels(view, dataset, last=max(epochs, 1))
    # bands first: a band must not cover a line
    return {"data": [*bands, *lines, *levels], "layout": _layout(all_rows, epochs)}


def note(view: StudyView, dataset: str) -> str:
    """How to read the curves."""
    text = (
        "Lines are means over seeds, bands are 95 % intervals. The dashed grey line is the untrained head, "
        "the dotted grey line the frozen features."
    )
    if view.tuned:
        text += " A dotted line is a tuned loss in the colour of its default; its button shows it."
    return text


CHART = Chart(
    key="training-curves",
    label="Curves over epochs",
    draw=training_curves,
    note=note,
    heading="Over training",
)


def _points(rows: Sequence[Record], panel: Panel) -> list[tuple[int, Interval]]:
    """(epoch, interval over seeds) of each measured epoch; logarithms for a log panel, which omits zeros."""
    at: dict[int, list[float]] = {}
    for row in rows:
        value = known(row.get(panel.column))
        if value is not None and (value > 0 or not panel.log):
            at.setdefault(int(row["epoch"]), []).append(math.log10(value) if panel.log else value)
    return [(epoch, over) for epoch in sorted(at) if (over := interval(at[epoch])) is not None]


def _line(points: list[tuple[int, Interval]], panel: Panel, color: str, dash: str) -> Trace:
    unit: Unit = "percent" if panel.percent else "small"
    means = [_back(over.mean, panel) for _, over in points]
    return {
        "type": "scatter",
        "x": [epoch for epoch, _ in points],
        "y": means,
        "mode": "lines" if len(points) > 1 else "markers",
        "line": {"color": color, "width": 2, "dash": dash},
        "marker": {"color": color, "size": 7},
        "text": [shown(mean, unit) for mean in means],
        "hovertemplate": "%{text}",
    }


def _dash(loss: Loss, color: str) -> str:
    if loss.tuned:
        return "dot"
    return "dash" if color in OWN_COLORS else "solid"


def _band(points: list[tuple[int, Interval]], panel: Panel, color: str) -> Trace:
    epochs = [epoch for epoch, _ in points]
    upper = [_clip(_back(over.high, panel), panel) for _, over in points]
    lower = [_clip(_back(over.low, panel), panel) for _, over in points]
    return {
        "type": "scatter",
        "x": epochs + epochs[::-1],
        "y": upper + lower[::-1],
        "fill": "toself",
        "fillcolor": transparent(color, 0.11),
        "line": {"width": 0},
        "mode": "lines",
        "hoverinfo": "skip",
    }


def _levels(view: StudyView, dataset: str, *, last: int) -> list[Trace]:
    """Level lines over all epochs for the spaces without training: the untrained head and the frozen features."""
    frozen = [row for row in view.references(dataset) if row["reference"] == FROZEN]
    levels: list[Trace] = []
    for name, dash in ((key_of(BASELINE), "dash"), (FROZEN, "dot")):
        in_legend = False
        for number, panel in enumerate(PANELS, start=1):
            over = (
                interval(row.get(panel.column.removeprefix("test_")) for row in frozen)
                if name == FROZEN
                else view.interval(dataset, BASELINE, panel.column)
            )
            if over is None or panel.log:
                continue
            levels.append(
                {
                    "type": "scatter",
                    "x": [0, last],
                    "y": [five_digits(over.mean)] * 2,
                    "mode": "lines",
                    "line": {"color": GREY, "width": 1.5, "dash": dash},
                    "hoverinfo": "skip",
                    **_shared(name, name, number),
                    "showlegend": not in_legend,
                }
            )
            in_legend = True
    return levels


def _shared(name: str, key: str, number: int) -> dict[str, Any]:
    return {
        "name": plot_text(name),
        "legendgroup": plot_text(key),
        "xaxis": "x",
        "yaxis": axis("y", number),
    }


def _layout(rows: Iterable[Record], epochs: int) -> dict[str, Any]:
    layout = stacked_panels([panel.title for panel in PANELS], gap=_GAP, bottom=_BOTTOM)
    inner = layout["height"] - layout["margin"]["t"] - _BOTTOM
    for number, panel in enumerate(PANELS, start=1):
        y = layout[layout_axis("y", number)]
        y |= {"anchor": "x", "nticks": 5}
        if panel.log:
            y |= {"type": "log", "exponentformat": "power"}
            values = [
                v for row in rows if (v := known(row.get(panel.column))) is not None and v > 0
            ]
            if values and max(values) >= 10 * min(values):
                y["dtick"] = 1  # whole decades, if there are any
        else:
            y["rangemode"] = "tozero" if panel.from_zero else "normal"
            if panel.percent:
                y["tickformat"] = "~%"
    x = {
        "title": {"text": "epoch (0 is before training)"},
        "anchor": axis("y", len(PANELS)),
        "rangemode": "tozero",
        "spikecolor": GREY,
        "spikethickness": 1,
    }
    return {
        **layout,
        "hovermode": "x unified",
        "legend": {"orientation": "h", "y": 1 + 40 / inner, "yanchor": "bottom", "x": 0},
        "xaxis": x | ({"dtick": 1} if epochs <= 10 else {}),  # whole epochs, if they are few
    }


def _back(value: float, panel: Panel) -> float:
    return five_digits(10**value if panel.log else value)


def _clip(value: float, panel: Panel) -> float:
    """`value` within the range of its quantity: a share is at most 100 %."""
    return value if panel.log else max(0.0, min(1.0, value) if panel.percent else value)

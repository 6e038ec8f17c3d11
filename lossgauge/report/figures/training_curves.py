"""Training curves: the space, GREEDINESS and retrieval, in panels whose axes of epochs move together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lossgauge.diagnostics.references import FROZEN
from lossgauge.report.figures.style import (
    Chart,
    Figure,
    Numbers,
    Trace,
    axis,
    five_digits,
    framed,
    layout_axis,
    log_ticks,
    panel_grid,
    plot_text,
    transparent,
)
from lossgauge.report.naming import GREY, OWN_COLORS, color_of, display_name, key_of, symbol_of
from lossgauge.results.columns import COLUMNS
from lossgauge.results.view import BASELINE, Loss, StudyView
from lossgauge.stats.intervals import Interval, interval, known
from lossgauge.stats.number_format import shown, shown_half_width
from lossgauge.types import Record


class Panel(NamedTuple):
    group: str
    column: str
    note: str = ""
    log: bool = False
    from_zero: bool = True
    signed: bool = False
    """Whether values may be below 0."""

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
PAIR_PANELS = (
    Panel("RETRIEVAL", "ndcg_at_10", "test", from_zero=False),
    Panel("SPACE", "test_pair_alignment", "test"),
    *PANELS[2:5],
    Panel("SPACE", "test_uniformity", "test", from_zero=False, signed=True),
)
"""Of queries and documents: retrieval first, and geometry that needs no classes."""
_GAP, _BOTTOM = 46, 44
_MARKS = 7
"""Marks on a line: enough to follow it without its colour."""
_MOST_COLUMNS = 8
"""Epochs in the table of a panel."""


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
    inside: dict[int, list[float]] = {}
    for loss in losses:
        rows = view.epochs(dataset, loss)
        color, in_legend = color_of(loss, losses), False
        symbol = symbol_of(loss, losses)
        for number, panel in enumerate(panels_of(view), start=1):
            if not (points := _points(rows, panel)):
                continue
            shared = _shared(display_name(loss), key_of(loss), number)
            if loss.tuned:
                shared["visible"] = False
            elif any(over.half_width for _, over in points):
                bands.append({**_band(points, panel, color), **shared, "showlegend": False})
            inside.setdefault(number, []).extend(_back(over.mean, panel) for _, over in points)
            line = _line(points, panel, color, symbol, _dash(loss, color))
            lines.append({**line, **shared, "showlegend": not in_legend})
            in_legend = True
    epochs = max(int(row["epoch"]) for row in all_rows)
    levels = _levels(view, dataset, last=max(epochs, 1))
    for level in levels:
        number = int(level["yaxis"][1:] or 1)
        inside.setdefault(number, []).append(level["y"][0])
    # bands first: a band must not cover a line
    return {"data": [*bands, *lines, *levels], "layout": _layout(panels_of(view), inside, epochs)}


def panels_of(view: StudyView) -> tuple[Panel, ...]:
    """The quantities of a study of classes, or of one of queries and documents."""
    return PAIR_PANELS if view.of_pairs else PANELS


def note(view: StudyView, dataset: str) -> str:
    """How to read the curves."""
    text = (
        "Lines are means over seeds, bands 95 % intervals; a wider one is cut at the edge. "
        f"Grey: {grey_lines(view, dataset)}."
    )
    if view.of_pairs:
        text = text.replace("95 % intervals", "95 % intervals over new seeds")
    if view.tuned:
        text += " A dotted line is a tuned loss; its button shows it."
    return text


def grey_lines(view: StudyView, dataset: str) -> str:
    """`untrained head (dashed), frozen features (dotted)`."""
    lines = {"dotted": view.measures.raw}
    if view.untrained(dataset) or not view.of_pairs:
        lines = {"dashed": "untrained head", **lines}
    return ", ".join(f"{name} ({dash})" for dash, name in lines.items())


def numbers(view: StudyView, dataset: str) -> list[Numbers]:
    """A table for each panel: mean and interval of each loss at up to eight epochs, evenly spaced."""
    tables = []
    for panel in panels_of(view):
        of_losses = {
            loss: dict(points)
            for loss in view.losses_and_tuned
            if (points := _points(view.epochs(dataset, loss), panel))
        }
        every = sorted({epoch for points in of_losses.values() for epoch in points})
        if not every:
            continue
        count = min(_MOST_COLUMNS, len(every))
        epochs = [every[round(n * (len(every) - 1) / max(count - 1, 1))] for n in range(count)]
        rows = [
            (
                display_name(loss),
                *(_in_words(points[epoch], panel) if epoch in points else "—" for epoch in epochs),
            )
            for loss, points in of_losses.items()
        ]
        titles = ("loss", *(f"epoch {epoch}" for epoch in epochs))
        part = f" ({count} of {len(every)} epochs)" if count < len(every) else ""
        tables.append(Numbers(f"{panel.title} on {dataset}{part}", titles, tuple(rows)))
    return tables


CHART = Chart(
    key="training-curves",
    label="Curves over epochs",
    draw=training_curves,
    note=note,
    numbers=numbers,
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


def _line(
    points: list[tuple[int, Interval]], panel: Panel, color: str, symbol: str, dash: str
) -> Trace:
    return {
        "type": "scatter",
        "x": [epoch for epoch, _ in points],
        "y": [_back(over.mean, panel) for _, over in points],
        "mode": "lines+markers" if len(points) > 1 else "markers",
        "line": {"color": color, "width": 2, "dash": dash},
        "marker": {"color": color, "size": 7, "symbol": symbol, "maxdisplayed": _MARKS},
        "text": [_in_words(over, panel) for _, over in points],
        "hovertemplate": "epoch %{x}: %{text}",
    }


def _in_words(over: Interval, panel: Panel) -> str:
    """`95.1 % ± 0.4`; on a logarithmic axis, where the mean is a geometric one, `0.01 (0.008 to 0.012)`."""
    unit = COLUMNS[panel.column].unit
    mean = shown(_back(over.mean, panel), unit)
    if over.half_width is None:
        return mean
    if panel.log:
        low, high = (shown(_back(of, panel), unit) for of in (over.low, over.high))
        return f"{mean} ({low} to {high})"
    return f"{mean} ± {shown_half_width(over.half_width, over.mean, unit)}"


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
    untrained = [(key_of(loss), "dash") for loss in view.untrained(dataset)]
    levels: list[Trace] = []
    for name, dash in (*untrained, (view.measures.raw, "dot")):
        in_legend = False
        for number, panel in enumerate(panels_of(view), start=1):
            over = (
                interval(row.get(panel.column.removeprefix("test_")) for row in frozen)
                if dash == "dot"
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
        "xaxis": axis("x", number),
        "yaxis": axis("y", number),
    }


def _layout(
    panels: Sequence[Panel], inside: Mapping[int, Sequence[float]], epochs: int
) -> dict[str, Any]:
    """`inside`: of each panel, the values that its axis must show."""
    layout = panel_grid([panel.title for panel in panels], gap=_GAP, bottom=_BOTTOM)
    for number, panel in enumerate(panels, start=1):
        x = layout[layout_axis("x", number)]
        x |= {"range": [-0.015 * epochs, max(1.015 * epochs, 1)]}
        x |= {"dtick": 1} if epochs <= 10 else {"nticks": 6}  # whole epochs, if they are few
        if number > 1:
            x["matches"] = "x"
        if number > len(panels) - 2:
            x["title"] = {"text": "epoch (0 is before training)", "standoff": 8}
        if number == len(panels) - 1:
            layout["meta"]["narrow"][f"{layout_axis('x', number)}.title.text"] = ""
        layout[layout_axis("y", number)] |= _y_axis(panel, inside.get(number, ()))
    return {**layout, "hovermode": "closest"}


def _y_axis(panel: Panel, values: Sequence[float]) -> dict[str, Any]:
    """Bands may be wider than the axis: those of two seeds would leave no room for the lines."""
    if panel.log:
        if not values:
            return {"type": "log"}
        low, high = framed([math.log10(value) for value in values], least=0.3)
        return {**log_ticks(10**low, 10**high), "range": [five_digits(low), five_digits(high)]}
    axis_of: dict[str, Any] = {"nticks": 5}
    if panel.percent:
        axis_of["tickformat"] = "~%"
    if values:
        low, high = framed(values, least=0.02)
        axis_of["range"] = [
            five_digits(-0.03 * high if panel.from_zero else low),
            five_digits(high),
        ]
    return axis_of


def _back(value: float, panel: Panel) -> float:
    return five_digits(10**value if panel.log else value)


def _clip(value: float, panel: Panel) -> float:
    """`value` within the range of its quantity: a share is at most 100 %."""
    return (
        value
        if panel.log or panel.signed
        else max(0.0, min(1.0, value) if panel.percent else value)
    )

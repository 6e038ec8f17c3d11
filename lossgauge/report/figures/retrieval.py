"""The chart of the first screen: retrieval of each loss with intervals, beside the spaces without training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from lossgauge.report.figures.style import (
    TEMPLATE,
    Chart,
    Figure,
    Numbers,
    Trace,
    axis,
    five_digits,
    framed,
    layout_axis,
    plot_text,
    transparent,
)
from lossgauge.report.naming import (
    GREY,
    color_of,
    display_name,
    key_of,
    short_name,
    shortened,
    symbol_of,
)
from lossgauge.report.text.not_training import RAW_MODEL, measures
from lossgauge.results.columns import COLUMNS
from lossgauge.results.run_files import FROZEN
from lossgauge.results.view import BASELINE, Loss, StudyView
from lossgauge.stats.intervals import Interval, known
from lossgauge.stats.number_format import shown, shown_interval

ROW_PIXELS = 25
_TOP, _BOTTOM = 26, 30
_BELOW = 0.27
"""Rows by which a tuned loss lies below its default."""


class Level(NamedTuple):
    """A space without training, drawn as a line."""

    name: str
    value: float
    dash: str


def retrieval(view: StudyView, dataset: str) -> Figure | None:
    """A row for each loss, the best first, and a panel for each measure: mean and 95 % interval over seeds.

    A hollow mark is the tuned loss. The dotted line is the frozen features, the dashed one the untrained head. The axes
    follow the means and these lines: a wider interval is cut at the edge. None if nothing was measured.
    """
    losses = ranked(view, dataset)
    if not losses:
        return None
    columns = measures(view, dataset)
    data: list[Trace] = []
    layout = _layout(losses, view.losses, [COLUMNS[column].title for column in columns])
    for number, column in enumerate(columns, start=1):
        axes = {"xaxis": axis("x", number), "yaxis": "y"}
        means = []
        for row, loss in enumerate(losses):
            for one in (loss, loss._replace(tuned=True)):
                over = view.interval(dataset, one, column)
                if over is not None:
                    means.append(over.mean)
                    mark = _mark(view, one, over, row + _BELOW * one.tuned)
                    data.append({**mark, **axes, "legendgroup": plot_text(key_of(loss))})
        found = levels(view, dataset, column)
        data += [{**_line(level, len(losses)), **axes} for level in found]
        if means:
            values = [*means, *(level.value for level in found)]
            low, high = framed(values, least=0.02, margin=0.12)
            layout[layout_axis("x", number)]["range"] = [five_digits(low), five_digits(high)]
    return {"data": data, "layout": layout}


def ranked(view: StudyView, dataset: str) -> list[Loss]:
    """Losses with a result, by the measure that leads, the best first."""
    column = measures(view, dataset)[0]
    means = {
        loss: over.mean
        for loss in view.losses
        if (over := view.interval(dataset, loss, column)) is not None
    }
    return sorted(means, key=lambda loss: -means[loss])


def levels(view: StudyView, dataset: str, column: str) -> list[Level]:
    """What the same features give without training."""
    frozen = next((r for r in view.references(dataset) if r["reference"] == FROZEN), {})
    untrained = view.interval(dataset, BASELINE, column)
    values = (
        (RAW_MODEL if view.of_pairs else FROZEN, known(frozen.get(column)), "dot"),
        (key_of(BASELINE), None if untrained is None else untrained.mean, "dash"),
    )
    return [Level(name, value, dash) for name, value, dash in values if value is not None]


def note(view: StudyView, dataset: str) -> str:
    """How to read it, with the values of the lines."""
    raw = RAW_MODEL if view.of_pairs else FROZEN
    words = {"dot": f"Dotted: {raw}", "dash": "Dashed: untrained head"}
    values: dict[str, list[str]] = {}
    for column in measures(view, dataset):
        for level in levels(view, dataset, column):
            text = f"{COLUMNS[column].title} {shown(level.value, 'percent')}"
            values.setdefault(level.dash, []).append(text)
    lines = [f"{words[dash]} ({', '.join(texts)})." for dash, texts in values.items()]
    start = "Bars: 95 % intervals, cut at the edge of the panel."
    return " ".join([start, *lines])


def numbers(view: StudyView, dataset: str) -> list[Numbers]:
    """The chart as one table."""
    columns = measures(view, dataset)
    rows = []
    for loss in ranked(view, dataset):
        for one in (loss, loss._replace(tuned=True)):
            of_loss = [view.interval(dataset, one, column) for column in columns]
            if any(of_loss):
                cells = ("—" if of is None else shown_interval(of, "percent") for of in of_loss)
                rows.append((display_name(one), *cells))
    by_name: dict[str, list[str]] = {}
    for column in columns:
        for level in levels(view, dataset, column):
            by_name.setdefault(level.name, []).append(shown(level.value, "percent"))
    rows += [(name, *cells) for name, cells in by_name.items() if len(cells) == len(columns)]
    titles = tuple(COLUMNS[column].title for column in columns)
    return [Numbers(f"{' and '.join(titles)} on {dataset}", ("loss", *titles), tuple(rows))]


CHART = Chart(
    key="retrieval",
    label="Retrieval of each loss with 95 % intervals, beside the spaces without training,",
    draw=retrieval,
    note=note,
    numbers=numbers,
)


def _mark(view: StudyView, loss: Loss, over: Interval, y: float) -> Trace:
    color, symbol = color_of(loss, view.losses), symbol_of(loss, view.losses)
    return {
        "type": "scatter",
        "x": [five_digits(over.mean)],
        "y": [y],
        "error_x": {
            # a share is between 0 and 1, and so is what is drawn of its interval
            "array": [five_digits(min(over.half_width or 0.0, max(0.0, 1 - over.mean)))],
            "arrayminus": [five_digits(min(over.half_width or 0.0, over.mean))],
            "symmetric": False,
            "color": transparent(color, 0.7),
            "thickness": 2,
            "width": 0,
        },
        "mode": "markers",
        "marker": {
            "color": color,
            "size": 10,
            "symbol": f"{symbol}-open" if loss.tuned else symbol,
        },
        "name": plot_text(display_name(loss)),
        "text": [shown_interval(over, "percent")],
        "hovertemplate": "%{text}",
        "showlegend": False,
    }


def _line(level: Level, rows: int) -> Trace:
    return {
        "type": "scatter",
        "x": [five_digits(level.value)] * 2,
        "y": [-0.6, rows - 0.4],
        "mode": "lines",
        "line": {"color": GREY, "width": 1.5, "dash": level.dash},
        "name": level.name,
        "legendgroup": level.name,
        "text": [shown(level.value, "percent")] * 2,
        "hovertemplate": "%{text}",
        "showlegend": False,
    }


def _layout(losses: Sequence[Loss], every: Sequence[Loss], titles: Sequence[str]) -> dict[str, Any]:
    shown_names = [shortened(short_name(loss, every)) for loss in losses]
    names = [plot_text(name) for name in shown_names]
    longest = max(map(len, shown_names))
    gap = 0.07
    width = (1 - gap * (len(titles) - 1)) / len(titles)
    layout: dict[str, Any] = {
        "template": TEMPLATE,
        "height": ROW_PIXELS * len(losses) + _TOP + _BOTTOM,
        "margin": {"l": 24 + round(6.6 * longest), "r": 12, "t": _TOP, "b": _BOTTOM},
        "hovermode": "closest",
        "yaxis": {
            "range": [len(losses) - 0.4, -0.6],
            "tickvals": list(range(len(losses))),
            "ticktext": names,
            "ticklabelstandoff": 6,
            "fixedrange": True,
        },
        "annotations": [],
    }
    for number, title in enumerate(titles, start=1):
        left = (number - 1) * (width + gap)
        layout[layout_axis("x", number)] = {
            "domain": [left, left + width],
            "anchor": "y",
            "nticks": 4,
            "tickangle": 0,
            "tickformat": "~%",
        }
        layout["annotations"].append(
            {
                "text": title,
                "xref": "paper",
                "yref": "paper",
                "x": left,
                "y": 1,
                "xanchor": "left",
                "yanchor": "bottom",
                "yshift": 4,
                "showarrow": False,
                "font": {"size": 13},
            }
        )
    return layout

"""The chart of the first screen: retrieval of each loss with intervals, beside the spaces without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lossgauge.diagnostics.references import FROZEN
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
from lossgauge.report.text.not_training import compared, measures
from lossgauge.report.text.rankings import in_points
from lossgauge.results.columns import COLUMNS
from lossgauge.results.view import BASELINE, Loss, StudyView
from lossgauge.stats.intervals import Interval
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


class _Panel(NamedTuple):
    title: str
    of: Mapping[Loss, Interval]
    levels: Sequence[Level]
    of_differences: bool = False
    """In points. Otherwise shares, from 0 to 1."""

    def words(self, over: Interval) -> str:
        return (
            f"{in_points(over)} points" if self.of_differences else shown_interval(over, "percent")
        )


def retrieval(view: StudyView, dataset: str) -> Figure | None:
    """A row for each loss, the best first, and a panel for each measure: mean and 95 % interval.

    Of queries and documents, the second panel is the difference from the raw model by the first measure: the intervals of
    the levels are over queries too, so they are wide where those of the paired differences are not.
    A hollow mark is the tuned loss. The dotted line is the frozen features, the dashed one the untrained head. The axes
    follow the means and these lines: an interval of two seeds, or one that is wider than their differences, is cut at the edge;
    that of the first loss is whole, unless it has two seeds. None if nothing was measured.
    """
    losses = ranked(view, dataset)
    if not losses:
        return None
    panels = _panels(view, dataset, losses)
    data: list[Trace] = []
    layout = _layout(losses, view.losses, panels)
    for number, panel in enumerate(panels, start=1):
        axes = {"xaxis": axis("x", number), "yaxis": "y"}
        drawn: list[tuple[int, Interval]] = []
        for row, loss in enumerate(losses):
            for one in (loss, loss._replace(tuned=True)):
                over = panel.of.get(one)
                if over is not None:
                    drawn.append((row, over))
                    mark = _mark(view, one, over, row + _BELOW * one.tuned, panel)
                    data.append({**mark, **axes, "legendgroup": plot_text(key_of(loss))})
        data += [{**_line(level, len(losses), panel), **axes} for level in panel.levels]
        if drawn:
            low, high = framed(_in_frame(drawn, panel), least=0.02, margin=0.12)
            scale = 100 if panel.of_differences else 1
            layout[layout_axis("x", number)]["range"] = [
                five_digits(scale * low),
                five_digits(scale * high),
            ]
    return {"data": data, "layout": layout}


def _panels(view: StudyView, dataset: str, losses: Sequence[Loss]) -> list[_Panel]:
    every = [one for loss in losses for one in (loss, loss._replace(tuned=True))]
    panels = []
    for column in measures(view, dataset):
        of = {one: over for one in every if (over := view.interval(dataset, one, column))}
        panels.append(_Panel(COLUMNS[column].title, of, levels(view, dataset, column)))
    column, raw = measures(view, dataset)[0], view.measures.raw
    differences = {
        one: over
        for of_plan in (view.losses, view.tuned)
        if view.of_pairs and (found := compared(view, dataset, column, of_plan)) is not None
        for one in every
        if (over := found.differences.get((one, raw))) is not None
    }
    if not differences:
        return panels
    title = f"{COLUMNS[column].title}: gain over the {raw}, in points"
    return [panels[0], _Panel(title, differences, [Level(raw, 0.0, "dot")], True)]


def _in_frame(drawn: Sequence[tuple[int, Interval]], panel: _Panel) -> list[float]:
    """What the axis of a panel must show, from the row and the interval of each mark."""
    values = [*(over.mean for _, over in drawn), *(level.value for level in panel.levels)]
    spread = max(values) - min(values)
    least, most = (-1.0, 1.0) if panel.of_differences else (0.0, 1.0)
    for row, over in drawn:
        half = over.half_width or 0.0
        if over.size != 2 and (row == 0 or half <= spread):
            values += [max(least, over.mean - half), min(most, over.mean + half)]
    return values


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
    return [
        Level(name, over.mean, dash)
        for name, over, dash in _without_training(view, dataset, column)
        if over is not None
    ]


def _without_training(
    view: StudyView, dataset: str, column: str
) -> list[tuple[str, Interval | None, str]]:
    """Name, interval and line style of each."""
    frozen = [row for row in view.references(dataset) if row["reference"] == FROZEN]
    found = [
        (view.measures.raw, view.reference_interval(dataset, row, column), "dot")
        for row in frozen[:1]
    ]
    if view.untrained(dataset):
        found.append((key_of(BASELINE), view.interval(dataset, BASELINE, column), "dash"))
    return found


def note(view: StudyView, dataset: str) -> str:
    """How to read it, with the values of the lines."""
    words = {"dot": f"Dotted: {view.measures.raw}", "dash": "Dashed: untrained head"}
    values: dict[str, list[str]] = {}
    columns = measures(view, dataset)
    for column in columns[:1] if view.of_pairs else columns:
        for level in levels(view, dataset, column):
            text = f"{COLUMNS[column].title} {shown(level.value, 'percent')}"
            values.setdefault(level.dash, []).append(text)
    lines = [f"{words[dash]} ({', '.join(texts)})." for dash, texts in values.items()]
    start = "Bars: 95 % intervals; wide ones are cut at the edge of the panel."
    if view.of_pairs and (of := view.interval(dataset, ranked(view, dataset)[0], columns[0])):
        start = (
            f"Bars: 95 % intervals over {of.over}; wide ones are cut at the edge of the panel. To compare with the "
            f"{view.measures.raw}, look at the right panel: the same queries are paired there, so its intervals are narrower."
        )
    return " ".join([start, *lines])


def numbers(view: StudyView, dataset: str) -> list[Numbers]:
    """The chart as one table; none of queries and documents, whose tables stand below it."""
    if view.of_pairs:
        return []
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


def _mark(view: StudyView, loss: Loss, over: Interval, y: float, panel: _Panel) -> Trace:
    half = over.half_width or 0.0
    # a share is between 0 and 1, and so is what is drawn of its interval
    above, below = min(half, max(0.0, 1 - over.mean)), min(half, over.mean)
    scale = 1
    if panel.of_differences:
        above, below, scale = half, half, 100
    color, symbol = color_of(loss, view.losses), symbol_of(loss, view.losses)
    return {
        "type": "scatter",
        "x": [five_digits(scale * over.mean)],
        "y": [y],
        "error_x": {
            "array": [five_digits(scale * above)],
            "arrayminus": [five_digits(scale * below)],
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
        "text": [panel.words(over)],
        "hovertemplate": "%{text}",
        "showlegend": False,
    }


def _line(level: Level, rows: int, panel: _Panel) -> Trace:
    return {
        "type": "scatter",
        "x": [five_digits(level.value)] * 2,
        "y": [-0.6, rows - 0.4],
        "mode": "lines",
        "line": {"color": GREY, "width": 1.5, "dash": level.dash},
        "name": level.name,
        "legendgroup": level.name,
        "text": ["" if panel.of_differences else shown(level.value, "percent")] * 2,
        "hovertemplate": "%{text}",
        "showlegend": False,
    }


def _layout(
    losses: Sequence[Loss], every: Sequence[Loss], panels: Sequence[_Panel]
) -> dict[str, Any]:
    shown_names = [shortened(short_name(loss, every)) for loss in losses]
    names = [plot_text(name) for name in shown_names]
    longest = max(map(len, shown_names))
    gap = 0.07
    width = (1 - gap * (len(panels) - 1)) / len(panels)
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
    for number, panel in enumerate(panels, start=1):
        left = (number - 1) * (width + gap)
        layout[layout_axis("x", number)] = {
            "domain": [left, left + width],
            "anchor": "y",
            "nticks": 4,
            "tickangle": 0,
            "tickformat": "~g" if panel.of_differences else "~%",
        }
        layout["annotations"].append(
            {
                "text": panel.title,
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
    if panels[-1].of_differences:
        place = f"annotations[{len(panels) - 1}].text"
        layout["meta"] = {"narrow": {place: "gain, points"}}
    return layout

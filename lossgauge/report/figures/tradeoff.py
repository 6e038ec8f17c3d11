"""Compaction epoch × intra at the end: whether a loss that compacts early keeps less variance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from lossgauge.diagnostics.references import FROZEN
from lossgauge.report.figures.labels import HEIGHT, Fixed, Offset, Spot, gap, place_labels
from lossgauge.report.figures.style import (
    TEMPLATE,
    Chart,
    Figure,
    Numbers,
    Trace,
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
from lossgauge.results.columns import COLUMNS
from lossgauge.results.view import BASELINE, Loss, StudyView
from lossgauge.stats.intervals import Interval, interval
from lossgauge.stats.number_format import shown, shown_interval

X, Y = "compaction_epochs", "test_intra"
SMALLEST, LARGEST = 11.0, 30.0
"""Diameter in pixels of the discs with the lowest and the highest R@1."""
_HEIGHT = 440
_MARGIN = {"l": 58, "r": 14, "t": 46, "b": 50}
_REACH = {
    "diamond": 1.3,
    "star": 1.4,
    "star-diamond": 1.4,
    "triangle-up": 1.15,
    "triangle-down": 1.15,
}
"""How far plotly's marks go beyond the circle of their size."""
_WIDTHS = (300, 358, 480, 690, 1060)
"""Widths of the figure on the page, from phone to laptop: the labels fit at each of them."""


class _Point(NamedTuple):
    loss: Loss
    name: str
    """Of the label."""
    color: str
    symbol: str
    x: Interval
    y: Interval
    recall: float | None


class _Ranges(NamedTuple):
    x: tuple[float, float]
    y: tuple[float, float]


def tradeoff(view: StudyView, dataset: str) -> Figure | None:
    """A disc for each loss at its means, larger with R@1, with whiskers for the 95 % intervals and a faint dot for each run.

    None if no run has finished. A loss whose intra never fell has no compaction epoch and is not drawn: see `not_drawn`.
    """
    if not any(view.runs(dataset, loss) for loss in (*view.losses_and_tuned, BASELINE)):
        return None
    points = _points(view, dataset)
    levels = _levels(view, dataset)
    ranges = _ranges(view, dataset, points, levels)
    recalls = [point.recall for point in points if point.recall is not None]
    diameters = [_diameter(point.recall, recalls) for point in points]
    data = [_runs(view, dataset, point) for point in points]
    data += [_disc(point, wide) for point, wide in zip(points, diameters, strict=True)]
    scale = sorted({min(recalls), max(recalls)}) if recalls else []
    data += [_scale_disc(recall, _diameter(recall, recalls)) for recall in scale]
    spots = [_spot(point, wide, ranges) for point, wide in zip(points, diameters, strict=True)]
    offsets = _label_offsets(spots, levels, ranges)
    annotations = [
        _label(point, spot, offset)
        for point, spot, offset in zip(points, spots, offsets, strict=True)
        if offset is not None
    ]
    annotations += [
        _level_name(number, *level, ranges, below=_is_below(levels, number, ranges))
        for number, level in enumerate(levels)
    ]
    lines = [
        _level_line(number, name, level)
        for number, (name, level) in enumerate(levels)
        if level <= ranges.y[1]
    ]
    layout = _layout(ranges, annotations, lines)
    return {"data": data, "layout": layout}


def not_drawn(view: StudyView, dataset: str) -> list[Loss]:
    """Losses with finished runs whose intra never fell, or was not measured."""
    drawn = {point.loss for point in _points(view, dataset)}
    return [loss for loss in view.losses if loss not in drawn and view.runs(dataset, loss)]


def note(view: StudyView, dataset: str) -> str:
    """How to read the figure, and which losses are not in it."""
    text = (
        "A mark is the mean of a loss, larger for a higher R@1; dots are its runs, whiskers 95 % intervals, cut at the edge. "
        "Left: compacts early. Bottom: keeps little variance. Names that would not be clear are only above and on hover."
    )
    if losses := not_drawn(view, dataset):
        names = ", ".join(map(display_name, losses))
        text += f" Not drawn, because intra never fell or was not measured: {names}."
    return text


def numbers(view: StudyView, dataset: str) -> list[Numbers]:
    """The chart as one table."""
    columns = [COLUMNS[X], COLUMNS[Y], view.retrieval[0]]
    rows = []
    for point in _points(view, dataset):
        of_loss = [view.interval(dataset, point.loss, column.name) for column in columns]
        cells = (
            "—" if of is None else shown_interval(of, column.unit)
            for of, column in zip(of_loss, columns, strict=True)
        )
        rows.append((display_name(point.loss), *cells))
    titles = ("loss", *(column.title for column in columns))
    return [Numbers(f"Compaction, intra and {columns[2].title} on {dataset}", titles, tuple(rows))]


CHART = Chart(
    key="tradeoff",
    label="Compaction and variance",
    draw=tradeoff,
    note=note,
    heading="The trade-off: compaction speed × variance kept",
    numbers=numbers,
    has_legend=True,
)


def _points(view: StudyView, dataset: str) -> list[_Point]:
    points = []
    for loss in view.losses:
        x, y, recall = (
            view.interval(dataset, loss, column) for column in (X, Y, view.retrieval[0].name)
        )
        if x is not None and y is not None:
            look = color_of(loss, view.losses), symbol_of(loss, view.losses)
            points.append(
                _Point(
                    loss,
                    short_name(loss, view.losses),
                    *look,
                    x,
                    y,
                    recall.mean if recall else None,
                )
            )
    return points


def _ranges(
    view: StudyView, dataset: str, points: Sequence[_Point], levels: Sequence[tuple[str, float]]
) -> _Ranges:
    across, up = (
        [
            value
            for loss in view.losses
            for value in view.values(dataset, loss, column).values()
            if value is not None
        ]
        for column in (X, Y)
    )
    across += [point.x.mean for point in points]
    up += [point.y.mean for point in points]
    highest = max(up, default=1.0)
    top = max([highest, *(level for _, level in levels if level <= 1.8 * highest)]) or 1.0
    left, right = min(across, default=0.0), max(across, default=1.0) or 1.0
    # the axis covers at least half of the range from 0: a small difference must not look like a large one
    reach = max(right - left, 0.5 * right)
    start = max(right - 1.25 * reach, -0.06 * right)
    return _Ranges((start, right + 0.2 * reach), (-0.07 * top, 1.13 * top))


def _levels(view: StudyView, dataset: str) -> list[tuple[str, float]]:
    """Name and intra of the spaces without training: the untrained head and the frozen features."""
    frozen = [row for row in view.references(dataset) if row["reference"] == FROZEN]
    levels = (
        (key_of(BASELINE), view.interval(dataset, BASELINE, Y)),
        (FROZEN, interval(row.get("intra") for row in frozen)),
    )
    return [(name, over.mean) for name, over in levels if over is not None]


def _runs(view: StudyView, dataset: str, point: _Point) -> Trace:
    x, y = (view.values(dataset, point.loss, column) for column in (X, Y))
    seeds = [seed for seed in x if x[seed] is not None and y[seed] is not None]
    return {
        "type": "scatter",
        "x": [x[seed] for seed in seeds],
        "y": [y[seed] for seed in seeds],
        "mode": "markers",
        "marker": {"color": point.color, "size": 5, "opacity": 0.55},
        "hoverinfo": "skip",
        "showlegend": False,
        "legendgroup": plot_text(key_of(point.loss)),
    }


def _disc(point: _Point, diameter: float) -> Trace:
    recall = "not measured" if point.recall is None else shown(point.recall, "percent")
    x, y = shown_interval(point.x, COLUMNS[X].unit), shown_interval(point.y, COLUMNS[Y].unit)
    whiskers = {"color": transparent(point.color, 0.55), "thickness": 1.2, "width": 0}
    return {
        "type": "scatter",
        "x": [point.x.mean],
        "y": [point.y.mean],
        "error_x": {"array": [point.x.half_width or 0.0], **whiskers},
        "error_y": {"array": [point.y.half_width or 0.0], **whiskers},
        "mode": "markers",
        "marker": {
            "color": transparent(point.color, 0.8),
            "size": diameter,
            "symbol": point.symbol,
            "line": {"color": point.color, "width": 1.5},
        },
        "name": plot_text(display_name(point.loss)),
        "legendgroup": plot_text(key_of(point.loss)),
        "showlegend": False,
        "text": [f"compaction {x} epochs<br>intra {y}<br>R@1 {recall}"],
        "hovertemplate": "%{text}",
    }


def _scale_disc(recall: float, diameter: float) -> Trace:
    """A disc that appears only in the legend: it shows the size for an R@1."""
    return {
        "type": "scatter",
        "x": [None],
        "y": [None],
        "mode": "markers",
        "marker": {"color": transparent(GREY, 0.5), "size": diameter, "line": {"color": GREY}},
        "name": f"R@1 {100 * recall:.1f} %",
        "legendgroup": f"scale {recall}",
    }


def _label(point: _Point, spot: Spot, offset: Offset) -> dict[str, Any]:
    far = gap(spot, offset) > 12
    return {
        "name": plot_text(key_of(point.loss)),
        "text": plot_text(shortened(point.name)),
        "x": point.x.mean,
        "y": point.y.mean,
        "ax": round(offset.x, 1),
        "ay": round(-offset.y, 1),
        "xanchor": "center",
        "yanchor": "middle",
        "showarrow": True,
        "arrowhead": 0,
        "arrowwidth": 1 if far else 0.1,
        "arrowcolor": GREY if far else "rgba(0,0,0,0)",
        "standoff": round(spot.radius, 1),
        "borderpad": 0,
    }


def _is_below(levels: Sequence[tuple[str, float]], number: int, ranges: _Ranges) -> bool:
    """Whether the name of a level goes below its line, since another line is just above it."""
    own = _pixels_up(levels[number][1], ranges)
    others = (_pixels_up(level, ranges) for n, (_, level) in enumerate(levels) if n != number)
    return any(0 <= other - own < HEIGHT for other in others)


def _level_name(
    number: int, name: str, level: float, ranges: _Ranges, *, below: bool
) -> dict[str, Any]:
    """The name of a level: the first at the left edge, the second at the right edge; with an arrow if it is above the figure."""
    top = ranges.y[1]
    return {
        "name": name,
        "text": name if level <= top else f"↑ {name} {level:.2f}",
        "xref": "paper",
        "x": 0.99 if number else 0.01,
        "xanchor": "right" if number else "left",
        "y": min(level, top),
        "yanchor": "bottom" if level <= top and not below else "top",
        "showarrow": False,
        "font": {"color": GREY, "size": 11},
    }


def _level_line(number: int, name: str, level: float) -> dict[str, Any]:
    return {
        "name": name,
        "type": "line",
        "xref": "x domain",
        "yref": "y",
        "x0": 0,
        "x1": 1,
        "y0": level,
        "y1": level,
        "line": {"color": GREY, "width": 1.2, "dash": "dot" if number else "dash"},
    }


def _spot(point: _Point, diameter: float, ranges: _Ranges) -> Spot:
    left, right = ranges.x
    across = (point.x.mean - left) / (right - left)
    radius = _REACH.get(point.symbol, 1.0) * diameter / 2
    name = shortened(point.name)
    return Spot(across, _pixels_up(point.y.mean, ranges), radius, name)


def _pixels_up(value: float, ranges: _Ranges) -> float:
    height = _HEIGHT - _MARGIN["t"] - _MARGIN["b"]
    low, high = ranges.y
    return height * (value - low) / (high - low)


def _label_offsets(
    spots: Sequence[Spot], levels: Sequence[tuple[str, float]], ranges: _Ranges
) -> list[Offset | None]:
    fixed = [
        Fixed(
            number == 0,
            _pixels_up(min(level, ranges.y[1]), ranges)
            - HEIGHT * _is_below(levels, number, ranges),
            name,
        )
        for number, (name, level) in enumerate(levels)
    ]
    return place_labels(
        spots,
        widths=[float(width - _MARGIN["l"] - _MARGIN["r"]) for width in _WIDTHS],
        height=float(_HEIGHT - _MARGIN["t"] - _MARGIN["b"]),
        fixed=fixed,
    )


def _diameter(recall: float | None, recalls: Sequence[float]) -> float:
    """Linear in R@1 between the lowest and the highest of the figure; the smallest size if R@1 was not measured."""
    low, high = min(recalls, default=0.0), max(recalls, default=0.0)
    if recall is None or high == low:
        return SMALLEST
    return round(SMALLEST + (LARGEST - SMALLEST) * (recall - low) / (high - low), 1)


def _layout(
    ranges: _Ranges, annotations: list[dict[str, Any]], shapes: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "template": TEMPLATE,
        "height": _HEIGHT,
        "margin": _MARGIN,
        "hovermode": "closest",
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "itemclick": False},
        "xaxis": {"title": {"text": "compaction: epochs until 90 % done"}, "range": list(ranges.x)},
        "yaxis": {"title": {"text": "intra at the end (test)"}, "range": list(ranges.y)},
        "annotations": annotations,
        "shapes": shapes,
    }

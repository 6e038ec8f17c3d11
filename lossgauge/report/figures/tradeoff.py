"""The plane compaction speed × intra variance: what a loss pays for being greedy."""

from __future__ import annotations

from typing import Any, NamedTuple

import plotly.graph_objects as go

from lossgauge.report.contents import losses_of
from lossgauge.report.figures.labels import Fixed, Offset, Spot, gap, place_labels
from lossgauge.report.figures.style import TEMPLATE, plot_text, transparent
from lossgauge.report.figures.training_curves import FROZEN
from lossgauge.report.naming import GREY, UNTRAINED, color_of, display_name
from lossgauge.report.tables import by_seed, measured
from lossgauge.stats.intervals import Interval, interval, known
from lossgauge.types import Results

X, Y, SIZE = "compaction_epochs", "test_intra", "recall_at_1"
SMALLEST, LARGEST = 11.0, 30.0
"""Diameter in pixels of the lowest and the highest R@1 in the plane."""
_HEIGHT = 440
_MARGIN = {"l": 58, "r": 14, "t": 46, "b": 50}
_WIDTHS = (390 - 2 * 16, 640, 1180 - 2 * 32)
"""Widths of the figure in the page, from phone to laptop: labels are placed to fit all of them."""


class _Point(NamedTuple):
    loss: str
    x: Interval
    y: Interval
    recall: float | None


def plane(results: Results, dataset: str) -> go.Figure:
    """A disc a loss at its means, whiskers its 95 % intervals, a faint dot each run; the disc grows with R@1.

    A loss whose intra never fell has no compaction and is not drawn: see `not_in_plane`.
    """
    losses = losses_of(results)
    points = _points(results, dataset)
    x_range, y_range = _ranges(results, dataset, points)
    figure = go.Figure(layout=_layout(x_range, y_range))
    for point in points:
        color = color_of(point.loss, losses)
        figure.add_trace(_runs(results, dataset, point.loss, color))
    recalls = [p.recall for p in points if p.recall is not None]
    for point in points:
        color = color_of(point.loss, losses)
        figure.add_trace(_disc(point, color, _diameter(point.recall, recalls)))
    for value in sorted({min(recalls), max(recalls)} if recalls else set()):
        figure.add_trace(_scale_disc(value, _diameter(value, recalls)))
    levels = _levels(results, dataset)
    spots = [_spot(p, _diameter(p.recall, recalls), x_range, y_range) for p in points]
    offsets = _label_offsets(spots, levels, y_range)
    for point, spot, offset in zip(points, spots, offsets, strict=True):
        figure.add_annotation(_label(point, spot, offset))
    _add_levels(figure, levels, y_range)
    return figure


def not_in_plane(results: Results, dataset: str) -> list[str]:
    """Losses with finished runs whose intra never fell, or was not measured."""
    finished = {str(r["loss"]) for r in results.summaries if r["dataset"] == dataset}
    drawn = {point.loss for point in _points(results, dataset)}
    return [loss for loss in losses_of(results) if loss in finished - drawn]


def _points(results: Results, dataset: str) -> list[_Point]:
    found = []
    for loss in losses_of(results):
        x, y = (measured(results, dataset, loss, column) for column in (X, Y))
        recall = measured(results, dataset, loss, SIZE)
        if x is not None and y is not None:
            found.append(_Point(loss, x, y, recall.mean if recall else None))
    return found


def _ranges(
    results: Results, dataset: str, points: list[_Point]
) -> tuple[list[float], list[float]]:
    runs = [r for r in results.summaries if r["dataset"] == dataset and r["loss"] != UNTRAINED]
    across = [p.x.mean for p in points] + [v for r in runs if (v := known(r.get(X))) is not None]
    up = [p.y.mean for p in points] + [v for r in runs if (v := known(r.get(Y))) is not None]
    highest = max(up, default=1.0)
    levels = [v for _, v in _levels(results, dataset) if v <= 1.8 * highest]
    top = max([highest, *levels]) or 1.0
    left, right = min(across, default=0.0), max(across, default=1.0) or 1.0
    # half of the way from 0 at least: a small difference is not to look like a large one
    reach = max(right - left, 0.5 * right)
    start = max(right - 1.25 * reach, -0.06 * right)
    return [start, right + 0.2 * reach], [-0.07 * top, 1.13 * top]


def _levels(results: Results, dataset: str) -> list[tuple[str, float]]:
    untrained = measured(results, dataset, UNTRAINED, Y)
    rows = [r for r in results.references if r["dataset"] == dataset and r["reference"] == FROZEN]
    frozen = interval(r.get("intra") for r in rows)
    named = ((UNTRAINED, untrained), (FROZEN, frozen))
    return [(name, over.mean) for name, over in named if over is not None]


def _runs(results: Results, dataset: str, loss: str, color: str) -> go.Scatter:
    xs, ys = (by_seed(results.summaries, dataset, loss, column) for column in (X, Y))
    pairs = [(known(xs[seed]), known(ys[seed])) for seed in xs]
    both = [(x, y) for x, y in pairs if x is not None and y is not None]
    return go.Scatter(
        x=[x for x, _ in both],
        y=[y for _, y in both],
        mode="markers",
        marker={"color": color, "size": 5, "opacity": 0.55},
        hoverinfo="skip",
        showlegend=False,
        legendgroup=plot_text(loss),
    )


def _disc(point: _Point, color: str, diameter: float) -> go.Scatter:
    recall = "not measured" if point.recall is None else f"{100 * point.recall:.1f} %"
    whiskers = {"color": transparent(color, 0.55), "thickness": 1.2, "width": 0}
    return go.Scatter(
        x=[point.x.mean],
        y=[point.y.mean],
        error_x={"array": [point.x.half_width or 0.0], **whiskers},
        error_y={"array": [point.y.half_width or 0.0], **whiskers},
        mode="markers",
        marker={
            "color": transparent(color, 0.8),
            "size": diameter,
            "line": {"color": color, "width": 1.5},
        },
        name=plot_text(display_name(point.loss)),
        legendgroup=plot_text(point.loss),
        showlegend=False,
        hovertemplate=f"compaction %{{x:.1f}} epochs<br>intra %{{y:.3f}}<br>R@1 {recall}",
    )


def _scale_disc(recall: float, diameter: float) -> go.Scatter:
    """A disc that stands only in the legend and says how large an R@1 is drawn."""
    return go.Scatter(
        x=[None],
        y=[None],
        mode="markers",
        marker={"color": transparent(GREY, 0.5), "size": diameter, "line": {"color": GREY}},
        name=f"R@1 {100 * recall:.1f} %",
        legendgroup=f"scale {recall}",
    )


def _label(point: _Point, spot: Spot, offset: Offset) -> dict[str, Any]:
    far = gap(spot, offset) > 12
    return {
        "name": plot_text(point.loss),
        "text": plot_text(display_name(point.loss)),
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


def _spot(point: _Point, diameter: float, x_range: list[float], y_range: list[float]) -> Spot:
    across = (point.x.mean - x_range[0]) / (x_range[1] - x_range[0])
    name = display_name(point.loss)
    return Spot(across, _pixels_up(point.y.mean, y_range), diameter / 2, name)


def _pixels_up(value: float, y_range: list[float]) -> float:
    height = _HEIGHT - _MARGIN["t"] - _MARGIN["b"]
    return height * (value - y_range[0]) / (y_range[1] - y_range[0])


def _label_offsets(
    spots: list[Spot], levels: list[tuple[str, float]], y_range: list[float]
) -> list[Offset]:
    fixed = [
        Fixed(number == 0, _pixels_up(min(level, y_range[1]), y_range), name)
        for number, (name, level) in enumerate(levels)
    ]
    return place_labels(
        spots,
        widths=[float(width - _MARGIN["l"] - _MARGIN["r"]) for width in _WIDTHS],
        height=float(_HEIGHT - _MARGIN["t"] - _MARGIN["b"]),
        fixed=fixed,
    )


def _diameter(recall: float | None, recalls: list[float]) -> float:
    """Linear in R@1 between the lowest and the highest of the plane; the smallest where not measured."""
    low, high = min(recalls, default=0.0), max(recalls, default=0.0)
    if recall is None or high == low:
        return SMALLEST
    return round(SMALLEST + (LARGEST - SMALLEST) * (recall - low) / (high - low), 1)


def _add_levels(figure: go.Figure, levels: list[tuple[str, float]], y_range: list[float]) -> None:
    for number, (name, level) in enumerate(levels):
        left = number == 0
        inside = level <= y_range[1]
        if inside:
            figure.add_hline(
                level,
                name=name,
                line={"color": GREY, "width": 1.2, "dash": "dash" if left else "dot"},
            )
        figure.add_annotation(
            name=name,
            text=name if inside else f"↑ {name} {level:.2f}",
            xref="paper",
            x=0.01 if left else 0.99,
            xanchor="left" if left else "right",
            y=min(level, y_range[1]),
            yanchor="bottom" if inside else "top",
            showarrow=False,
            font={"color": GREY, "size": 11},
        )


def _layout(x_range: list[float], y_range: list[float]) -> dict[str, Any]:
    return {
        "template": TEMPLATE,
        "height": _HEIGHT,
        "margin": _MARGIN,
        "hovermode": "closest",
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "itemclick": False},
        "xaxis": {"title": {"text": "compaction: epochs until 90 % done"}, "range": x_range},
        "yaxis": {"title": {"text": "intra at the end (test)"}, "range": y_range},
    }

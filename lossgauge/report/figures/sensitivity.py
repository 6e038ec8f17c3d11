"""How a loss answers to its settings: R@1 and intra at multiples of margin, temperature or scale."""

from __future__ import annotations

import plotly.graph_objects as go

from lossgauge.claims.variants import SETTINGS, LossVariant, loss_variants
from lossgauge.report.contents import losses_of
from lossgauge.report.figures.style import TEMPLATE, plot_text, stacked, transparent
from lossgauge.report.naming import color_of, display_name
from lossgauge.results.columns import COLUMNS
from lossgauge.results.view import StudyView
from lossgauge.stats.intervals import Interval, interval
from lossgauge.stats.number_format import shown_interval
from lossgauge.types import Results

DRAWN = ("recall_at_1", "test_intra")
DASHES = {"margin": "solid", "temperature": "dash", "scale": "dot"}
"""One loss may have a margin and a scale."""


def response(results: Results, dataset: str) -> go.Figure | None:
    """A panel a quantity, a line a loss and setting, over the multiple; None where nothing was varied.

    At 1 each loss stands as it is in the plan. Whiskers are 95 % intervals over seeds.
    """
    lines = _lines(results, dataset)
    if not lines:
        return None
    titles = [f"{COLUMNS[column].title} (test)" for column in DRAWN]
    layout = stacked(titles, x_title="× its setting in the plan")
    figure = go.Figure(layout={"template": TEMPLATE, "hovermode": "closest", **layout})
    factors = sorted({factor for *_, points in lines for factor, _ in points})
    for number, column in enumerate(DRAWN, start=1):
        ticks = {"tickvals": factors, "ticktext": [f"{factor:g}" for factor in factors]}
        figure.layout["xaxis" if number == 1 else f"xaxis{number}"].update(type="log", **ticks)
        if COLUMNS[column].unit == "percent":
            figure.layout["yaxis" if number == 1 else f"yaxis{number}"].tickformat = "~%"
        shown_in_legend: set[str] = set()
        for loss, setting, points in lines:
            trace = _trace(results, loss, setting, points, column, number)
            if trace is not None:
                figure.add_trace(
                    trace.update(showlegend=number == 1 and loss not in shown_in_legend)
                )
                shown_in_legend.add(loss)
    return figure


def varied_losses(results: Results, dataset: str) -> list[str]:
    """Losses with a run at a multiple of a setting, in their order."""
    return list(dict.fromkeys(loss for loss, _, _ in _lines(results, dataset)))


def _lines(
    results: Results, dataset: str
) -> list[tuple[str, str, list[tuple[float, LossVariant]]]]:
    """Loss, setting, and its loss_variants by ascending multiple."""
    found = loss_variants(StudyView(results), dataset, losses_of(results))
    lines = []
    for loss, of_loss in found.by_loss.items():
        default = [(1.0, s) for s in of_loss if s.kind == "default"]
        for setting in dict.fromkeys(s.setting for s in of_loss if s.setting is not None):
            varied = [(s.factor or 0.0, s) for s in of_loss if s.setting == setting]
            points = sorted([*default, *varied], key=lambda point: point[0])
            lines.append((loss, setting, points))
    return lines


def _trace(
    results: Results,
    loss: str,
    setting: str,
    points: list[tuple[float, LossVariant]],
    column: str,
    number: int,
) -> go.Scatter | None:
    known_points: list[tuple[float, str, Interval]] = [
        (factor, variant.title, over)
        for factor, variant in points
        if (over := interval(row.get(column) for row in variant.by_seed.values())) is not None
    ]
    if not known_points:
        return None
    color, unit = color_of(loss, losses_of(results)), COLUMNS[column].unit
    texts = [
        f"{plot_text(display_name(title))}: {shown_interval(over, unit)}"
        for _, title, over in known_points
    ]
    return go.Scatter(
        x=[factor for factor, _, _ in known_points],
        y=[float(f"{over.mean:.5g}") for *_, over in known_points],
        error_y={
            "array": [float(f"{over.half_width or 0.0:.3g}") for *_, over in known_points],
            "color": transparent(color, 0.5),
            "thickness": 1.2,
            "width": 0,
        },
        mode="lines+markers",
        line={"color": color, "width": 2, "dash": DASHES.get(setting, "solid")},
        marker={"color": color, "size": 6},
        text=texts,
        hovertemplate="%{text}",
        name=plot_text(display_name(loss)),
        legendgroup=plot_text(loss),
        xaxis="x" if number == 1 else f"x{number}",
        yaxis="y" if number == 1 else f"y{number}",
    )


def settings_drawn(results: Results, dataset: str) -> list[str]:
    """Settings with a line, in the order of `SETTINGS`."""
    found = {setting for _, setting, _ in _lines(results, dataset)}
    return [name for name in SETTINGS if name in found]

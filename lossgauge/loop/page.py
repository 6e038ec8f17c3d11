"""The report of a probe: findings, curves of the rows and the epochs over the updates, and the last epoch in numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lossgauge.health.finding import Finding
from lossgauge.loop.columns import COLUMNS
from lossgauge.report.embed_json import embed_json
from lossgauge.report.figures.style import (
    Figure,
    Trace,
    axis,
    five_digits,
    layout_axis,
    log_ticks,
    stacked_panels,
)
from lossgauge.report.naming import GREY, OWN_COLORS
from lossgauge.report.output import write_html
from lossgauge.report.page import render
from lossgauge.results.columns import COLUMNS as STUDY_COLUMNS
from lossgauge.stats.number_format import shown
from lossgauge.types import Record

MOST_POINTS = 2000
"""Points of a curve; of longer trainings, every n-th row is drawn."""


class Panel(NamedTuple):
    title: str
    columns: tuple[str, ...]
    of_epochs: bool = False
    log: bool = False


PANELS = (
    Panel("loss", ("loss_value",)),
    Panel("active terms and active gradients", ("term_active_ratio", "gradient_active_ratio")),
    Panel("gradient at the embedding (log)", ("embedding_gradient", "tangent_gradient"), log=True),
    Panel("pull and push (log)", ("pull", "push"), log=True),
    Panel(
        "gradient at the parameters, and after clipping (log)",
        ("head_gradient", "clipped_head_gradient", "loss_gradient"),
        log=True,
    ),
    Panel("VARIANCE of the epochs", ("intra", "inter", "offset"), of_epochs=True),
    Panel("retrieval of the epochs", ("recall_at_1", "map_at_r"), of_epochs=True),
)

_COLORS = (OWN_COLORS[1], OWN_COLORS[0], GREY)
_DASHES, _IN_WORDS = ("solid", "dash", "dot"), ("", " (dashed)", " (dotted)")
"""Of the curves of a panel."""

EPOCH_COLUMNS = ("recall_at_1", "map_at_r", "intra", "inter", "offset", "effective_rank")


def write_report(
    rows: Sequence[Record],
    epochs: Sequence[Record],
    findings: Sequence[Finding],
    losses: Sequence[str],
    path: Path,
) -> Path:
    """Write the page; its path. Raises InputError or DiskError where it cannot be written."""
    return write_html(
        lambda: page(rows, epochs, findings, losses), path, advice="fix that, or give another path"
    )


def page(
    rows: Sequence[Record],
    epochs: Sequence[Record],
    findings: Sequence[Finding],
    losses: Sequence[str],
) -> str:
    """The report as HTML, one file that loads nothing from the network; 1.5 MB of it are plotly.js."""
    skipped = sum(row["skipped"] for row in rows)
    figure = curves(rows, epochs)
    return render(
        "probe.html",
        title=f"The probe of {' + '.join(losses)}",
        facts=[
            f"{len(rows)} recorded updates",
            *([f"{skipped} of them skipped"] if skipped else []),
            f"{len(epochs)} measured epochs",
            *(
                ["gradients only: the terms of this loss are not known"]
                if rows and all(row["term_count"] is None for row in rows)
                else []
            ),
        ],
        findings=findings,
        figure=None if figure is None else embed_json(figure),
        headings=[STUDY_COLUMNS[column] for column in EPOCH_COLUMNS],
        epochs=[_epoch_cells(row) for row in epochs],
        glossary=COLUMNS,
        every=_stride(rows),
    )


def curves(rows: Sequence[Record], epochs: Sequence[Record]) -> Figure | None:
    """Panels that share one axis of updates; None without a number."""
    panels = [
        (panel, traces)
        for panel in PANELS
        if (traces := _traces(panel, epochs if panel.of_epochs else rows[:: _stride(rows)]))
    ]
    if not panels:
        return None
    titles = [_title(panel, traces) for panel, traces in panels]
    layout = stacked_panels(titles, gap=58, bottom=48)
    data: list[Trace] = []
    for number, (panel, traces) in enumerate(panels, start=1):
        y = layout[layout_axis("y", number)]
        y |= {"anchor": "x", "nticks": 5}
        if panel.log:
            values = [value for trace in traces for value in trace["y"]]
            y |= log_ticks(min(values), max(values))
        else:
            y["rangemode"] = "tozero"
        for place, trace in enumerate(traces):
            color = _COLORS[place]
            data.append(
                {
                    **trace,
                    "xaxis": "x",
                    "yaxis": axis("y", number),
                    "line": {"color": color, "width": 1.5, "dash": _DASHES[place]},
                    "marker": {"color": color, "size": 6},
                }
            )
    x: dict[str, Any] = {
        "title": {"text": "update"},
        "anchor": axis("y", len(panels)),
        "ticklabelstandoff": 4,
    }
    return {
        "data": data,
        "layout": {**layout, "hovermode": "x unified", "xaxis": {**x, "rangemode": "tozero"}},
    }


def _title(panel: Panel, traces: Sequence[Trace]) -> str:
    """The title of a panel, and, if it has several curves, which line is which."""
    if len(traces) < 2:
        return panel.title
    names = (
        f'<span style="color:{color}">{trace["name"]}</span>{dash}'
        for trace, color, dash in zip(traces, _COLORS, _IN_WORDS, strict=False)
    )
    return f"{panel.title}<br>{', '.join(names)}"


def _traces(panel: Panel, rows: Sequence[Record]) -> list[Trace]:
    traces: list[Trace] = []
    for column in panel.columns:
        points = [
            (row["step"], five_digits(value))
            for row in rows
            if (value := row.get(column)) is not None
            and math.isfinite(value)
            and (value > 0 or not panel.log)
        ]
        if points:
            traces.append(
                {
                    "type": "scatter",
                    "name": column.replace("_", " "),
                    "x": [step for step, _ in points],
                    "y": [value for _, value in points],
                    "mode": "lines+markers" if len(points) < 30 else "lines",
                }
            )
    return traces


def _stride(rows: Sequence[Record]) -> int:
    return max(1, -(-len(rows) // MOST_POINTS))


def _epoch_cells(row: Record) -> list[str]:
    cells = [str(row["epoch"]), str(row["step"])]
    for column in EPOCH_COLUMNS:
        value = row.get(column)
        cells.append("—" if value is None else shown(value, STUDY_COLUMNS[column].unit))
    return cells

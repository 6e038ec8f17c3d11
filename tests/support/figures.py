"""A figure as an object, checked by plotly."""

from __future__ import annotations

from collections.abc import Callable

import plotly.graph_objects as go

from lossgauge.report.figures.style import Figure
from lossgauge.results.view import StudyView
from lossgauge.types import Results


def figure_of(
    draw: Callable[[StudyView, str], Figure | None], results: Results, dataset: str
) -> go.Figure:
    """What `draw` makes of a dataset. plotly refuses a property that it does not know, or a value of a wrong kind."""
    figure = draw(StudyView(results), dataset)
    assert figure is not None
    return go.Figure(figure)

"""The paper's two figures for print: the trade-off, and the curves over epochs. Drawn by matplotlib.

A loss has a marker or a line style beside its color, so that it is known without colors. The same study gives the same
bytes on the same machine.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lossgauge.diagnostics.references import FROZEN
from lossgauge.errors import MissingExtra
from lossgauge.report.figures.tradeoff import X, Y
from lossgauge.report.figures.training_curves import Panel, grey_lines, panels_of
from lossgauge.report.naming import GREY, color_of, display_name
from lossgauge.results.columns import COLUMNS
from lossgauge.results.view import Loss, StudyView
from lossgauge.stats.intervals import Interval, interval, known
from lossgauge.terminal import safe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = ("pdf", "svg", "png")

_MARKERS = "osD^vPX<>ph*"
_DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # matplotlib brings it: no font of the machine
    "font.size": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.2,
    "legend.frameon": False,
    "figure.dpi": 100.0,
    "savefig.dpi": 300.0,
    "text.parse_math": False,  # a name with $ is a name
    "pdf.fonttype": 42,  # TrueType: publishers refuse type 3
    "svg.hashsalt": "lossgauge",
}


class PaperFigure(NamedTuple):
    """One figure of one dataset."""

    name: str
    """`tradeoff` or `curves`."""
    dataset: str
    caption: str
    figure: Figure


def check_installed() -> None:
    """Raises MissingExtra without matplotlib."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise MissingExtra(
            "figures as files need matplotlib: pip install 'lossgauge[figures]'"
        ) from None


def paper_figures(view: StudyView) -> Iterator[PaperFigure]:
    """Both figures of each dataset that has runs, the trade-off only of classes. To be saved with `save`."""
    for dataset in view.datasets:
        curves = f"{_CURVES} {_grey(view, dataset)}"
        for name, draw, caption in (
            ("tradeoff", tradeoff_figure, _TRADEOFF),
            ("curves", curves_figure, curves),
        ):
            if name == "tradeoff" and not view.measures.judges_classes:
                continue
            figure = draw(view, dataset)
            if figure is not None:
                yield PaperFigure(name, dataset, caption, figure)


def _grey(view: StudyView, dataset: str) -> str:
    words = grey_lines(view, dataset).replace(", ", " and the ")
    return f"Grey lines are the {words}."


_TRADEOFF = (
    "Compaction and variance: means over seeds with 95 % intervals. Losses on the left compact early; losses at the bottom keep "
    "little variance. A larger marker has a higher R@1."
)
_CURVES = "Over training: lines are means over seeds, bands are 95 % intervals."


def save(figure: Figure, path: Path) -> None:
    """Write a figure; the ending of `path` is one of KINDS. Nothing in the file depends on the time."""
    metadata: dict[str, dict[str, Any]] = {
        ".pdf": {"CreationDate": None},
        ".svg": {"Date": None},
        ".png": {"Software": None},
    }
    with _style():
        figure.savefig(path, metadata=metadata[path.suffix])


def tradeoff_figure(view: StudyView, dataset: str) -> Figure | None:
    """Compaction epoch × intra at the end; None if no loss has both."""
    points = [
        (loss, x, y)
        for loss in view.losses
        if (x := view.interval(dataset, loss, X)) and (y := view.interval(dataset, loss, Y))
    ]
    if not points:
        return None
    sizes = _sizes(view, dataset, [loss for loss, _, _ in points])
    with _style():
        figure, (axes,) = _new_figure(4.6, 3.2, 1, 1)
        for loss, x, y in points:
            axes.errorbar(
                [x.mean],
                [y.mean],
                xerr=x.half_width,
                yerr=y.half_width,
                marker=_marker(view, loss),
                markersize=sizes[loss],
                color=color_of(loss, view.losses),
                linestyle="none",
                elinewidth=0.8,
                capsize=2,
                label=safe(display_name(loss)),
            )
        for name, level, dash in _levels(view, dataset, Y):
            axes.axhline(level, color=GREY, linestyle=dash, linewidth=1, label=name)
        axes.set_xlabel(f"{COLUMNS[X].title} (epochs)")
        axes.set_ylabel(COLUMNS[Y].title)
        axes.set_xlim(*_range([end for _, x, _ in points for end in (x.low, x.high)]))
        axes.set_ylim(bottom=0)
        figure.legend(loc="outside right upper")
    return figure


def curves_figure(view: StudyView, dataset: str) -> Figure | None:
    """A panel for each quantity of the page's curves; None without epochs."""
    losses = [loss for loss in view.losses if view.epochs(dataset, loss)]
    if not losses:
        return None
    with _style():
        shown = panels_of(view)
        figure, panels = _new_figure(7.0, 4.2, 2, math.ceil(len(shown) / 2))
        for panel, axes in zip(shown, panels, strict=False):
            for loss in losses:
                _curve(axes, view, dataset, loss, panel)
            for _, level, dash in _levels(view, dataset, panel.column):
                axes.axhline(level, color=GREY, linestyle=dash, linewidth=1)
            axes.set_title(COLUMNS[panel.column].title, fontsize=8, loc="left")
            axes.set_xlabel("epoch")
            if panel.log:
                axes.set_yscale("log")
                axes.yaxis.set_major_formatter(lambda value, _: _power(value))
            elif panel.from_zero:
                axes.set_ylim(0, 1.05 * axes.dataLim.y1 or 1)
            if panel.percent:
                axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g} %")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 7))
    return figure


def curve(view: StudyView, dataset: str, loss: Loss, column: str) -> list[tuple[int, Interval]]:
    """(epoch, mean and interval over seeds) of each epoch at which a column was measured."""
    at: dict[int, list[float]] = {}
    for row in view.epochs(dataset, loss):
        if (value := known(row.get(column))) is not None:
            at.setdefault(int(row["epoch"]), []).append(value)
    return [(epoch, over) for epoch in sorted(at) if (over := interval(at[epoch])) is not None]


def _curve(axes: Axes, view: StudyView, dataset: str, loss: Loss, panel: Panel) -> None:
    points = curve(view, dataset, loss, panel.column)
    if panel.log:
        points = [(epoch, over) for epoch, over in points if over.mean > 0]
    if not points:
        return
    epochs = [epoch for epoch, _ in points]
    color, number = color_of(loss, view.losses), view.losses.index(loss)
    axes.plot(
        epochs,
        [over.mean for _, over in points],
        color=color,
        linestyle=_DASHES[number % len(_DASHES)],
        marker=_marker(view, loss),
        markersize=3,
        markevery=(number % 5, max(1, len(points) // 5)) if len(points) > 5 else 1,
        label=safe(display_name(loss)),
    )
    top = 1.0 if panel.percent else math.inf
    # a logarithmic axis has no 0: a band ends at a tenth of the mean
    floor = -math.inf if panel.signed else 0.0
    least = [over.mean / 10 if panel.log else floor for _, over in points]
    axes.fill_between(
        epochs,
        [max(low, over.low) for low, (_, over) in zip(least, points, strict=True)],
        [min(top, over.high) for _, over in points],
        color=color,
        alpha=0.12,
        linewidth=0,
    )


def _levels(view: StudyView, dataset: str, column: str) -> list[tuple[str, float, str]]:
    """Name, value and line style of the spaces without training."""
    frozen = [row for row in view.references(dataset) if row["reference"] == FROZEN]
    found = (
        *(
            (loss.name, view.interval(dataset, loss, column), "--")
            for loss in view.untrained(dataset)
        ),
        (
            view.measures.raw,
            interval(row.get(column.removeprefix("test_")) for row in frozen),
            ":",
        ),
    )
    return [(name, over.mean, dash) for name, over, dash in found if over is not None]


def _sizes(view: StudyView, dataset: str, losses: Sequence[Loss]) -> dict[Loss, float]:
    """Marker sizes in points, larger for a higher R@1; equal where it is not known."""
    recalls = {
        loss: over.mean
        for loss in losses
        if (over := view.interval(dataset, loss, view.retrieval[0].name))
    }
    least, most = min(recalls.values(), default=0.0), max(recalls.values(), default=0.0)
    reach = most - least
    return {
        loss: 4 + (4 * (recalls[loss] - least) / reach if reach and loss in recalls else 0.0)
        for loss in losses
    }


def _range(values: Sequence[float]) -> tuple[float, float]:
    """An axis covers at least half of the range from 0: a small difference must not look like a large one."""
    least, most = min(values), max(values)
    reach = max(most - least, 0.5 * most)
    return max(most - 1.15 * reach, -0.05 * most), most + 0.1 * reach


def _power(value: float) -> str:
    """`10⁻²`. Labels are not parsed as formulas, because names are not."""
    power = round(math.log10(value)) if value > 0 else 0
    return f"10{str(power).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def _marker(view: StudyView, loss: Loss) -> str:
    return _MARKERS[view.losses.index(loss) % len(_MARKERS)]


def _new_figure(width: float, height: float, rows: int, columns: int) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    # not pyplot: it keeps figures, and asks for a window system
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.flat)


@contextmanager
def _style() -> Iterator[None]:
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()  # not the style of the user's matplotlibrc
        matplotlib.rcParams.update(_STYLE)
        # a letter that the font does not have is drawn as a box
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield

"""The figures of the report as plotly figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lossgauge.errors import InputError

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from lossgauge.notebook.study import Study


class Plots:
    """The figures of a study, as plotly figures: `.show()` draws one, `.write_html("figure.html")` keeps it."""

    def __init__(self, study: Study) -> None:
        self._study = study

    def training_curves(self, dataset: str | None = None) -> go.Figure:
        """VARIANCE, GREEDINESS and R@1 over the epochs of one dataset: mean over seeds with its 95 % interval."""
        from lossgauge.report.figures.training_curves import training_curves

        dataset = self._study.dataset_named(dataset)
        return _figure(training_curves(self._study.view, dataset), dataset)

    def tradeoff(self, dataset: str | None = None) -> go.Figure:
        """Compaction speed against variance kept, a disc for each loss. Without `dataset`, all of them."""
        from lossgauge.report.figures.stacked import stacked
        from lossgauge.report.figures.tradeoff import tradeoff

        names = self._study.datasets
        if dataset is not None or len(names) == 1:
            dataset = self._study.dataset_named(dataset)
            return _figure(tradeoff(self._study.view, dataset), dataset)
        return stacked({name: _figure(tradeoff(self._study.view, name), name) for name in names})

    def sensitivity(self, dataset: str | None = None) -> go.Figure:
        """R@1 and intra of each loss at multiples of its margin, temperature or scale, on one dataset.

        Raises InputError if the study has no key `sensitivity`, or if no such run has ended.
        """
        from lossgauge.report.figures.sensitivity import sensitivity

        dataset = self._study.dataset_named(dataset)
        return _figure(sensitivity(self._study.view, dataset), dataset)

    def search_trials(self, dataset: str | None = None) -> go.Figure:
        """Each trial of the searches on one dataset: its objective on the validation slice against each setting.

        Raises InputError if the study has no key `tune`, or if no trial has ended.
        """
        from lossgauge.report.figures.search_trials import search_trials

        dataset = self._study.dataset_named(dataset)
        return _figure(search_trials(self._study.view, dataset), dataset)


def _figure(figure: dict[str, Any] | None, dataset: str) -> go.Figure:
    """A chart of the report as an object of plotly. Raises InputError where there is nothing to draw."""
    import plotly.graph_objects as go

    if figure is None:
        raise InputError(f"no run on {dataset!r} has the values that this figure shows")
    return go.Figure(figure)

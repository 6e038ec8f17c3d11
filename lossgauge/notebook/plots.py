"""The figures of the report as plotly figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lossgauge.diagnostics.references import FROZEN
from lossgauge.errors import InputError, nearest

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from lossgauge.notebook.study import Study
    from lossgauge.results.examples import Examples


class Plots:
    """The figures of a study, as plotly figures: `.show()` draws one, `.write_html("figure.html")` keeps it."""

    def __init__(self, study: Study) -> None:
        self._study = study

    def retrieval(self, dataset: str | None = None) -> go.Figure:
        """R@1 and MAP@R of each loss on one dataset with 95 % intervals; the frozen features and the untrained head as lines.

        Of queries and documents: nDCG@10, and its gain over the raw model in points.
        """
        from lossgauge.report.figures.retrieval import retrieval

        dataset = self._study.dataset_named(dataset)
        return _figure(retrieval(self._study.view, dataset), dataset)

    def training_curves(self, dataset: str | None = None) -> go.Figure:
        """VARIANCE, GREEDINESS and R@1 over the epochs of one dataset: mean over seeds with its 95 % interval.

        Of queries and documents: nDCG@10, alignment and uniformity, and GREEDINESS.
        """
        from lossgauge.report.figures.training_curves import training_curves

        dataset = self._study.dataset_named(dataset)
        return _figure(training_curves(self._study.view, dataset), dataset)

    def tradeoff(self, dataset: str | None = None) -> go.Figure:
        """Compaction speed against variance kept, a disc for each loss. Without `dataset`, all of them.

        Raises InputError for a study of queries and documents.
        """
        from lossgauge.report.figures.stacked import stacked
        from lossgauge.report.figures.tradeoff import tradeoff

        if not self._study.view.measures.judges_classes:
            raise InputError(
                "the trade-off is about variance inside classes, and this study has queries and documents; "
                "plot.training_curves() shows their space"
            )
        names = self._study.datasets
        if dataset is not None or len(names) == 1:
            dataset = self._study.dataset_named(dataset)
            return _figure(tradeoff(self._study.view, dataset), dataset)
        return stacked({name: _figure(tradeoff(self._study.view, name), name) for name in names})

    def sensitivity(self, dataset: str | None = None) -> go.Figure:
        """R@1 and intra (nDCG@10 and alignment of queries and documents) of each loss at multiples of its margin, temperature or scale, on one dataset.

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

    def embedding_map(
        self, dataset: str | None = None, *, loss: str | None = None, epoch: int | None = None
    ) -> go.Figure:
        """A map of some test rows of one dataset under one loss, after one of the kept epochs: the plane of the most variance.

        `loss` is its title in the plan; without it, the frozen features. Without `epoch`, the last one. Raises InputError for
        another loss or epoch, and if the study kept no examples.
        """
        from lossgauge.notebook.example_figures import map_figure

        dataset = self._study.dataset_named(dataset)
        examples, space = self._space(dataset, loss)
        epochs = examples.about.spaces[space].epochs
        if epoch is not None and epoch not in epochs:
            kept = ", ".join(map(str, epochs))
            raise InputError(f"the map has the epochs {kept}, got {epoch!r}")
        return _figure(map_figure(examples, space, epoch), dataset)

    def class_distances(self, dataset: str | None = None, *, loss: str | None = None) -> go.Figure:
        """The cosine distances between class means of one dataset under one loss, as a heat map: dark is close.

        `loss` as in `embedding_map`.
        """
        from lossgauge.notebook.example_figures import distances_figure

        dataset = self._study.dataset_named(dataset)
        examples, space = self._space(dataset, loss)
        return _figure(distances_figure(examples, space), dataset)

    def _space(self, dataset: str, loss: str | None) -> tuple[Examples, int]:
        """The examples of a dataset, and the place of a loss, or of the frozen features, in them."""
        files = self._study.view.files
        examples = files.examples(dataset) if files else None
        if examples is None:
            raise InputError(f"the study kept no examples of the rows of {dataset!r}")
        names = [FROZEN if space.run is None else space.name for space in examples.about.spaces]
        wanted = FROZEN if loss is None else loss
        if wanted not in names:
            raise InputError(f"the examples have no loss {wanted!r}{nearest(str(wanted), names)}")
        return examples, names.index(wanted)


def _figure(figure: dict[str, Any] | None, dataset: str) -> go.Figure:
    """A chart of the report as an object of plotly. Raises InputError where there is nothing to draw."""
    import plotly.graph_objects as go

    if figure is None:
        raise InputError(f"no run on {dataset!r} has the values that this figure shows")
    return go.Figure(figure)

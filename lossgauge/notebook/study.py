"""A study for Python and for notebooks: its tables, findings, claims and figures, the report and the exports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2 import Environment

from lossgauge.claims.own_claims import claims_of, read_claims
from lossgauge.claims.records import ClaimRecord, all_records, records_on
from lossgauge.errors import InputError, nearest
from lossgauge.health.finding import LEVELS, Level
from lossgauge.notebook.plots import Plots
from lossgauge.results.columns import COLUMNS, Kind
from lossgauge.results.frames import as_frame, frame_library
from lossgauge.results.reader import read_study
from lossgauge.results.tables import StudyTables, as_table
from lossgauge.results.view import BASELINE, Loss
from lossgauge.stats.intervals import Interval, known
from lossgauge.stats.number_format import counted, shown_interval
from lossgauge.types import Record

if TYPE_CHECKING:
    from lossgauge.deployment.export import HeadExport
    from lossgauge.report.comparison import StudyComparison
    from lossgauge.report.text.findings import TopicAnswer


class Study:
    """A study in its folder, read once.

    Data frames are made when first used, and kept. What is not known is missing (NaN, null), never 0.
    """

    def __init__(self, folder: Path, *, frames: str | None = None) -> None:
        if frames is not None:
            self._library = frame_library(frames)
        self.folder = folder
        self.view = read_study(folder)
        self._tables = StudyTables(self.view)

    @property
    def plan(self) -> Record:
        """Every setting of the study, as in its file."""
        return self._tables.view.plan

    @property
    def environment(self) -> Record:
        """Versions and machine that it was run with."""
        return self._tables.view.environment

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the datasets that have runs."""
        return self.view.datasets

    @cached_property
    def runs(self) -> Any:
        """One row for each finished run: settings, retrieval, geometry, means of the dynamics. Without trials."""
        return self._frame("runs")

    @cached_property
    def timing(self) -> Any:
        """One row for each of `runs`: seconds, milliseconds per step, the probe's share."""
        return self._frame("timing")

    @cached_property
    def epochs(self) -> Any:
        """One row for each run and epoch; epoch 0 is before training."""
        return self._frame("epochs")

    @cached_property
    def steps(self) -> Any:
        """One row for each run and optimization step. Large."""
        return self._frame("steps")

    @cached_property
    def classes(self) -> Any:
        """One row for each run, side of the split and class: geometry of the selected epoch."""
        return self._frame("classes")

    @cached_property
    def queries(self) -> Any:
        """One row for each run and test query: hit at 1, AP@R and the nearest samples, at the selected epoch. Large."""
        return self._frame("queries")

    @cached_property
    def frozen_queries(self) -> Any:
        """The same for the frozen features of each dataset, normalised: one row for each test query."""
        return self._frame("frozen_queries")

    @cached_property
    def trials(self) -> Any:
        """One row for each finished trial of a search, measured on the validation slice."""
        return self._frame("trials")

    @cached_property
    def tuned(self) -> Any:
        """One row for each dataset and loss: the settings that its search chose."""
        return self._frame("tuned")

    @cached_property
    def references(self) -> Any:
        """One row for each dataset and reference space: frozen features, random unit vectors, full collapse."""
        return self._frame("references")

    @cached_property
    def failures(self) -> Any:
        """One row for each run that failed or is damaged, with its `error`. Failed trials are in `trials`."""
        return self._frame("failures")

    @cached_property
    def left_out(self) -> Any:
        """One row for each dataset that is missing, in whole or in part, with the `reason`."""
        return self._frame("left_out")

    def table(self, dataset: str | None = None, columns: str | Sequence[str] | None = None) -> Any:
        """Mean of some columns of numbers of `runs` over the seeds, for each loss, as a data frame.

        Each column has a second one, `…_half_width`: the 95 % interval is mean ± half width; missing with one seed.
        Without `columns`: R@1, MAP@R, intra and compaction, or nDCG@10, MRR@10, Recall@1 and Recall@10 of queries and documents,
        whose intervals are over new seeds and queries. Without `dataset`, all datasets. Raises InputError for an unknown dataset or column.
        """
        columns = self.view.measures.overview if columns is None else columns
        columns = [columns] if isinstance(columns, str) else list(columns)
        rows = []
        for row in self._rows(dataset, columns):
            numbers: Record = {}
            for column, interval in zip(columns, row.intervals, strict=True):
                numbers[column] = interval and interval.mean
                numbers[f"{column}_half_width"] = interval and interval.half_width
            rows.append({"dataset": row.dataset, "loss": row.loss, "seeds": row.seeds, **numbers})
        return as_frame(as_table(rows, _LEADING), self._library)

    def by_class_size(self, dataset: str | None = None) -> Any:
        """R@1 and MAP@R of the head, the middle and the tail: thirds of the classes by their training rows, as a data frame.

        Three rows for each run, the baseline's too; `training_rows` is the mean of a class of the group. Each seed has its own groups, because a long
        tail is drawn from the seed: compare losses within seeds. Reads the queries of all runs. Raises InputError for an unknown
        dataset, and for one whose test classes have no training rows or that has fewer than three.
        """
        from lossgauge.results.class_sizes import group_rows

        name, files = self.dataset_named(dataset), self.view.files
        assert files is not None  # it was read from a folder
        rows = [
            {"dataset": name, "loss": _title(loss), "seed": seed, **row}
            for loss in (*self.view.losses_and_tuned, BASELINE)
            for seed, run in sorted(self.view.runs(name, loss).items())
            for row in group_rows(files, run)
        ]
        leading: dict[str, Kind] = {
            **dict.fromkeys(("dataset", "loss"), "text"),
            "seed": "whole",
            "group": "text",
            "classes": "whole",
        }
        return as_frame(as_table(rows, leading), self._library)

    def claims(
        self,
        dataset: str | None = None,
        *,
        claims: str | Path | Sequence[Mapping[str, Any]] | None = None,
    ) -> list[ClaimRecord]:
        """The verdict of this study on each claim of the paper and of its own, on one dataset.

        Without `dataset`: on each dataset, then over all of them. `claims` is a YAML file with more claims, or a list of dicts with its keys. Raises
        InputError for an unknown dataset, and PlanError for a file with an unknown loss or column.
        """
        stated = claims_of(self.view, read_claims(claims) if claims is not None else ())
        if dataset is None:
            return all_records(self.view, stated)
        return records_on(self.view, self.dataset_named(dataset), stated)

    def compare(self, other: Study | str | Path) -> StudyComparison:
        """What differs in another study of the same data: its numbers minus those of this one, with 95 % intervals.

        `print` shows it, `.differences` and `.changed` have the parts, `.plain` everything as JSON. `other` is a study or
        its folder. Reads the queries of all runs that are compared. Raises InputError if the two share no dataset.
        """
        from lossgauge.report.comparison import compare

        if not isinstance(other, Study | str | Path):
            raise InputError(f"compare takes a study or its folder, got {other!r}")
        second = other if isinstance(other, Study) else Study(Path(other))
        return compare(self.view, second.view, (str(self.folder), str(second.folder)))

    def answers(self, dataset: str | None = None) -> list[TopicAnswer]:
        """What the losses do to one dataset's space, by topic: `sentence` says what, `evidence` has the numbers."""
        from lossgauge.report.text.answer import answers

        dataset = self.dataset_named(dataset)
        return [
            finding
            for answer in answers(self.view)
            if answer.dataset == dataset
            for finding in answer.findings
        ]

    def findings(self, dataset: str | None = None) -> list[RunFinding]:
        """Each check of each finished run, with its level, the worst first: what is normal, and what to change.

        Without `dataset`, of all datasets. Raises InputError for an unknown dataset.
        """
        from lossgauge.report.text.health_warnings import findings_of_run

        names = self.datasets if dataset is None else (self.dataset_named(dataset),)
        found = [
            RunFinding(name, _title(loss), seed, *finding)
            for name in names
            for loss in (*self.view.losses_and_tuned, BASELINE)
            for seed in sorted(self.view.runs(name, loss))
            for finding in findings_of_run(self.view, name, loss, seed)
        ]
        return sorted(found, key=lambda one: -LEVELS.index(one.level))

    @cached_property
    def plot(self) -> Plots:
        """The figures of the report."""
        return Plots(self)

    def report(self, path: str | Path | None = None, *, full: bool = False) -> Path:
        """Write the report, one HTML file, to `path` or to report.html in the study's folder; `full` unfolds all its parts.

        Raises InputError if `path` holds anything but a report, DiskError if it cannot be written.
        """
        from lossgauge.report.output import check_replaceable, write_page

        target = Path(path) if path is not None else self.folder / "report.html"
        check_replaceable(target)
        return write_page(self.view, target, full=full)

    def paper(
        self,
        out: str | Path | None = None,
        *,
        formats: Sequence[str] = ("md",),
        figures: Sequence[str] = (),
    ) -> Path:
        """Write the paper's tables (`formats`: md, latex, csv) and figures (`figures`: pdf, svg, png), and return their folder.

        Without `out`: export/paper in the study's folder. An earlier folder of them is replaced. Raises InputError for an
        unknown format and for a folder with other content, MissingExtra if figures need matplotlib.
        """
        from lossgauge.export import export_paper

        target = None if out is None else Path(out)
        return export_paper(self.view, target, formats=formats, figures=figures)

    def export(
        self, to: str, out: str | Path | None = None, *, quote_formulas: bool = False
    ) -> str:
        """Write the tables as `parquet` or `csv`, or the runs to `mlflow`, `wandb` or `tensorboard`; return where.

        `out` is a folder, by default export/FORMAT in the study's folder. docs/export.md has the formats.
        """
        from lossgauge.export import export_study

        return export_study(
            self.view,
            to,
            None if out is None else Path(out),
            quote_formulas=quote_formulas,
        )

    def export_head(
        self,
        out: str | Path = "head",
        *,
        dataset: str | None = None,
        loss: str | None = None,
        seed: int | None = None,
        data: str | None = None,
        width: int | None = None,
        onnx: bool = False,
        model: str | Path | None = None,
        download: bool = False,
    ) -> HeadExport:
        """Export the head of one run into the folder `out`, for `lg.load_head`; `str` of the result says what it is and costs.

        What is not given is chosen: the loss with the best mean, by validation where the study has it. The arguments are the
        options of `lossgauge head`; `model` is its --sentence-transformers. Raises a LossgaugeError, and writes nothing, where the head cannot be exported.
        """
        from lossgauge.deployment.export import export_head

        return export_head(
            self.view,
            Path(out),
            dataset=dataset,
            loss=loss,
            seed=seed,
            data=data,
            width=width,
            onnx=onnx,
            model=None if model is None else Path(model),
            download=download,
        )

    def __repr__(self) -> str:
        failed = len(self.view.results.failures)
        waiting = len(self.view.results.waiting)
        parts = [
            counted(len(self._tables.runs), "run"),
            *([f"{failed} failed"] if failed else []),
            *([f"{waiting} waiting"] if waiting else []),
        ]
        losses = counted(len(self.view.losses), "loss")
        return f"<Study {self.folder}: {', '.join(parts)}; {losses} on {', '.join(self.datasets) or 'no dataset'}>"

    def _repr_html_(self) -> str:
        shown = self.view.measures.overview
        rows = [
            (
                row.dataset,
                row.loss,
                row.seeds,
                [
                    "—" if interval is None else shown_interval(interval, COLUMNS[column].unit)
                    for column, interval in zip(shown, row.intervals, strict=True)
                ],
            )
            for row in self._rows(None, shown)
        ]
        titles = [COLUMNS[column].title for column in shown]
        return _HTML.render(summary=repr(self).strip("<>"), titles=titles, rows=rows)

    @cached_property
    def _library(self) -> Any:
        return frame_library()

    def _frame(self, table: str) -> Any:
        return as_frame(self._tables.table(table), self._library)

    def dataset_named(self, name: str | None) -> str:
        """The dataset of that name, or the only one. Raises InputError for an unknown name, and without a name."""
        if name is None and len(self.datasets) == 1:
            return self.datasets[0]
        if name is None:
            raise InputError(
                f"the study has {counted(len(self.datasets), 'dataset')}; name one of them: {', '.join(self.datasets)}"
            )
        if name not in self.datasets:
            raise InputError(
                f"the study has no dataset {name!r}{nearest(str(name), self.datasets)}"
            )
        return name

    def _rows(self, dataset: str | None, columns: Sequence[str]) -> list[_Row]:
        view = self.view
        numbers = {
            name
            for row in view.results.summaries
            for name, value in row.items()
            if known(value) is not None
        }
        for column in columns:
            if column not in numbers and column not in view.measures.overview:
                near = nearest(str(column), sorted(numbers))
                raise InputError(f"runs of this study have no column of numbers {column!r}{near}")
        names = self.datasets if dataset is None else (self.dataset_named(dataset),)
        return [
            _Row(
                name,
                _title(loss),
                len(runs),
                [view.interval(name, loss, column) for column in columns],
            )
            for name in names
            for loss in (*view.losses_and_tuned, BASELINE)
            if (runs := view.runs(name, loss))
        ]


class RunFinding(NamedTuple):
    """A `Finding` about one run of a study; docs/findings.md explains each."""

    dataset: str
    loss: str
    seed: int
    name: str
    level: Level
    subject: str
    evidence: str
    reference: str
    why: str
    advice: str


class _Row(NamedTuple):
    """A loss on a dataset, as tables show it."""

    dataset: str
    loss: str
    seeds: int
    intervals: list[Interval | None]


def _title(loss: Loss) -> str:
    return f"{loss.base}, tuned" if loss.tuned else loss.base


_LEADING: dict[str, Kind] = {"dataset": "text", "loss": "text", "seeds": "whole"}

_HTML = Environment(autoescape=True).from_string("""\
<table>
<caption>{{ summary }}</caption>
<thead><tr><th>dataset</th><th>loss</th><th>seeds</th>{% for title in titles %}<th>{{ title }}</th>{% endfor %}</tr></thead>
<tbody>
{% for dataset, loss, seeds, cells in rows %}
<tr><td>{{ dataset }}</td><td>{{ loss }}</td><td>{{ seeds }}</td>{% for cell in cells %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table>
""")

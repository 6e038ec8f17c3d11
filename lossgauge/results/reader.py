"""The content of a study's folder, read and verified; every file is read once.

A file must have the checksum that was written with it, and must fit its model in `records`; otherwise it is an
error, and none of its numbers are used. A damaged run counts as failed, so the rest of the study can be shown.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor

from lossgauge.errors import CacheError, StudyError
from lossgauge.files import (
    check_file,
    check_folder,
    damaged,
    load_json,
    load_schema,
    load_table,
    read_json,
    read_unverified,
)
from lossgauge.results.columns import MEASURED_ON_TEST
from lossgauge.results.layout import (
    CENTERED_QUERIES,
    FORMAT,
    FROZEN_QUERIES,
    HEAD,
    RUN_FILES,
    Layout,
)
from lossgauge.results.records import (
    AnswerRecord,
    Config,
    Dataset,
    Failure,
    Study,
    Summary,
    Timing,
    check_columns,
    check_epochs,
    checked,
)
from lossgauge.results.run_files import RunFiles
from lossgauge.results.view import StudyView
from lossgauge.types import Record, Results


def read_study(folder: Path) -> StudyView:
    """Everything in the folder that its study.json lists. Damaged runs are among the failures.

    Reads and hashes every file of every finished run: 100 MB take about 0.1 s. Raises StudyError if the folder
    contains no study of this format, and CacheError if study.json or the record of a dataset is damaged.
    """
    layout = Layout(folder)
    study = study_record(layout)
    runs = _SortedRuns(study["plan"]["selection_metric"])
    for row in study["runs"]:
        runs.add(row, layout)
    datasets = dict.fromkeys(row["dataset"] for row in study["runs"])
    results = Results(
        plan=study["plan"],
        assumptions=study["assumptions"],
        summaries=runs.summaries,
        epochs=runs.epochs,
        references=[row for name in datasets for row in dataset_record(layout, name)["references"]],
        left_out=study["left_out"],
        failures=runs.failures,
        environment=study["environment"],
        sensitivity=runs.sensitivity,
        trials=runs.trials,
        tuned=study["tuned"],
        waiting=runs.waiting,
        expected=expected_runs(study),
        answer=answer_record(layout),
    )
    return StudyView(
        results,
        RunFiles(
            folder,
            tuple(runs.variants),
            configs={name: run.config for name, run in runs.finished.items()},
            epochs={name: run.epochs for name, run in runs.finished.items()},
            schemas={name: run.schemas for name, run in runs.finished.items()},
        ),
        damage=tuple(runs.damage),
    )


@dataclass
class _SortedRuns:
    """The rows of a study's runs, grouped by status."""

    selection_metric: str
    summaries: list[Record] = field(default_factory=list)
    epochs: list[Record] = field(default_factory=list)
    sensitivity: list[Record] = field(default_factory=list)
    trials: list[Record] = field(default_factory=list)
    failures: list[Record] = field(default_factory=list)
    waiting: list[Record] = field(default_factory=list)
    damage: dict[str, None] = field(default_factory=dict)
    """Lines, each once."""
    variants: list[str] = field(default_factory=list)
    finished: dict[str, FinishedRun] = field(default_factory=dict)

    def add(self, row: Record, layout: Layout) -> None:
        """Read a run that the study lists. A run that is listed as two variants is read once."""
        name = row["run"]
        if os.path.lexists(layout.run(name)):
            try:
                if name not in self.finished:
                    self.finished[name] = read_run(layout, name)
            except CacheError as error:
                self.damage[str(error)] = None
                self.failures.append({**row, "error": str(error)})
            else:
                self._add_finished(row, self.finished[name])
        elif not os.path.lexists(layout.failure(name)):
            self.waiting.append(row)
        else:
            self._add_failed(row, layout)

    def _add_failed(self, row: Record, layout: Layout) -> None:
        try:
            failure = failure_record(layout, row["run"])
        except CacheError as error:
            self.damage[str(error)] = None
            failure = {"error": str(error)}
        if row["variant"] == "trial":
            self.trials.append({**failure, **row, "objective": None})
        else:
            self.failures.append({**failure, **row})

    def _add_finished(self, row: Record, run: FinishedRun) -> None:
        summary = {**run.summary, **row}
        if row["variant"] == "trial":
            self.trials.append(_trial(summary, self.selection_metric))
            return
        self.variants.append(row["variant"])
        if row["variant"] == "sensitivity":
            self.sensitivity.append(summary)
        else:
            self.summaries.append(summary)
            self.epochs += [{**epoch, **row} for epoch in run.epochs.to_pylist()]


class FinishedRun(NamedTuple):
    """A finished run, verified."""

    summary: Record
    """With the measured times."""
    config: Record
    epochs: pa.Table
    schemas: dict[str, pa.Schema]
    """Columns of `steps`, `classes` and `queries`."""


def read_run(layout: Layout, run: str) -> FinishedRun:
    """A finished run. Each file is opened once, hashed and read. Raises CacheError if a file is damaged."""
    folder = layout.run(run)
    content = check_folder(
        folder,
        of=run,
        needed=RUN_FILES,
        load={
            "summary.json": load_json,
            "timing.json": load_json,
            "config.json": load_json,
            "epochs.parquet": load_table,
            "steps.parquet": load_schema,
            "classes.parquet": load_schema,
            "queries.parquet": load_schema,
        },
    )
    summary = checked(layout.record(run, "summary"), Summary, content["summary.json"])
    timing = checked(layout.record(run, "timing"), Timing, content["timing.json"])
    config = checked(layout.record(run, "config"), Config, content["config.json"])
    epochs = content["epochs.parquet"]
    check_columns(layout.table(run, "epochs"), "epochs", epochs.schema)
    schemas = {name: content[f"{name}.parquet"] for name in ("steps", "classes", "queries")}
    for name, schema in schemas.items():
        check_columns(layout.table(run, name), name, schema)
    check_epochs(layout.table(run, "epochs"), epochs.to_pylist(), summary["epochs"])
    return FinishedRun({**summary, **timing}, config, epochs, schemas)


def read_head(layout: Layout, run: str) -> dict[str, Tensor]:
    """The tensors of the head of a finished run, at its selected epoch.

    Raises StudyError if the run kept none, as trials and runs of older versions, CacheError if a file is damaged.
    """
    folder = layout.run(run)
    content = check_folder(folder, of=run, needed=RUN_FILES, load={HEAD: _load_tensors})
    if HEAD not in content:
        raise StudyError(
            f"the run {run} kept no {HEAD}: trials keep none, nor do studies of older versions; run the study again "
            "with --out and a new folder"
        )
    tensors: dict[str, Tensor] = content[HEAD]
    return tensors


def _load_tensors(path: Path, file: BufferedReader) -> dict[str, Tensor]:
    try:
        return load_tensors(file.read())
    except (SafetensorError, ValueError) as error:
        raise damaged(path, str(error)) from None


def damage_of(layout: Layout, run: str) -> str | None:
    """The damage of a finished run; None if it is complete or does not exist. Nothing is changed."""
    if not os.path.lexists(layout.run(run)):
        return None
    try:
        read_run(layout, run)
    except CacheError as error:
        return str(error)
    return None


def summary_of(layout: Layout, run: str) -> Record:
    """The summary of a finished run, without measured times. Raises CacheError if it is damaged."""
    path = layout.record(run, "summary")
    return checked(path, Summary, read_json(path))


def study_record(layout: Layout) -> Record:
    """study.json. Raises StudyError if the folder contains no study of this format, CacheError if it is damaged."""
    path = layout.study
    if not os.path.lexists(path):
        inside = study_inside(layout.folder)
        fix = "run `lossgauge study` first" if inside is None else f"did you mean {inside}?"
        raise StudyError(f"{layout.folder} does not contain a study (it has no {path.name}); {fix}")
    try:
        study = read_json(path)
    except CacheError:
        # records of the formats 1 and 2 had no checksum
        if (older := read_unverified(path).get("schema")) is None:
            raise
        raise _other_format(path, older) from None
    if study.get("format") != FORMAT:
        raise _other_format(path, study.get("format"))
    return checked(path, Study, study)


def study_inside(folder: Path) -> Path | None:
    """The study in a folder of `lossgauge advise`, which is not a study itself; None if there is none."""
    inside = folder / "study"
    return inside if os.path.lexists(Layout(inside).study) else None


def check_format(layout: Layout) -> None:
    """StudyError for a study of another format. A damaged file gives no error, because it is written again."""
    with suppress(CacheError):
        if os.path.lexists(layout.study):
            study_record(layout)


def _other_format(path: Path, number: object) -> StudyError:
    return StudyError(
        f"{path} is of format {str(number)[:20]}, and this version of lossgauge reads format {FORMAT}: run the study "
        "again with --out and a new folder, or use the version that wrote it"
    )


def expected_runs(study: Record) -> int:
    """Runs of a study.json, each once: the same run may be listed as two variants."""
    twice = len(study["runs"]) - len({row["run"] for row in study["runs"]})
    return int(study["expected"]) - twice


def dataset_record(layout: Layout, name: str) -> Record:
    """The record of a dataset. Raises CacheError if it or the queries of its references are damaged."""
    path = layout.dataset(name)
    record = checked(path, Dataset, read_json(path))
    if record["dataset"] != name:
        raise damaged(path, f"it belongs to the dataset {record['dataset']!r}")
    if FROZEN_QUERIES in record:
        check_file(layout.frozen_queries(name), record[FROZEN_QUERIES])
    if CENTERED_QUERIES in record:
        check_file(layout.centered_queries(name), record[CENTERED_QUERIES])
    return record


def answer_record(layout: Layout) -> Record | None:
    """The answer of `lossgauge advise`; None in other studies. Raises CacheError if it is damaged."""
    path = layout.answer
    return checked(path, AnswerRecord, read_json(path)) if os.path.lexists(path) else None


def failure_record(layout: Layout, run: str) -> Record:
    """Why a run failed: `error` and, if known, `traceback`. Raises CacheError if the record is damaged."""
    path = layout.failure(run)
    return checked(path, Failure, read_json(path))


def failure_or_damage(layout: Layout, run: str) -> Record | None:
    """Like `failure_record`, but a damaged record gives its damage as the error; None if the run did not fail."""
    if not os.path.lexists(layout.failure(run)):
        return None
    try:
        return failure_record(layout, run)
    except CacheError as error:
        return {"error": str(error)}


def _trial(summary: Record, metric: str) -> Record:
    """The row of a trial: it is measured on the validation slice, so its columns get the prefix `validation_`."""
    row = {
        (f"validation_{name.removeprefix('test_')}" if name in MEASURED_ON_TEST else name): value
        for name, value in summary.items()
    }
    return {**row, "objective": summary[metric]}

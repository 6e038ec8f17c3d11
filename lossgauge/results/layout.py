"""The paths inside a study's folder; these names appear in no other file.

study.json                 the plan, the runs it asks for, what was left out, the environment
datasets/<name>.json       fingerprint, counts and reference geometry of a dataset
datasets/<name>.frozen.parquet  queries of its frozen features
examples/<dataset>/        rows of the test side that a page shows, with their neighbours, a map and small pictures, and a manifest
queries/<dataset>.json     queries and documents: which queries the best loss answers better and worse, with their texts
runs/<run>/                config, environment, summary, timing, epochs, steps, classes, queries and heads, and their manifest
partial/<run>/<epoch>/     a checkpoint of a run in progress, also with a manifest
partial/<run>/steps/       its step rows up to that epoch
failed/<run>.json          why a run failed; the same command tries it again
.work/                     while a study runs: features for workers, their logs, running.json
.lock, .workers            locked while a study, or a worker, is running
study.log, study.log.1     what started, ended and failed, and when: for people, and read by nothing
report.html, export/       created from the other files
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

FORMAT = 5
"""`format` in study.json. Since 5 a run keeps its queries and heads, since 3 every record has a checksum; 1 and 2 were called
`schema`."""

RUN_TABLES = ("epochs", "steps", "classes", "queries")
"""Tables of a finished run, each a Parquet file."""

RUN_RECORDS = ("config", "summary", "timing", "environment")
"""Records of a finished run, each a JSON file."""

RUN_FILES = frozenset(
    [*(f"{name}.json" for name in RUN_RECORDS), *(f"{name}.parquet" for name in RUN_TABLES)]
)
"""Files that the manifest of a finished run must list. It may list HEAD and HEADS too."""

HEAD, HEADS = "head.safetensors", "heads.safetensors"
"""The head of a run's selected epoch, and those of some epochs: `5.linear.weight` is that of epoch 5. Trials keep none."""

CHECKPOINT_FILES = frozenset(
    {
        *("state.safetensors", "progress.json", "probe.safetensors", "best.safetensors"),
        *("kept_heads.safetensors", "epochs.parquet", "steps.parquet", "streamed.json"),
    }
)
"""Files that the manifest of a checkpoint must list."""

FROZEN_QUERIES = "frozen_queries"
"""Key of the record of a dataset: the size and SHA-256 of the queries of its frozen features."""

CENTERED_QUERIES = "centered_queries"
"""The same for the centered raw model, of queries and documents; a study of an older version has none."""

EXAMPLE_TABLES = ("rows", "queries", "neighbors", "positions", "cosines")
"""Tables of the examples of a dataset, each a Parquet file."""

EXAMPLE_FILES = frozenset(
    ["record.json", "thumbnails.json", *(f"{name}.parquet" for name in EXAMPLE_TABLES)]
)
"""Files that the manifest of the examples of a dataset must list."""

SHARED_FOLDERS = ("runs", "partial", "failed", "datasets")
"""Folders that a study creates before it starts."""


class Layout(NamedTuple):
    """The paths of one study's folder."""

    folder: Path

    @property
    def study(self) -> Path:
        return self.folder / "study.json"

    @property
    def lock(self) -> Path:
        """Locked by the running study."""
        return self.folder / ".lock"

    @property
    def workers_lock(self) -> Path:
        """Locked by each running worker."""
        return self.folder / ".workers"

    @property
    def log(self) -> Path:
        return self.folder / "study.log"

    @property
    def work(self) -> Path:
        """The files that only a running study needs."""
        return self.folder / ".work"

    @property
    def running(self) -> Path:
        """The progress of a running study."""
        return self.work / "running.json"

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    def export(self, name: str) -> Path:
        """The folder that an export of this kind is written to unless another is given."""
        return self.folder / "export" / name

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    def run(self, run: str) -> Path:
        return self.runs / run

    def record(self, run: str, name: str) -> Path:
        """One of RUN_RECORDS of a finished run."""
        return self.run(run) / f"{name}.json"

    def table(self, run: str, name: str) -> Path:
        """One of RUN_TABLES of a finished run."""
        return self.run(run) / f"{name}.parquet"

    def head(self, run: str) -> Path:
        """The head of the selected epoch of a finished run."""
        return self.run(run) / HEAD

    def heads(self, run: str) -> Path:
        """The heads of some epochs of a finished run of seed 0."""
        return self.run(run) / HEADS

    @property
    def partial_runs(self) -> Path:
        return self.folder / "partial"

    def partial(self, run: str) -> Path:
        """All stored files of a run in progress."""
        return self.partial_runs / run

    def checkpoint(self, run: str, epoch: int) -> Path:
        return self.partial(run) / str(epoch)

    def checkpoints(self, run: str) -> list[Path]:
        """The checkpoints of a run in progress, by ascending epoch."""
        numbered = (
            path
            for path in self.partial(run).glob("[0-9]*")
            if path.name.isascii() and path.name.isdigit()
        )
        return sorted(numbered, key=lambda path: int(path.name))

    @property
    def failures(self) -> Path:
        return self.folder / "failed"

    def failure(self, run: str) -> Path:
        return self.failures / f"{run}.json"

    @property
    def datasets(self) -> Path:
        return self.folder / "datasets"

    def dataset(self, name: str) -> Path:
        return self.datasets / f"{name}.json"

    def frozen_queries(self, name: str) -> Path:
        """The queries of the frozen features of a dataset."""
        return self.datasets / f"{name}.frozen.parquet"

    def centered_queries(self, name: str) -> Path:
        """The queries of the centered raw model of a dataset."""
        return self.datasets / f"{name}.centered.parquet"

    @property
    def answer(self) -> Path:
        """The answer of `lossgauge advise`, in the study of its finalists."""
        return self.folder / "answer.json"

    def examples(self, dataset: str) -> Path:
        """The folder with what a page shows of a dataset's rows."""
        return self.folder / "examples" / dataset

    def query_changes(self, dataset: str) -> Path:
        """The queries of a dataset that got better and worse."""
        return self.folder / "queries" / f"{dataset}.json"


def streamed_steps(checkpoint: Path) -> Path:
    """Folder of the step rows of a run in progress, beside its checkpoints."""
    return checkpoint.parent / "steps"

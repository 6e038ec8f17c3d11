"""The rows of a probe as one run of a tracker, by update: TensorBoard, Weights & Biases, MLflow."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from lossgauge.errors import InputError, nearest
from lossgauge.export import exporter_to, write_folder
from lossgauge.integrations.exporter import RunSource
from lossgauge.integrations.mlflow import write_mlflow
from lossgauge.integrations.tensorboard import write_tensorboard
from lossgauge.integrations.tracked import EPOCH, TrackedRun, metric_name, numbers
from lossgauge.integrations.wandb import write_wandb
from lossgauge.types import Record

WRITERS: dict[str, Callable[[RunSource], None]] = {
    "tensorboard": write_tensorboard,
    "wandb": write_wandb,
    "mlflow": write_mlflow,
}


class ProbeRun(NamedTuple):
    """The run of one probe, for a tracker."""

    study: str
    folder: Path | None
    losses: Sequence[str]
    rows: Sequence[Record]
    epochs: Sequence[Record]

    def runs(self) -> Iterator[TrackedRun]:
        """One run. Its id changes with the rows, so that more rows are a new run."""
        content = json.dumps([self.rows, self.epochs]).encode()
        loss = " + ".join(self.losses)
        name = re.sub(r"[^A-Za-z0-9_.-]+", "-", self.study)
        yield TrackedRun(
            id=f"{name}-{hashlib.sha256(content).hexdigest()[:12]}",
            name=f"{self.study}, {loss}",
            dataset=self.study,
            loss=loss,
            tags={"dataset": self.study, "loss": loss, "variant": "probe"},
            config={"losses": loss},
            epochs=sorted(self._metrics().items()),
            summary={},
        )

    def _metrics(self) -> dict[int, dict[str, float]]:
        at: dict[int, dict[str, float]] = {}
        for row in (*self.rows, *self.epochs):
            values = numbers(row)
            values.pop("step")
            epoch = values.pop(EPOCH)
            named = {metric_name(column): value for column, value in values.items()}
            at.setdefault(row["step"], {}).update({EPOCH: epoch, **named})
        return at


def log_to(
    tracker: str,
    rows: Sequence[Record],
    epochs: Sequence[Record],
    *,
    losses: Sequence[str],
    folder: str | Path | None,
    name: str,
) -> str:
    """Write the rows to a tracker; where they are, in words. See `Probe.log_to`."""
    if tracker not in WRITERS:
        raise InputError(f"unknown tracker {tracker!r}{nearest(tracker, WRITERS)}")
    exporter = exporter_to(tracker)
    run = ProbeRun(name, None, losses, rows, epochs)
    if folder is None and exporter.uses_server():
        WRITERS[tracker](run)
        return f"{tracker}, experiment {name!r}"
    target = Path(folder or Path("lossgauge-probe") / tracker).resolve()
    write_folder(
        tracker,
        target,
        lambda at: WRITERS[tracker](run._replace(folder=at)),
        {"study": name},
    )
    return str(target)

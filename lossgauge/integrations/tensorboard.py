"""TensorBoard: an event file for each run, scalars by epoch.   https://www.tensorflow.org/tensorboard

torch's SummaryWriter is not used: it writes in a thread, where the error of a full disk is lost.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from lossgauge.errors import MissingExtra
from lossgauge.integrations.exporter import Exporter, RunSource
from lossgauge.integrations.tracked import TrackedRun

FILE = "events.out.tfevents.0.lossgauge"
"""TensorBoard reads files with `tfevents` in their names."""


def import_writer() -> Any:
    """TensorBoard's record writer. Raises MissingExtra, which says how to install it."""
    try:
        import_module("tensorboard")
        return import_module("tensorboard.summary.writer.record_writer").RecordWriter
    except ImportError:
        raise MissingExtra(
            "export to tensorboard needs TensorBoard: pip install 'lossgauge[tensorboard]'"
        ) from None


def write_tensorboard(export: RunSource) -> None:
    """Writes one event file for each run into an empty folder. Scalars are float32, as in TensorBoard."""
    record_writer = import_writer()
    for run in export.runs():
        place = (export.folder or Path()) / run_folder(run)
        place.mkdir(parents=True, exist_ok=True)
        with (place / FILE).open("xb") as file:
            writer = record_writer(file)
            for event in _events(run):
                writer.write(event.SerializeToString())


def _events(run: TrackedRun) -> Iterator[Any]:
    summaries = import_module("torch.utils.tensorboard.summary")
    event = import_module("tensorboard.compat.proto.event_pb2").Event
    now = time.time()
    yield event(wall_time=now, file_version="brain.Event:2")
    settings = "\n".join(f"| {name} | {value} |" for name, value in run.config.items())
    shown = summaries.text("config", f"| setting | value |\n|---|---|\n{settings}")
    yield event(wall_time=now, step=0, summary=shown)
    last = run.epochs[-1][0] if run.epochs else 0
    for epoch, values in [*run.epochs, (last, run.summary)]:
        for name, value in values.items():
            yield event(wall_time=now, step=epoch, summary=summaries.scalar(name, value))


def run_folder(run: TrackedRun) -> Path:
    """`digits/triplet(margin=0.4)/seed-0-3f9c…`: the hash is the end of the run's id."""
    seed = f"seed-{run.tags['seed']}-" if "seed" in run.tags else ""
    names = (run.dataset, run.loss, f"{seed}{run.id.rpartition('_')[2]}")
    # no separator, no hidden name, no character that a file system refuses
    cleaned = (re.sub(r'[/\\:*?"<>|\x00-\x1f]+', "-", name).lstrip(".") for name in names)
    return Path(*(name[:200] or "-" for name in cleaned))


EXPORTER = Exporter(write=write_tensorboard, check_installed=import_writer)

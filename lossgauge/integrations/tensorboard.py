"""TensorBoard: a folder of event files a run, scalars by epoch.   https://www.tensorflow.org/tensorboard"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from lossgauge.errors import MissingExtra
from lossgauge.integrations.tracked import TrackedRun


def import_writer() -> Any:
    """torch's SummaryWriter, or MissingExtra that says how to get what it needs."""
    try:
        import_module("tensorboard")
        return import_module("torch.utils.tensorboard").SummaryWriter
    except ImportError:
        raise MissingExtra(
            "export to tensorboard needs TensorBoard: pip install 'lossgauge[tensorboard]'"
        ) from None


def write_tensorboard(runs: Iterable[TrackedRun], *, folder: Path) -> None:
    """Event files of all runs into an empty `folder`. Scalars are float32, as TensorBoard's are."""
    writer_class = import_writer()
    for run in runs:
        with writer_class(str(folder / run_folder(run))) as writer:
            settings = "\n".join(f"| {name} | {value} |" for name, value in run.config.items())
            writer.add_text("config", f"| setting | value |\n|---|---|\n{settings}", 0)
            for epoch, values in run.epochs:
                for name, value in values.items():
                    writer.add_scalar(name, value, epoch)
            last = run.epochs[-1][0] if run.epochs else 0
            for name, value in run.summary.items():
                writer.add_scalar(name, value, last)


def run_folder(run: TrackedRun) -> Path:
    """`digits/triplet(margin=0.4)/seed-0-3f9c…`: the hash is the end of the run's id."""
    names = (run.dataset, run.loss, f"seed-{run.tags['seed']}-{run.id.rpartition('_')[2]}")
    # no separator, nothing hidden, nothing that a disk refuses
    cleaned = (re.sub(r'[/\\:*?"<>|\x00-\x1f]+', "-", name).lstrip(".") for name in names)
    return Path(*(name[:200] or "-" for name in cleaned))

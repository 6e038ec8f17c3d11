"""The results of a run: the rows of its epochs, its summary, its times, and its environment."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version
from statistics import median

import torch

from lossgauge.diagnostics.greediness import compaction_epochs, decay_epochs, why_no_decay
from lossgauge.results.columns import CLOCK_COLUMNS
from lossgauge.study.schedule.run_config import RunConfig
from lossgauge.types import Record


def with_dynamics(epochs: Sequence[Record], steps: Sequence[Record]) -> list[Record]:
    """Epoch rows with the mean of each step column over the steps of the epoch; None if no step has a number."""
    by_epoch: dict[int, list[Record]] = {}
    for step in steps:
        by_epoch.setdefault(step["epoch"], []).append(step)
    return [{**row, **_means(by_epoch.get(row["epoch"], []))} for row in epochs]


def summarize(
    epochs: Sequence[Record], steps: Sequence[Record], selected: int, *, surrogate: str = ""
) -> tuple[Record, Record]:
    """The summary: geometry and retrieval of the selected epoch, means of the dynamics over training, decay and
    compaction. And the measured times, which differ between two equal runs.

    The loss before training is the loss of the first step, before its update. `surrogate` says why the value of a loss does not
    show progress; such a loss has no decay.
    """
    measured = {k: v for k, v in epochs[selected].items() if k not in ("epoch", *CLOCK_COLUMNS)}
    summary: Record = {
        "epochs": epochs[-1]["epoch"],
        "selected_epoch": selected,
        **measured,
        **{k: v for k, v in _means(steps).items() if k not in CLOCK_COLUMNS},
    }
    if not steps:
        return summary, {}
    losses = [steps[0]["loss_value"], *(row["loss_value"] for row in epochs[1:])]
    intra = [row["train_intra"] for row in epochs if row.get("train_intra") is not None]
    timing = {
        "step_milliseconds": median(row["step_milliseconds"] for row in steps),
        "probe_share": sum(row["probe_milliseconds"] for row in steps)
        / sum(row["step_milliseconds"] for row in steps),
        "seconds": sum(row["seconds"] for row in epochs[1:]),
    }
    reason = why_no_decay(losses, surrogate=surrogate)
    return {
        **summary,
        **({"no_decay": reason} if reason else {}),
        "loss_value": losses[-1],
        "decay_epochs": None if surrogate else decay_epochs(losses),
        "floor_decay_epochs": None if surrogate else decay_epochs(losses, floor=min(losses)),
        "compaction_epochs": compaction_epochs(intra) if len(intra) == len(epochs) else None,
    }, timing


def described(config: RunConfig) -> Record:
    """The part of the config that the summary repeats: the settings as text and as columns, the split and the fingerprint."""
    columns: Record = {}
    if config.is_trained:
        taken = {**config.settings, "learning_rate": config.learning_rate}
        columns = {f"setting_{name}": value for name, value in taken.items()}
    return {
        "settings": ", ".join(f"{name}={value}" for name, value in config.settings.items()),
        **columns,
        "protocol": config.protocol,
        "fingerprint": config.fingerprint,
    }


def environment(device: str = "cpu") -> Record:
    """Versions, machine and device with which the numbers were computed."""
    return {
        **{name: version(name) for name in ("lossgauge", "torch", "numpy")},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else device,
    }


def _means(rows: Sequence[Record]) -> Record:
    """Mean of each number over the rows that have it; None if no row has it."""
    means: Record = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        if name not in ("step", "epoch"):
            numbers = [row[name] for row in rows if row.get(name) is not None]
            means[name] = sum(numbers) / len(numbers) if numbers else None
    return means

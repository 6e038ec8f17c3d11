"""A run in the form that trackers need: its configuration, numbers for each epoch, and final numbers."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from lossgauge.results.columns import RUN, group_of
from lossgauge.types import Record

EPOCH = "epoch"


class TrackedRun(NamedTuple):
    """One row of a study's runs. Numbers that are not known, or not finite, are left out."""

    id: str
    """Unique in the study, and the same in every export: letters, digits, `_`, `.` and `-`."""
    name: str
    """A name for readers."""
    dataset: str
    loss: str
    """The loss as it is shown."""
    tags: dict[str, str]
    """dataset, loss, base, variant, seed [, setting, factor], and `lossgauge.run`: its folder in the study."""
    config: dict[str, str | int | float | bool]
    """Everything that the run depends on; nested names are joined with dots."""
    epochs: list[tuple[int, dict[str, float]]]
    """Numbers of each epoch, ascending, by the names that `metric_name` gives; epoch 0 is before training."""
    summary: dict[str, float]
    """`summary/…`: the numbers of the run's row, at the selected epoch; `timing/…`: the measured times."""


def track(row: Record, *, timing: Record, config: Record, epochs: list[Record]) -> TrackedRun:
    """The run of one row of the table `runs`, with its row of `timing`, its config and its rows of `epochs`."""
    columns = {name: row[name] for name in _TAGS if row.get(name) is not None}
    columns["lossgauge.run"] = row["run"]
    what = [str(row["loss"]), str(row["dataset"]), f"seed {row['seed']}"]
    return TrackedRun(
        id=tracked_id(row),
        name=", ".join(what),
        dataset=str(row["dataset"]),
        loss=str(row["loss"]),
        tags={name: str(value) for name, value in columns.items()},
        config=flat(config),
        epochs=[
            (at[EPOCH], {metric_name(k): v for k, v in numbers(at).items() if k not in _NAMES})
            for at in epochs
        ],
        summary={
            **{f"summary/{k}": v for k, v in numbers(row).items() if k not in _NAMES},
            **{f"timing/{k}": v for k, v in numbers(timing).items() if k not in _NAMES},
        },
    )


def tracked_id(row: Record) -> str:
    """The id of the run; for a variant other than `default`, with a hash of the variant and its setting.

    One run may appear twice, for example if a loss is tuned and its defaults are chosen.
    """
    if row["variant"] == "default":
        return str(row["run"])
    why = json.dumps([row.get(name) for name in ("variant", "base", "setting", "factor")])
    return f"{row['run']}-{row['variant']}-{hashlib.sha256(why.encode()).hexdigest()[:8]}"


def metric_name(column: str) -> str:
    """The column under its group: `variance/test_intra`, `retrieval/recall_at_1`, `greediness/head_gradient`."""
    return f"{group_of(column)}/{column}"


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a row, including 0; None, NaN, infinity and text are left out."""
    return {
        name: value
        for name, value in row.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str | int | float | bool]:
    """Nested settings as one level, with names joined by dots; None values are left out."""
    settings: dict[str, str | int | float | bool] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            settings |= flat(value, f"{prefix}{name}.")
        elif isinstance(value, str | int | float | bool):
            settings[f"{prefix}{name}"] = value
        elif value is not None:
            settings[f"{prefix}{name}"] = json.dumps(value)
    return settings


_TAGS = (*(name for name in RUN if name != "run"), "setting", "factor")
_NAMES = (*_TAGS, "run", EPOCH)
"""Columns that identify a row; they are not measurements."""

"""The arrays of a folder on a Ray cluster: each is measured where Ray has room, and a lost worker is replaced.

A file is read by the worker, so all workers need the folder under the same path; arrays in memory are sent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lossgauge.diagnosis.block_reader import Mapped, opened, reference
from lossgauge.diagnosis.parts import PartMeasures
from lossgauge.diagnosis.source import Source
from lossgauge.errors import LossgaugeError, MissingExtra

RETRIES = 3


def measure_on_ray(
    source: Source,
    groups: Sequence[np.ndarray],
    measure: Callable[..., PartMeasures],
    progress: Callable[[int], None],
) -> list[PartMeasures]:
    """The measures of each array of `source`, in its order; `groups` are the classes of the rows of each.

    Raises MissingExtra without ray, and the error of a worker as it is.
    """
    try:
        import ray
    except ImportError:
        raise MissingExtra("--engine ray needs Ray: pip install 'lossgauge[ray]'") from None
    started = not ray.is_initialized()
    if started:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        shared = ray.put(measure)
        task = ray.remote(max_retries=RETRIES)(_measure)
        starts = source.starts
        waiting = {
            task.remote(shared, reference(array), part, starts[number], name): number
            for number, (array, part, name) in enumerate(
                zip(source.arrays, groups, source.paths, strict=True)
            )
        }
        parts: dict[int, PartMeasures] = {}
        while waiting:
            (done,), _ = ray.wait(list(waiting))
            number = waiting.pop(done)
            try:
                parts[number] = ray.get(done)
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, LossgaugeError):
                    raise error.cause from None
                raise
            progress(len(source.arrays[number]))
        return [parts[number] for number in range(len(parts))]
    finally:
        if started:
            ray.shutdown()


def _measure(
    measure: Any, array: np.ndarray | Mapped, groups: np.ndarray, first_row: int, name: str
) -> PartMeasures:
    """In the worker."""
    found: PartMeasures = measure(
        opened(array),
        groups.copy(),
        first_row=first_row,
        where=lambda row: f"{name}, row {row - first_row}",
    )
    return found

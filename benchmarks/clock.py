"""Times of things side by side: in turns, so that a noisy minute is everybody's."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median


def side_by_side(
    works: Mapping[str, Callable[[], object]], *, turns: int = 5, seconds: float = 0.3
) -> dict[str, float]:
    """Median milliseconds of a call. All take turns; the first call of a turn is not counted.

    It finds caches and memory as another work has left them, which is no training loop's case.
    """
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(turns):
        for name, work in works.items():
            work()
            began = time.perf_counter()
            while True:
                start = time.perf_counter()
                work()
                now = time.perf_counter()
                times[name].append(1e3 * (now - start))
                if now - began > seconds:
                    break
    return {name: median(values) for name, values in times.items()}

"""What an engine is, and what it is given."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

from lossgauge.errors import InputError
from lossgauge.results.writer import Store
from lossgauge.study.run.guarded import End
from lossgauge.study.schedule.runs import Run
from lossgauge.types import FeatureSet

TRIES = 3
"""Total number of tries of a run whose worker crashes, if it makes no progress between two crashes."""


MOST_CPUS = 10_000
"""More threads of one run than any machine has; torch cannot be asked for more than fit 32 bits."""


class Resources(NamedTuple):
    """The engine of a study and its resources. They change the time of a study, not its results."""

    engine: str = "local"
    """A name of `ENGINES`. `local`: this machine, in this process or in several."""
    jobs: int | None = None
    """Runs at a time; if None, as many as the cores and the memory allow and the study needs."""
    device: str = "cpu"
    """`cpu`, or `cuda`: all jobs of a machine share one GPU, or Ray assigns them."""
    cpus: float | None = None
    """Of one run: its threads; 1 if None."""
    gpus: float = 0.0
    """Of one run, a fraction too: what Ray is asked for."""

    @property
    def threads(self) -> int:
        """Of one run."""
        return max(1, int(self.cpus or 1))


DEFAULT = Resources()
"""One thread a run, on all cores."""


class Setup(NamedTuple):
    """What an engine is opened with."""

    resources: Resources
    features: Mapping[str, FeatureSet]
    """Of each dataset."""
    store: Store
    on_epoch: Callable[[Run, int], None]
    """Called after each epoch of a run, if the engine gets a message about it."""


class Engine(ABC):
    """Does runs, several at a time. Use it in a `with` statement."""

    slots: int
    """Runs at a time."""

    @abstractmethod
    def __init__(self, setup: Setup) -> None: ...

    @staticmethod
    @abstractmethod
    def check(resources: Resources) -> None:
        """Raises InputError for a contradiction, MissingExtra for a library that is not installed, StudyError for a
        machine that does not answer."""

    @abstractmethod
    def __enter__(self) -> Engine: ...

    @abstractmethod
    def __exit__(self, *exception: object) -> None:
        """End what still runs at once: its checkpoint is what counts."""

    @abstractmethod
    def start(self, run: Run) -> None:
        """Begin a run; called for at most `slots` runs at a time."""

    @abstractmethod
    def wait(self) -> list[End]:
        """Runs that have ended, at least one; called while some have not."""


def check_numbers(resources: Resources) -> None:
    """InputError for a number that no engine can take."""
    jobs, cpus, gpus = resources.jobs, resources.cpus, resources.gpus
    if not isinstance(jobs, int | None):
        raise InputError(f"jobs must be a whole number, got {jobs!r}")
    for name, number in (("cpus", cpus), ("gpus", gpus)):
        if not isinstance(number, int | float | None):
            raise InputError(f"{name} must be a number, got {number!r}")
    if jobs is not None and jobs < 1:
        raise InputError(f"jobs must be at least 1, got {jobs}")
    if cpus is not None and not 0.01 <= cpus < math.inf:
        raise InputError(f"cpus of a run must be at least 0.01 and finite, got {cpus:g}")
    if cpus is not None and cpus > MOST_CPUS:
        raise InputError(f"cpus of a run must be at most {MOST_CPUS:,}, got {cpus:g}")
    if not 0 <= gpus <= 1 and not (1 < gpus < math.inf and gpus == int(gpus)):
        raise InputError(f"gpus of a run must be from 0 to 1, or a whole number, got {gpus:g}")
    if resources.device not in ("cpu", "cuda"):
        raise InputError(f"device must be cpu or cuda, got {resources.device!r}")


def check_local(resources: Resources) -> None:
    """InputError for what this machine does not have."""
    if resources.gpus:
        raise InputError(
            f"gpus has an effect only with engine ray, got gpus {resources.gpus:g} with engine {resources.engine}; leave "
            "gpus out: all jobs on one machine share its GPU"
        )
    if resources.device == "cuda" and not torch.cuda.is_available():
        raise InputError("device is cuda, but torch finds no GPU on this machine; use device cpu")

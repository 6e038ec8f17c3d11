"""Where runs are done: in this process, by processes beside it, or on a Ray cluster.

Results never travel through an engine. A run leaves its directory in the study's folder; an engine says only that
it ended.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import torch

from lossgauge.errors import InputError, nearest
from lossgauge.results.writer import Store
from lossgauge.study.run.guarded import End
from lossgauge.study.schedule.runs import Run
from lossgauge.types import FeatureSet

ENGINES = ("local", "ray")

TRIES = 3
"""A run whose worker dies is tried so often in all, if it gets no further between two deaths."""


class Resources(NamedTuple):
    """Who does the runs, and with what. It changes how long a study takes, not what comes out of it."""

    engine: str = "local"
    """`local`: this process, or several beside it; `ray`: a Ray cluster."""
    jobs: int = 1
    """Runs at a time."""
    device: str = "cpu"
    """`cpu`, or `cuda`: one GPU is shared by all jobs of a machine, or dealt out by Ray."""
    cpus: float | None = None
    """Of one run; the machine's shared out among the jobs if not given (of a Ray cluster: 1)."""
    gpus: float = 0.0
    """Of one run, a fraction too: what Ray is asked for."""


DEFAULT = Resources()
"""One run at a time, in this process."""


@runtime_checkable
class Engine(Protocol):
    """Something that does runs, so many at a time."""

    @property
    def slots(self) -> int: ...

    def start(self, run: Run) -> None:
        """Begin a run; called for at most `slots` runs at a time."""

    def wait(self) -> list[End]:
        """Runs that have ended, at least one; called while some have not."""
        ...


def open_engine(
    resources: Resources,
    *,
    features: Mapping[str, FeatureSet],
    store: Store,
    on_epoch: Callable[[Run, int], None],
) -> AbstractContextManager[Engine]:
    """The engine that the resources asks for, with the features of each dataset."""
    if resources.engine == "ray":
        from lossgauge.study.engines.ray_cluster import RayCluster

        return RayCluster(resources, features, store)
    if resources.jobs > 1:
        from lossgauge.study.engines.processes import Processes

        return Processes(resources, features, store, on_epoch)
    from lossgauge.study.engines.in_process import InProcess

    return InProcess(resources, features, store, on_epoch)


def check_resources(resources: Resources) -> None:
    """InputError for what cannot be or contradicts itself, MissingExtra for a library that is not installed,
    StudyError for a cluster that does not answer."""
    if resources.engine not in ENGINES:
        raise InputError(f"unknown engine {resources.engine!r}{nearest(resources.engine, ENGINES)}")
    if resources.jobs < 1:
        raise InputError(f"jobs must be at least 1, got {resources.jobs}")
    if resources.cpus is not None and not 0.01 <= resources.cpus < math.inf:
        raise InputError(f"cpus of a run must be at least 0.01 and finite, got {resources.cpus:g}")
    shared = 0 <= resources.gpus <= 1
    if not shared and not (1 < resources.gpus < math.inf and resources.gpus == int(resources.gpus)):
        raise InputError(
            f"gpus of a run must be from 0 to 1, or a whole number, got {resources.gpus:g}"
        )
    if resources.device not in ("cpu", "cuda"):
        raise InputError(f"device is cpu or cuda, got {resources.device!r}")
    if resources.gpus and resources.engine != "ray":
        raise InputError(
            "gpus of a run are dealt out by the engine ray alone; the jobs of the engine local share one GPU: "
            "take device cuda and leave gpus out"
        )
    if resources.engine == "ray":
        from lossgauge.study.engines.ray_cluster import check_answers, import_ray

        import_ray()
        if bool(resources.gpus) != (resources.device == "cuda"):
            raise InputError(
                f"on a Ray cluster device cuda and gpus go together, got device {resources.device} and gpus "
                f"{resources.gpus:g}"
            )
        check_answers()
    elif resources.device == "cuda" and not torch.cuda.is_available():
        raise InputError("torch sees no GPU here; take device cpu")


def features_file(store: Store, number: int) -> Path:
    """Where the features of a study's dataset stand for its workers."""
    return store.work / f"features-{number}.safetensors"

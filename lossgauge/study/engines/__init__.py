"""The engines that do runs, by name: this process, several processes on this machine, or a Ray cluster.

A new engine is its file and one line of `ENGINES`. Results never travel through an engine: a run leaves its directory
in the study's folder, and an engine says only that it ended.
"""

from __future__ import annotations

from importlib import import_module

from lossgauge.errors import InputError, nearest
from lossgauge.study.engines.base import DEFAULT, Engine, Resources, Setup, check_numbers

__all__ = [
    "DEFAULT",
    "ENGINES",
    "LOCAL",
    "Engine",
    "Resources",
    "Setup",
    "check_resources",
    "engine_class",
]

ENGINES = {
    "in-process": "in_process:InProcess",
    "processes": "processes:Processes",
    "ray": "ray_cluster:RayCluster",
}
"""Name → file and class."""

LOCAL = "local"
"""The name for the faster one of the first two."""


def engine_class(name: str) -> type[Engine]:
    """The class of that name; of `LOCAL`, one that checks as both do. Raises InputError for an unknown name."""
    if name not in (LOCAL, *ENGINES):
        raise InputError(f"unknown engine {name!r}{nearest(name, (LOCAL, *ENGINES))}")
    module, _, attribute = ENGINES.get(name, ENGINES["processes"]).partition(":")
    engine: type[Engine] = getattr(import_module(f"{__name__}.{module}"), attribute)
    return engine


def check_resources(resources: Resources) -> None:
    """Raises as `Engine.check`, and InputError for an unknown engine or a number out of its range."""
    engine = engine_class(resources.engine)
    check_numbers(resources)
    engine.check(resources)

"""Runs as tasks on a Ray cluster: one that is started here, or the one that RAY_ADDRESS names.

A task gets a run and a path, and leaves the run's directory in the study's folder, which all machines must share.
Ray tries a task again whose worker crashes; an error inside a run is reported as it is, and never tried again.
"""

from __future__ import annotations

import math
import os
import socket
from functools import partial
from pathlib import Path
from typing import Any

from lossgauge.errors import InputError, MissingExtra, StudyError
from lossgauge.results.writer import Store
from lossgauge.stopping import restore_handlers
from lossgauge.study.engines.base import TRIES, Engine, Resources, Setup
from lossgauge.study.engines.features_file import read_features_file, write_features_files
from lossgauge.study.run.guarded import End, failed, run_guarded
from lossgauge.study.schedule.runs import Run
from lossgauge.types import Record
from lossgauge.user_folders import some_home
from lossgauge.worker_process import THREADS

ANSWER_SECONDS = 5.0


class RayCluster(Engine):
    """The engine of a cluster."""

    def __init__(self, setup: Setup) -> None:
        self._resources, self._features, self._store = setup.resources, setup.features, setup.store
        self.slots = setup.resources.jobs or 1
        self._cpus = setup.resources.cpus or 1.0
        self._files: dict[str, Path] = {}
        self._runs: dict[Any, Run] = {}
        """By their task."""

    @staticmethod
    def check(resources: Resources) -> None:
        import_ray()
        if bool(resources.gpus) != (resources.device == "cuda"):
            raise InputError(
                "with engine ray, device cuda needs gpus above 0, and gpus needs device cuda; got device "
                f"{resources.device} and gpus {resources.gpus:g}"
            )
        check_answers()

    def __enter__(self) -> RayCluster:
        ray = import_ray()
        self._files = write_features_files(self._features, self._store)
        address = os.environ.get("RAY_ADDRESS")
        # a cluster that is started here gets the requested number of slots, independent of the machine
        own: dict[str, Any] = {} if address else {"num_cpus": math.ceil(self.slots * self._cpus)}
        try:
            with some_home():
                ray.init(
                    address=address or "local",
                    include_dashboard=None if address else False,
                    log_to_driver=False,
                    logging_level="ERROR",
                    **own,
                )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise StudyError(f"could not start Ray: {error}") from None
        restore_handlers()  # Ray sets its own for SIGTERM
        self._check_can(ray.nodes())
        threads = dict.fromkeys(THREADS, str(self._resources.threads))
        self._task = ray.remote(
            num_cpus=self._cpus,
            num_gpus=self._resources.gpus,
            max_retries=TRIES - 1,
            retry_exceptions=False,
            runtime_env={"env_vars": threads},
        )(_do)
        return self

    def __exit__(self, *exception: object) -> None:
        import_ray().shutdown()

    def _check_can(self, nodes: list[Record]) -> None:
        """StudyError where no machine has what a run asks for: Ray would wait for one."""
        asked = {"CPU": self._cpus, "GPU": self._resources.gpus}
        for node in nodes:
            has = node["Resources"]
            if node["Alive"] and all(has.get(name, 0.0) >= n for name, n in asked.items()):
                return
        import_ray().shutdown()
        raise StudyError(
            f"a run needs {self._cpus:g} CPUs and {self._resources.gpus:g} GPUs, and no machine of the Ray cluster has "
            "as many; give smaller values of --cpus and --gpus"
        )

    def start(self, run: Run) -> None:
        task = self._task.remote(
            run.as_json(),
            str(self._store.folder.absolute()),
            str(self._files[run.config.dataset]),
            str(Path.cwd()),
            self._resources.device,
        )
        self._runs[task] = run

    def wait(self) -> list[End]:
        ray = import_ray()
        # with a timeout: an interrupt has no effect inside
        ready: list[Any] = []
        while not ready:
            ready, _ = ray.wait(list(self._runs), timeout=1.0)
        return [self._end(task) for task in ready]

    def _end(self, task: Any) -> End:
        ray = import_ray()
        run = self._runs.pop(task)
        try:
            return End.from_json(run, ray.get(task))
        except ray.exceptions.RayError as error:
            if self._store.is_done(run.name):
                return End(run, self._store.summary(run.name))
            cause = type(error).__name__
            words = f"its Ray task ended by {cause}, after {TRIES} tries where a worker crashed"
            return failed(run, words, self._store, str(error), external_failure=True)


def check_answers() -> None:
    """StudyError where nothing answers at RAY_ADDRESS: Ray itself would try for minutes."""
    address = os.environ.get("RAY_ADDRESS", "")
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon or not port.isdigit():
        return  # a cluster that is started here, or `auto`
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        raise StudyError(
            f"no Ray cluster answers at {address} ({error.strerror or error}); correct RAY_ADDRESS, or unset it to start "
            "a cluster on this machine"
        ) from None


def import_ray() -> Any:
    """Ray, or MissingExtra that says how to get it."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise MissingExtra("the engine ray needs Ray: pip install 'lossgauge[ray]'") from None
    return ray


def _do(order: Record, folder: str, features: str, directory: str, device: str) -> Record:
    """One run, on any machine of the cluster; the path of a user's loss file is relative to `directory`."""
    os.chdir(directory)
    store = Store(Path(folder))
    run = Run.from_json(order)
    with store.shared_lock():
        if store.is_done(run.name):  # the last try crashed after its work
            return End(run, store.summary(run.name)).as_json()
        end = run_guarded(
            run,
            partial(read_features_file, Path(features)),
            store,
            on_epoch=lambda epoch: None,
            device=device,
        )
    return end.as_json()

"""Runs in this process, one after the other."""

from __future__ import annotations

from functools import partial

from lossgauge.study.engines.base import Engine, Resources, Setup, check_local
from lossgauge.study.run.guarded import End, run_guarded
from lossgauge.study.schedule.runs import Run


class InProcess(Engine):
    """The engine of one job."""

    slots = 1

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._run: Run | None = None

    @staticmethod
    def check(resources: Resources) -> None:
        check_local(resources)

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def start(self, run: Run) -> None:
        self._run = run

    def wait(self) -> list[End]:
        run, self._run = self._run, None
        if run is None:
            return []
        setup, dataset = self._setup, run.config.dataset
        end = run_guarded(
            run,
            lambda: setup.features[dataset],
            setup.store,
            on_epoch=partial(setup.on_epoch, run),
            device=setup.resources.device,
        )
        return [end]

"""Runs in this process, one after the other, with all its threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType

import torch

from lossgauge.results.store import Store
from lossgauge.study.engines import Resources
from lossgauge.study.run.guarded import End, run_guarded
from lossgauge.study.schedule.runs import Run
from lossgauge.types import FeatureSet


class InProcess:
    """The engine of one job."""

    slots = 1

    def __init__(
        self,
        resources: Resources,
        features: Mapping[str, FeatureSet],
        store: Store,
        on_epoch: Callable[[Run, int], None],
    ) -> None:
        self._device, self._features = resources.device, features
        if resources.cpus is not None:
            torch.set_num_threads(max(1, int(resources.cpus)))
        self._store, self._on_epoch = store, on_epoch
        self._run: Run | None = None

    def __enter__(self) -> InProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def start(self, run: Run) -> None:
        self._run = run

    def wait(self) -> list[End]:
        run, self._run = self._run, None
        if run is None:
            return []

        def on_epoch(epoch: int) -> None:
            self._on_epoch(run, epoch)

        def features() -> FeatureSet:
            return self._features[run.config.dataset]

        return [run_guarded(run, features, self._store, on_epoch=on_epoch, device=self._device)]

"""Runs in this process, one after the other, with all its threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType

import torch

from lossgauge.study.attempt import End, attempt
from lossgauge.study.engines import Workforce
from lossgauge.study.grid import Run
from lossgauge.study.store import Store
from lossgauge.types import FeatureSet


class Here:
    """The engine of one job."""

    slots = 1

    def __init__(
        self,
        workforce: Workforce,
        features: Mapping[str, FeatureSet],
        store: Store,
        on_epoch: Callable[[Run, int], None],
    ) -> None:
        self._device, self._features = workforce.device, features
        if workforce.cpus is not None:
            torch.set_num_threads(max(1, int(workforce.cpus)))
        self._store, self._on_epoch = store, on_epoch
        self._run: Run | None = None

    def __enter__(self) -> Here:
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
            return self._features[run.config["dataset"]]

        return [attempt(run, features, self._store, on_epoch=on_epoch, device=self._device)]

"""One run with its failures caught: it is done, or it is recorded as failed, and the other runs continue."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from safetensors import SafetensorError

from lossgauge.errors import CacheError, LossgaugeError
from lossgauge.files import AGAIN
from lossgauge.results.writer import Store
from lossgauge.study.run.execute import execute
from lossgauge.study.schedule.runs import Run
from lossgauge.types import FeatureSet, Record


class End(NamedTuple):
    """How a run ended."""

    run: Run
    summary: Record
    """Empty if it failed."""
    error: str | None = None
    external_failure: bool = False
    """Whether the cause seems to be outside the run: a full disk, a killed worker."""
    notes: Sequence[str] = ()
    """One line for each damaged checkpoint that was skipped."""

    def as_json(self) -> Record:
        """All but the run, for a process that knows the run: `from_json` is the way back."""
        return {name: value for name, value in self._asdict().items() if name != "run"}

    @classmethod
    def from_json(cls, run: Run, record: Record) -> End:
        return cls(run, **record)


def run_guarded(
    run: Run,
    features: Callable[[], FeatureSet],
    store: Store,
    *,
    on_epoch: Callable[[int], None],
    device: str = "cpu",
) -> End:
    """Do a run. Any failure, also in a user's loss, is recorded in the store and returned, never raised."""
    notes: list[str] = []
    try:
        rows = features()
        while True:
            try:
                summary = execute(run, rows, store, on_epoch=on_epoch, device=device)
                return End(run, summary, notes=notes)
            except CacheError as error:
                notes.append(_without_damaged_checkpoint(run, store, error))
    except (Exception, SystemExit) as error:
        message = (
            str(error) if isinstance(error, LossgaugeError) else f"{type(error).__name__}: {error}"
        )
        # a full disk or memory says nothing about the run or its checkpoint
        external_failure = isinstance(
            error, OSError | MemoryError | torch.OutOfMemoryError | SafetensorError
        )
        end = failed(run, message, store, traceback.format_exc(), external_failure=external_failure)
        return end._replace(notes=notes)


def _without_damaged_checkpoint(run: Run, store: Store, error: CacheError) -> str:
    """Delete the last checkpoint, which is damaged, and return a line about it. Re-raises if no deletion helps."""
    if (checkpoint := store.checkpoint(run.name)) is None:
        raise error
    store.discard_checkpoint(run.name, checkpoint)
    older = store.checkpoint(run.name)
    if older == checkpoint:  # it cannot be deleted
        raise error
    start = "its start" if older is None else f"its checkpoint of epoch {older.name}"
    return f"{str(error).removesuffix(AGAIN)}the run continues from {start}"


def failed(run: Run, message: str, store: Store, trace: str, *, external_failure: bool) -> End:
    """Record a failure and return it; if it cannot be recorded, the message says so too.

    The checkpoint stays if the cause lies outside the run.
    """
    try:
        record = {"error": message, "traceback": trace}
        store.fail(run.name, record, keep_checkpoint=external_failure)
    except LossgaugeError as error:
        message = f"{message} (and {error})"
    return End(run, {}, message, external_failure)

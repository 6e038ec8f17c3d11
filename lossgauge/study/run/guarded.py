"""One run, whatever becomes of it: done, or failed with its reason set down, so that the others go on."""

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
    """What became of a run."""

    run: Run
    summary: Record
    """Empty where it failed."""
    error: str | None = None
    external_failure: bool = False
    """Whether it failed by no fault of its own, as far as can be told: a full disk, a worker that was killed."""
    notes: Sequence[str] = ()
    """A line for each damaged checkpoint that it did without."""

    def as_json(self) -> Record:
        """All but the run, for the process that knows it: `End(run, **...)` is the way back."""
        return {name: value for name, value in self._asdict().items() if name != "run"}


def run_guarded(
    run: Run,
    features: Callable[[], FeatureSet],
    store: Store,
    *,
    on_epoch: Callable[[int], None],
    device: str = "cpu",
) -> End:
    """Do a run. Any failure of it, a user's loss included, is kept in the store and told, never raised."""

    notes: list[str] = []
    try:
        rows = features()
        while True:
            try:
                summary = execute(run, rows, store, on_epoch=on_epoch, device=device)
                return End(run, summary, notes=notes)
            except CacheError as error:
                # a damaged checkpoint costs the work in it, not the run
                if (checkpoint := store.checkpoint(run.name)) is None:
                    raise
                store.discard_checkpoint(run.name, checkpoint)
                older = store.checkpoint(run.name)
                if older == checkpoint:  # it cannot be deleted
                    raise
                again = "its start" if older is None else f"its checkpoint of epoch {older.name}"
                notes.append(f"{str(error).removesuffix(AGAIN)}the run goes on from {again}")
    except (Exception, SystemExit) as error:
        words = (
            str(error) if isinstance(error, LossgaugeError) else f"{type(error).__name__}: {error}"
        )
        # a full disk or memory says nothing against the run or its checkpoint
        external_failure = isinstance(
            error, OSError | MemoryError | torch.OutOfMemoryError | SafetensorError
        )
        end = failed(run, words, store, traceback.format_exc(), external_failure=external_failure)
        return end._replace(notes=notes)


def failed(run: Run, words: str, store: Store, trace: str, *, external_failure: bool) -> End:
    """Set a failure down, and tell it; where not even that can be written, it is told alone.

    A checkpoint stays where the cause lies outside.
    """
    try:
        record = {"error": words, "traceback": trace}
        store.fail(run.name, record, keep_checkpoint=external_failure)
    except LossgaugeError as error:
        words = f"{words} (and {error})"
    return End(run, {}, words, external_failure)

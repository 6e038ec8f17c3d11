"""One run: a loss on a dataset from a seed. Set up, train, measure, save, publish."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

from safetensors.torch import save
from torch import Tensor

from lossgauge.errors import InputError, RunError
from lossgauge.losses.surrogate import why_surrogate
from lossgauge.results.layout import HEAD, HEADS
from lossgauge.results.records import too_large
from lossgauge.results.writer import Store
from lossgauge.study.run.checkpoint import Checkpoints
from lossgauge.study.run.measure import Measurement, measure, queries_of
from lossgauge.study.run.run_log import RunLog, by_epoch, state_of
from lossgauge.study.run.setup import Setup, set_up
from lossgauge.study.run.summary import described, environment, summarize, with_dynamics
from lossgauge.study.schedule.code_hash import code_of
from lossgauge.study.schedule.run_config import RunConfig
from lossgauge.study.schedule.runs import Run
from lossgauge.training import memory_drift, seeded, train_epoch, train_pairs_epoch
from lossgauge.types import FeatureSet, Record


def _checkpoint_seconds() -> float:
    value = os.environ.get("LOSSGAUGE_CHECKPOINT_SECONDS", "5")
    try:
        return float(value)
    except ValueError:
        raise InputError(f"LOSSGAUGE_CHECKPOINT_SECONDS must be a number, got {value!r}") from None


CHECKPOINT_SECONDS = _checkpoint_seconds()
"""A run that is stopped loses at most this much work, and one epoch."""


def execute(
    run: Run,
    features: FeatureSet,
    store: Store,
    *,
    on_epoch: Callable[[int], None],
    device: str = "cpu",
) -> Record:
    """Do the run, from its last checkpoint if there is one; publish it, and return its summary.

    On another `device` than the CPU the head trains there; everything is measured on the CPU.
    """
    config = run.config
    setup = set_up(run, features, device)
    check_code(config)
    log, checkpoints = RunLog(), Checkpoints(store, run.name)
    checkpoints.resume(setup.training, log)
    measured = None if log.epochs else _measure_epoch(config, setup, log)
    saved = time.monotonic()
    while setup.training.epoch < config.epochs:
        began = time.perf_counter()
        _train_epoch(config, setup, log)
        latest = _measure_epoch(config, setup, log, seconds=time.perf_counter() - began)
        if config.selects_by is None or log.best_epoch == setup.training.epoch:
            measured = latest
        on_epoch(setup.training.epoch)
        due = time.monotonic() - saved > CHECKPOINT_SECONDS
        if due and setup.training.epoch < config.epochs:
            checkpoints.save(setup.training, log)
            saved = time.monotonic()
    return _publish(run, setup, log, measured, store, device)


def check_code(config: RunConfig) -> None:
    """RunError if the code is not the one that the config was made with."""
    if code_of(config.loss, dataset=config.source, backbone=config.backbone) != config.code:
        raise RunError(
            "the loss file or lossgauge itself has changed since the study started; run the same command again"
        )


def _train_epoch(config: RunConfig, setup: Setup, log: RunLog) -> None:
    """One pass over the batches of the next epoch."""
    epoch, features = setup.training.epoch + 1, setup.features.features
    batches = [rows.to(features.device) for rows in setup.batches(epoch)]
    pair_batches = setup.pair_batches(epoch)
    log.start_clock()
    # a loss may draw at random (mining, dropout): from seed and epoch, so that a resumed run draws the same
    with seeded(config.seed * 1_000_003 + epoch):
        if setup.features.pairs is None:
            train_epoch(setup.training, features, setup.class_numbers, batches, on_step=log.take)
        else:
            train_pairs_epoch(
                setup.training,
                features,
                pair_batches,
                documents=setup.documents,
                on_step=log.take,
            )
    log.stop_clock()


def _measure_epoch(
    config: RunConfig, setup: Setup, log: RunLog, *, seconds: float | None = None
) -> Measurement | None:
    """Measure the head as the config says of this epoch, and add the epoch's row to the log."""
    epoch, head = setup.training.epoch, setup.training.head
    row: Record = {"epoch": epoch} if seconds is None else {"epoch": epoch, "seconds": seconds}
    measured = None
    if config.measures_geometry(epoch):
        with_retrieval = config.measures_retrieval(epoch)
        # the queries of the last epoch, if that counts; of another one only when it is known
        is_last = epoch == config.epochs and config.measured_on == "test"
        with_queries = is_last and config.selects_by is None
        measured = measure(
            *(head, setup.features),
            documents=setup.documents,
            with_retrieval=with_retrieval,
            with_queries=with_queries,
        )
        row |= measured.row
    if config.memory is not None:
        row["memory_drift"] = memory_drift(setup.training, setup.features.features)
    log.add_epoch(
        row,
        head,
        selects_by=config.selects_by,
        start_counts=config.start_counts,
        keeps_head=config.keeps_head(epoch),
    )
    return measured


def _publish(
    run: Run,
    setup: Setup,
    log: RunLog,
    measured: Measurement | None,
    store: Store,
    device: str,
) -> Record:
    """Write the finished run into the study's folder. Returns its summary.

    `measured` is of the selected epoch; None if the run has been stopped since then.
    """
    config, head = run.config, setup.training.head
    log.probe.finish()
    steps = log.steps
    rows = with_dynamics(log.epochs, steps)
    selected = log.best_epoch if config.selects_by is not None else config.epochs
    if selected != config.epochs:
        head.load_state_dict(log.best_head)
    is_trial = config.measured_on == "validation"
    if measured is None:
        measured = measure(head, setup.features, documents=setup.documents, with_retrieval=False)
    queries = measured.queries
    if queries is None and not is_trial:
        queries = queries_of(head, setup.features, documents=setup.documents)
    summary, timing = summarize(rows, steps, selected, surrogate=why_surrogate(setup.training.loss))
    summary |= described(config)
    for row in (summary, *rows):
        if (column := too_large(row)) is not None:
            raise RunError(
                f"{column} is {row[column]:.3g}, which is too large for a report; try a lower learning_rate"
            )
    store.publish(
        run.name,
        records={
            "config": config.as_json(),
            "summary": summary,
            "timing": timing,
            "environment": environment(device),
        },
        tables={
            "epochs": rows,
            "steps": steps,
            "classes": measured.classes,
            "queries": [] if is_trial else queries,
        },
        files={} if is_trial else _heads(state_of(head), by_epoch(log.kept_heads)),
    )
    return {**run.columns, **summary, **timing}


def _heads(selected: Mapping[str, Tensor], kept: Mapping[str, Tensor]) -> dict[str, bytes]:
    """The files of the selected head, and of those of some epochs if there are any."""
    files = {HEAD: selected, HEADS: kept} if kept else {HEAD: selected}
    return {
        name: save({key: tensor.cpu() for key, tensor in tensors.items()})
        for name, tensors in files.items()
    }

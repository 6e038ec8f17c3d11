"""One run: one loss on one dataset from one seed, with its probe, its checkpoints and its summary."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from lossgauge.data.samplers import (
    kmeans_cells,
    m_per_class_batches,
    positions_along_strata,
    random_batches,
    stratified_batches,
)
from lossgauge.diagnostics.greediness import compaction_epochs, decay_epochs
from lossgauge.diagnostics.probe import Probe
from lossgauge.errors import InputError, RunError
from lossgauge.files import damaged
from lossgauge.heads import LinearHead, MLPHead
from lossgauge.losses.registry import loss_maker
from lossgauge.plan.loss import UNTRAINED
from lossgauge.results.records import too_large
from lossgauge.results.store import TIMING, Store
from lossgauge.study.run.measure import class_rows, measure
from lossgauge.study.run.run_log import SELECTORS, RunLog
from lossgauge.study.schedule.code_hash import code_of
from lossgauge.study.schedule.runs import Run, as_measured
from lossgauge.training import (
    Training,
    load_checkpoint,
    save_checkpoint,
    scheduled,
    seeded,
    start_training,
    train_epoch,
)
from lossgauge.types import FeatureSet, Record


def _checkpoint_seconds() -> float:
    told = os.environ.get("LOSSGAUGE_CHECKPOINT_SECONDS", "5")
    try:
        return float(told)
    except ValueError:
        raise InputError(f"LOSSGAUGE_CHECKPOINT_SECONDS must be a number, got {told!r}") from None


CHECKPOINT_SECONDS = _checkpoint_seconds()
"""At most so much work is lost when a run is stopped, plus one epoch."""

KMEANS_CELLS = 64
"""Strata of `stratified_kmeans`: our choice."""


def execute(
    run: Run,
    features: FeatureSet,
    store: Store,
    *,
    on_epoch: Callable[[int], None],
    device: str = "cpu",
) -> Record:
    """Do the run, from its last checkpoint if there is one, publish it, and return its summary.

    On another `device` than a CPU the head trains there; what is measured is measured on the CPU.
    """
    config = run.config
    features = as_measured(features, config)
    epochs = config["epochs"]
    training = start_run(run, features, device)
    if code_of(run.loss.name) != config["code"]:
        raise RunError(
            "the loss's file, or this program, has changed since the study began; start the same command again"
        )
    draw = sampler(config, features, seed=run.seed)
    # classes by number, as losses with a row a class want them
    classes = features.labels[features.train].unique()
    numbers = torch.searchsorted(classes, features.labels.contiguous()).to(device)
    features = features._replace(features=features.features.to(device))
    log = RunLog(Probe())
    checkpoint = store.checkpoint(run.name)
    if checkpoint is None:
        store.discard_checkpoint(run.name)  # step rows of a checkpoint that never came
    else:
        _resume(training, log, store, checkpoint)
    if not log.epochs:
        log.epochs.append({"epoch": 0, **measure(training.head, features, with_retrieval=True)})
    saved = time.monotonic()
    while training.epoch < epochs:
        began = time.perf_counter()
        epoch = training.epoch + 1
        batches = [rows.to(device) for rows in draw(epoch)]
        log.start_clock()
        # a loss may draw at random (mining, dropout): from seed and epoch, so that a resumed run draws the same
        with seeded(run.seed * 1_000_003 + epoch):
            train_epoch(training, features.features, numbers, batches, on_step=log.take)
        log.stop_clock()
        seconds = time.perf_counter() - began
        row: Record = {"epoch": epoch, "seconds": seconds}
        with_retrieval = epoch % config["retrieval_every"] == 0 or epoch == epochs
        # a trial is asked for no curves
        if with_retrieval or config["measured_on"] == "test":
            row |= measure(training.head, features, with_retrieval=with_retrieval)
        log.epochs.append(row)
        log.keep_if_best(training.head, config)
        on_epoch(epoch)
        if time.monotonic() - saved > CHECKPOINT_SECONDS and epoch < epochs:
            with store.new_checkpoint(run.name, epoch) as folder:
                save_checkpoint(training, folder)
                log.save(folder)
            saved = time.monotonic()
    log.probe.finish()
    steps = log.steps
    rows = with_dynamics(log.epochs, steps)
    selected = log.best_epoch if config["selection"] in SELECTORS else epochs
    if selected != epochs:
        training.head.load_state_dict(log.best_head)
    summary, timing = summarize(rows, steps, selected)
    given = {**config["settings"], "learning_rate": config["learning_rate"]}
    summary |= {
        "settings": ", ".join(f"{key}={value}" for key, value in config["settings"].items()),
        **{f"setting_{k}": v for k, v in given.items() if run.loss.name != UNTRAINED},
        "protocol": features.protocol,
        "fingerprint": features.fingerprint,
    }
    for row in (summary, *rows):
        if (column := too_large(row)) is not None:
            raise RunError(
                f"{column} is {row[column]:.3g}, which no report can show; try a lower learning_rate"
            )
    store.publish(
        run.name,
        records={
            "config": config,
            "summary": summary,
            "timing": timing,
            "environment": environment(device),
        },
        tables={
            "epochs": rows,
            "steps": steps,
            "classes": class_rows(training.head, features),
        },
    )
    return {**run.columns, **summary, **timing}


def _resume(training: Training, log: RunLog, store: Store, checkpoint: Path) -> None:
    """Put a checkpoint's state into a fresh run. Raises CacheError where any part of it is damaged."""
    store.check_checkpoint(checkpoint)
    load_checkpoint(training, checkpoint)
    if training.epoch != int(checkpoint.name):
        raise damaged(checkpoint, f"it is of epoch {training.epoch}")
    log.load(checkpoint, epoch=training.epoch, step_count=training.step)


def start_run(run: Run, features: FeatureSet, device: str = "cpu") -> Training:
    """The head, the loss and the optimiser of a run before its first step."""
    config, width = run.config, features.features.shape[1]

    def make_head() -> nn.Module:
        if config["head"] == "mlp":
            return MLPHead(width, config["embedding_size"], hidden_size=config["hidden_size"])
        return LinearHead(width, config["embedding_size"])

    make_loss: Callable[[], Any] = nn.Module
    if run.loss.name != UNTRAINED:
        make_loss = loss_maker(
            run.loss.name,
            run.loss.fixed,
            class_count=len(features.labels[features.train].unique()),
            embedding_size=config["embedding_size"],
        )
    return start_training(
        seed=run.seed,
        make_head=make_head,
        make_loss=make_loss,
        optimizer=config["optimizer"] or "adam",
        schedule=scheduled(
            config["schedule"],
            learning_rate=config["learning_rate"],
            epochs=config["epochs"],
            warmup_epochs=config["warmup_epochs"],
        ),
        weight_decay=config["weight_decay"],
        momentum=config["momentum"],
        device=device,
    )


def sampler(config: Record, features: FeatureSet, *, seed: int) -> Callable[[int], list[Tensor]]:
    """The batches of an epoch, by its number. Raises InputError where they cannot be drawn as the config says."""
    rows = features.train
    settings: dict[str, Any] = {"batch_size": config["batch_size"], "seed": seed}
    kind, labels = config["sampler"], features.labels[features.train]
    if kind == "m_per_class":
        settings |= {key: config[key] for key in ("samples_per_class", "small_classes")}
        return lambda epoch: m_per_class_batches(rows, labels, epoch=epoch, **settings)
    if kind == "stratified":
        return lambda epoch: stratified_batches(rows, labels, epoch=epoch, **settings)
    if kind == "stratified_kmeans":
        space = features.features[rows]
        cells = kmeans_cells(space, min(KMEANS_CELLS, len(rows)), seed)
        positions = positions_along_strata(space, cells)
        return lambda epoch: stratified_batches(
            rows, cells, positions=positions, epoch=epoch, **settings
        )
    return lambda epoch: random_batches(rows, epoch=epoch, **settings)


def with_dynamics(epochs: Sequence[Record], steps: Sequence[Record]) -> list[Record]:
    """Epoch rows with the mean of each step column over the epoch's steps, where it is known."""
    by_epoch: dict[int, list[Record]] = {}
    for step in steps:
        by_epoch.setdefault(step["epoch"], []).append(step)
    return [{**row, **_means(by_epoch.get(row["epoch"], []))} for row in epochs]


def summarize(
    epochs: Sequence[Record], steps: Sequence[Record], selected: int
) -> tuple[Record, Record]:
    """Geometry and retrieval of the selected epoch, the dynamics' mean over training, decay and compaction; and
    what the clock said, which no two runs have in common.

    The loss before training is taken on the first step, before its update.
    """
    known = {k: v for k, v in epochs[selected].items() if k not in ("epoch", *TIMING)}
    summary: Record = {
        "epochs": epochs[-1]["epoch"],
        "selected_epoch": selected,
        **known,
        **{k: v for k, v in _means(steps).items() if k not in TIMING},
    }
    if not steps:
        return summary, {}
    losses = [steps[0]["loss_value"], *(row["loss_value"] for row in epochs[1:])]
    intra = [row["train_intra"] for row in epochs if row.get("train_intra") is not None]
    timing = {
        "step_milliseconds": median(row["step_milliseconds"] for row in steps),
        "probe_share": sum(row["probe_milliseconds"] for row in steps)
        / sum(row["step_milliseconds"] for row in steps),
        "seconds": sum(row["seconds"] for row in epochs[1:]),
    }
    return {
        **summary,
        "loss_value": losses[-1],
        "decay_epochs": decay_epochs(losses),
        "floor_decay_epochs": decay_epochs(losses, floor=min(losses)),
        "compaction_epochs": compaction_epochs(intra) if len(intra) == len(epochs) else None,
    }, timing


def environment(device: str = "cpu") -> Record:
    """What the numbers were made with."""
    return {
        **{name: version(name) for name in ("lossgauge", "torch", "numpy")},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else device,
    }


def _means(rows: Sequence[Record]) -> Record:
    """Mean of each number over the rows that know it; None where none does."""
    means: Record = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        if name not in ("step", "epoch"):
            known = [row[name] for row in rows if row.get(name) is not None]
            means[name] = sum(known) / len(known) if known else None
    return means

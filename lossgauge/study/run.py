"""One run: one loss on one dataset from one seed, with its probe, its checkpoints and its summary."""

from __future__ import annotations

import hashlib
import inspect
import json
import platform
import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
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
from lossgauge.errors import CacheError
from lossgauge.losses import load_loss, loss_class
from lossgauge.study.measure import class_rows, measure
from lossgauge.study.plan import UNTRAINED, LossPlan, Plan
from lossgauge.study.store import SCHEMA, Store, read_rows, write_rows
from lossgauge.training import load_checkpoint, save_checkpoint, start_training, train_epoch
from lossgauge.types import FeatureSet, Record, Step

CHECKPOINT_SECONDS = 5.0
"""At most so much work is lost when a run is stopped, plus one epoch."""

KMEANS_CELLS = 64
"""Strata of `stratified_kmeans`: our choice."""


class Run(NamedTuple):
    """What a run depends on, and its name: readable, and ending in the hash of all of it."""

    name: str
    loss: LossPlan
    seed: int
    config: Record

    @property
    def columns(self) -> Record:
        """The columns that tell a run's rows from another's."""
        return {
            "run": self.name,
            "dataset": self.config["dataset"],
            "loss": self.loss.title,
            "seed": self.seed,
        }


def plan_runs(plan: Plan, features: FeatureSet) -> list[Run]:
    """The runs of one dataset: every loss and the untrained baseline, with every seed."""
    losses = [LossPlan(name=UNTRAINED), *plan.losses]
    return [_plan_run(plan, features, loss, seed) for loss in losses for seed in plan.seeds]


def execute(
    run: Run, features: FeatureSet, store: Store, *, on_epoch: Callable[[int], None]
) -> Record:
    """Do the run, from its last checkpoint if there is one, publish it, and return its summary."""
    config = run.config
    epochs = config["epochs"]
    training = start_training(
        width=features.features.shape[1],
        embedding_size=config["embedding_size"],
        learning_rate=config["learning_rate"],
        seed=run.seed,
        make_loss=partial(_make_loss, run.loss, features, config),
    )
    probe = Probe()
    log = _Log(probe)
    checkpoint = store.checkpoint(run.name)
    if checkpoint is not None:
        load_checkpoint(training, checkpoint)
        log.load(checkpoint)
    if not log.epochs:
        log.epochs.append({"epoch": 0, **measure(training.head, features, with_retrieval=True)})
    # classes by number, as losses with a row a class want them
    classes = features.labels[features.train].unique()
    numbers = torch.searchsorted(classes, features.labels.contiguous())
    draw = sampler(config, features, seed=run.seed)
    saved = time.monotonic()
    while training.epoch < epochs:
        began = time.perf_counter()
        epoch = training.epoch + 1
        batches = draw(epoch)
        log.start_clock()
        # a loss may draw at random (mining, dropout): from seed and epoch, so that a resumed run draws the same
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.seed * 1_000_003 + epoch)
            train_epoch(training, features.features, numbers, batches, on_step=log.take)
        log.stop_clock()
        seconds = time.perf_counter() - began
        with_retrieval = epoch % config["retrieval_every"] == 0 or epoch == epochs
        row = {
            "epoch": epoch,
            "seconds": seconds,
            **measure(training.head, features, with_retrieval=with_retrieval),
        }
        log.epochs.append(row)
        on_epoch(epoch)
        if time.monotonic() - saved > CHECKPOINT_SECONDS and epoch < epochs:
            with store.new_checkpoint(run.name, epoch) as folder:
                save_checkpoint(training, folder)
                log.save(folder)
            saved = time.monotonic()
    probe.finish()
    steps = log.steps
    rows = with_dynamics(log.epochs, steps)
    summary = {
        **run.columns,
        **summarize(rows, steps),
        "settings": ", ".join(f"{key}={value}" for key, value in config["settings"].items()),
        "fingerprint": features.fingerprint,
    }
    store.publish(
        run.name,
        records={"config": config, "summary": summary, "environment": environment()},
        tables={
            "epochs": rows,
            "steps": steps,
            "classes": class_rows(training.head, features),
        },
    )
    return summary


def sampler(config: Record, features: FeatureSet, *, seed: int) -> Callable[[int], list[Tensor]]:
    """The batches of an epoch, by its number. Raises InputError where they cannot be drawn as the config says."""
    rows, settings = features.train, {"batch_size": config["batch_size"], "seed": seed}
    kind, labels = config["sampler"], features.labels[features.train]
    if kind == "m_per_class":
        m = config["samples_per_class"]
        return lambda epoch: m_per_class_batches(rows, labels, m=m, epoch=epoch, **settings)
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


def summarize(epochs: Sequence[Record], steps: Sequence[Record]) -> Record:
    """The last epoch's geometry and retrieval, the dynamics' mean over training, decay and compaction.

    The loss before training is taken on the first step, before its update.
    """
    last = {key: value for key, value in epochs[-1].items() if key not in ("epoch", "seconds")}
    summary: Record = {"epochs": epochs[-1]["epoch"], **last, **_means(steps)}
    if not steps:
        return summary
    losses = [steps[0]["loss_value"], *(row["loss_value"] for row in epochs[1:])]
    intra = [row["train_intra"] for row in epochs]
    return {
        **summary,
        "loss_value": losses[-1],
        "decay_epochs": decay_epochs(losses),
        "floor_decay_epochs": decay_epochs(losses, floor=min(losses)),
        "compaction_epochs": compaction_epochs(intra),
        "step_milliseconds": median(row["step_milliseconds"] for row in steps),
        "probe_share": sum(row["probe_milliseconds"] for row in steps)
        / sum(row["step_milliseconds"] for row in steps),
        "seconds": sum(row["seconds"] for row in epochs[1:]),
    }


def environment() -> Record:
    """What the numbers were made with."""
    return {
        **{name: version(name) for name in ("lossgauge", "torch", "numpy")},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "threads": torch.get_num_threads(),
    }


class _Log:
    """Rows of a run so far: the probe's steps, timed, and the epochs."""

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self.epochs: list[Record] = []
        self.times: list[Record] = []
        self.last = 0.0

    @property
    def steps(self) -> list[Record]:
        return [{**row, **times} for row, times in zip(self.probe.rows, self.times, strict=True)]

    def start_clock(self) -> None:
        """Begin to time steps: what came since the last one was no step."""
        self.last = time.perf_counter()

    def stop_clock(self) -> None:
        """The probe works off what it has kept: a part of the last step."""
        began = time.perf_counter()
        _ = self.probe.rows
        spent = 1e3 * (time.perf_counter() - began)
        for column in self.times[-1]:
            self.times[-1][column] += spent

    def take(self, step: Step) -> None:
        began = time.perf_counter()
        self.probe(step)
        now = time.perf_counter()
        self.times.append(
            {
                "step_milliseconds": 1e3 * (now - self.last),
                "probe_milliseconds": 1e3 * (now - began),
            }
        )
        self.last = now

    def save(self, folder: Path) -> None:
        write_rows(folder / "epochs.parquet", self.epochs)
        write_rows(folder / "steps.parquet", self.steps)
        save_file(self.probe.state(), folder / "probe.safetensors")

    def load(self, folder: Path) -> None:
        self.epochs = read_rows(folder / "epochs.parquet")
        steps = read_rows(folder / "steps.parquet")
        timed = ("step_milliseconds", "probe_milliseconds")
        self.times = [{column: step.pop(column) for column in timed} for step in steps]
        try:
            self.probe.resume(steps, load_file(folder / "probe.safetensors"))
        except (OSError, SafetensorError) as error:
            raise CacheError(f"the checkpoint in {folder} cannot be read: {error}") from None


def _plan_run(plan: Plan, features: FeatureSet, loss: LossPlan, seed: int) -> Run:
    trained = loss.name != UNTRAINED
    config: Record = {
        "schema": SCHEMA,
        "lossgauge": version("lossgauge"),
        "dataset": features.dataset,
        "protocol": features.protocol,
        "fingerprint": features.fingerprint,
        "backbone": features.backbone,
        "features": dict(features.identity),
        "loss": loss.name,
        "settings": _settings(loss) if trained else {},
        "loss_file": _file_digest(loss.name),
        "seed": seed,
        "embedding_size": plan.embedding_size,
        # the baseline is the same whatever the training
        "epochs": plan.epochs if trained else 0,
        "batch_size": plan.batch_size if trained else None,
        "sampler": plan.sampler if trained else None,
        "samples_per_class": plan.samples_per_class if plan.sampler == "m_per_class" else None,
        "learning_rate": plan.learning_rate if trained else 0.0,
        "retrieval_every": plan.retrieval_every if trained else None,
    }
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:10]
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{features.dataset}_{Path(loss.name).name}_{seed}")
    return Run(f"{readable}_{digest}", loss, seed, config)


def _settings(loss: LossPlan) -> Record:
    """Every setting of a loss, defaults too: a changed default makes another run."""
    parameters = inspect.signature(loss_class(loss.name)).parameters.values()
    defaults = {p.name: p.default for p in parameters if isinstance(p.default, str | int | float)}
    return {**defaults, **loss.settings}


def _file_digest(loss: str) -> str | None:
    path = Path(loss.rpartition(":")[0])
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _make_loss(loss: LossPlan, features: FeatureSet, config: Record) -> nn.Module:
    """The loss, told the number of classes and the width where it asks for them."""
    if loss.name == UNTRAINED:
        return nn.Module()
    given = {
        "class_count": len(features.labels[features.train].unique()),
        "embedding_size": config["embedding_size"],
    }
    asked = inspect.signature(loss_class(loss.name)).parameters
    return load_loss(
        loss.name, **{**{k: v for k, v in given.items() if k in asked}, **loss.settings}
    )


def _means(rows: Sequence[Record]) -> Record:
    """Mean of each number over the rows that know it; None where none does."""
    means: Record = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        if name not in ("step", "epoch"):
            known = [row[name] for row in rows if row.get(name) is not None]
            means[name] = sum(known) / len(known) if known else None
    return means

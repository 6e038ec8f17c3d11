"""A training step of `lossgauge study paper`: 60,000 x 1280 features, a linear head to 128, batch 512, 10 classes, Adam.

The floor is its matrix products alone: head forward and backward, and three batch × batch ones.
"""

from __future__ import annotations

import time
from collections import defaultdict
from itertools import pairwise
from statistics import median
from typing import Any

import torch

from benchmarks.clock import side_by_side
from lossgauge.diagnostics.probe import Probe
from lossgauge.heads import LinearHead
from lossgauge.losses.registry import LOSSES, load_loss
from lossgauge.training import evaluate, scheduled, start_training, train_epoch
from lossgauge.types import Step

ROWS, WIDTH, SIZE, BATCH, CLASSES = 60_000, 1280, 128, 512, 10


def measure() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(ROWS, WIDTH, generator=generator)
    labels = torch.randint(0, CLASSES, (ROWS,), generator=generator)
    batches = list(torch.randperm(ROWS, generator=generator).split(BATCH))[:-1]
    floor = side_by_side({"floor": _products})["floor"]
    print(f"\na step, milliseconds (floor {floor:.2f}: its products)")
    print(f"  {'loss':12} {'median':>7} {'/ floor':>8} {'probe':>7}   of which")
    found: dict[str, Any] = {"floor": floor}
    for name in LOSSES:
        found[name] = _steps(name, features, labels, batches)
        found[name]["over_floor"] = found[name]["step"] / floor
        parts = ", ".join(f"{part} {time:.2f}" for part, time in found[name]["profile"].items())
        print(
            f"  {name:12} {found[name]['step']:7.2f} {found[name]['over_floor']:8.2f}"
            f" {found[name]['probe_share']:7.1%}   {parts}",
            flush=True,
        )
    found["median"] = median(found[name]["step"] for name in LOSSES)
    print(f"  median over losses: {found['median']:.2f}", flush=True)
    return found


def _steps(name: str, features: Any, labels: Any, batches: list[Any]) -> dict[str, Any]:
    sizes = {"class_count": CLASSES, "embedding_size": SIZE} if name in ("arcface", "ccl") else {}

    def start() -> Any:
        return start_training(
            seed=0,
            make_head=lambda: LinearHead(WIDTH, SIZE),
            schedule=scheduled("constant", learning_rate=1e-4, epochs=1),
            make_loss=lambda: load_loss(name, **sizes),
        )  # fmt: skip

    training, probe = start(), Probe()
    spent, ends = [], []

    def timed(step: Step) -> None:
        began = time.perf_counter()
        probe(step)
        ends.append(time.perf_counter())
        spent.append(ends[-1] - began)

    train_epoch(training, features, labels, batches, on_step=timed)
    began = time.perf_counter()
    _ = probe.rows  # what it has kept is worked off now
    spent.append(time.perf_counter() - began)
    times = [1e3 * (b - a) for a, b in pairwise(ends)]
    return {
        "step": median(times),
        "probe_share": sum(spent) / (ends[-1] - ends[0] + spent[-1]),
        "profile": _profile(start(), features, labels, batches),
    }


def _profile(training: Any, features: Any, labels: Any, batches: list[Any]) -> dict[str, float]:
    """Where a step's time goes: the same calls as `train_epoch`, one by one."""
    parts: dict[str, list[float]] = defaultdict(list)
    for rows in batches:
        marks = [time.perf_counter()]
        batch, of = features.index_select(0, rows), labels[rows]
        marks.append(time.perf_counter())
        embeddings = training.head(batch)
        embeddings.retain_grad()
        marks.append(time.perf_counter())
        evaluation = evaluate(training.loss, embeddings, of)
        marks.append(time.perf_counter())
        training.optimizer.zero_grad()
        evaluation.value.backward()
        marks.append(time.perf_counter())
        training.optimizer.step()
        marks.append(time.perf_counter())
        names = ("gather", "head", "loss", "backward", "Adam")
        for part, (a, b) in zip(names, pairwise(marks), strict=True):
            parts[part].append(1e3 * (b - a))
    return {part: median(times) for part, times in parts.items()}


def _products() -> None:
    x, weight, z, square = _OPERANDS
    torch.mm(x, weight.T)
    torch.mm(z.T, x)
    torch.mm(z, z.T)
    torch.mm(square, z)
    torch.mm(square, z)


_OPERANDS = (
    torch.randn(BATCH, WIDTH), torch.randn(SIZE, WIDTH), torch.randn(BATCH, SIZE), torch.randn(BATCH, BATCH),
)  # fmt: skip

"""What a training step costs, with and without the probe, against its floor.   make bench

1280 features, a linear head to 128, batch 512 over 10 classes, Adam: a step of `lossgauge study paper`.
The floor is the step's matrix products alone: head forward and backward, and three batch × batch ones.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from lossgauge.diagnostics.probe import Probe
from lossgauge.losses import LOSSES, load_loss
from lossgauge.training import start_training, train_epoch

ROWS, WIDTH, SIZE, BATCH, CLASSES = 10_240, 1280, 128, 512, 10


def milliseconds(work: Callable[[], object], *, repeats: int) -> float:
    """Median time of a call, after one to warm up."""
    work()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return 1e3 * median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("benchmarks/step.json"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    features = torch.randn(ROWS, WIDTH).relu()
    labels = torch.randint(0, CLASSES, (ROWS,))
    batches = list(torch.randperm(ROWS).split(BATCH))

    def epoch(name: str, probe: Probe | None) -> Callable[[], object]:
        sizes = (
            {"class_count": CLASSES, "embedding_size": SIZE} if name in ("arcface", "ccl") else {}
        )
        training = start_training(
            width=WIDTH, embedding_size=SIZE, learning_rate=1e-4, seed=0,
            make_loss=lambda: load_loss(name, **sizes),
        )  # fmt: skip
        hook = probe if probe is not None else lambda step: None
        return lambda: train_epoch(training, features, labels, batches, on_step=hook)

    x, weight, z = features[:BATCH], torch.randn(SIZE, WIDTH), torch.randn(BATCH, SIZE)
    square = torch.randn(BATCH, BATCH)

    def products() -> None:
        torch.mm(x, weight.T)
        torch.mm(z.T, x)
        torch.mm(z, z.T)
        torch.mm(square, z)
        torch.mm(square, z)

    floor = milliseconds(products, repeats=50 * options.repeats)
    rows = {}
    print(f"floor {floor:.2f} ms a step (its matrix products), {options.threads} threads")
    print(f"{'loss':12} {'plain':>8} {'probed':>8} {'probe':>7} {'/ floor':>8}")
    for name in LOSSES:
        plain = milliseconds(epoch(name, None), repeats=options.repeats) / len(batches)
        probed = milliseconds(epoch(name, Probe()), repeats=options.repeats) / len(batches)
        rows[name] = {"plain": plain, "probed": probed, "share": 1 - plain / probed}
        print(
            f"{name:12} {plain:8.2f} {probed:8.2f} {1 - plain / probed:7.1%} {probed / floor:8.1f}"
        )
    result = {
        "floor": floor,
        "losses": rows,
        "threads": options.threads,
        "torch": torch.__version__,
        "machine": platform.processor() or platform.machine(),
    }
    options.out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

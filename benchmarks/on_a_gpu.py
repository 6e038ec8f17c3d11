"""The losses on a GPU against their floor, and a study on a GPU against one on the CPU.   python -m benchmarks.on_a_gpu

A loss: forward and backward, float32, d = 128. The floor is three batch × batch × d products on the same card, as on a CPU.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from lossgauge.losses.registry import LOSSES, load_loss
from lossgauge.plan.yaml_file import load_plan
from lossgauge.study.engines import Resources
from lossgauge.study.progress import Progress
from lossgauge.study.runner import run_study

WIDTH, TURNS, CALLS = 128, 5, 20
SHAPES = ((128, 10), (512, 10), (512, 100), (2048, 100), (4096, 100))
STUDY = ["datasets=digits", "backbone=pixels", "epochs=10", "seeds=2"]


def milliseconds(call: Callable[[], object]) -> float:
    """The median over turns of the mean time of a call."""
    for _ in range(3):
        call()
    times: list[float] = []
    for _ in range(TURNS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(CALLS):
            call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / CALLS)
    return float(statistics.median(times))


def batch(rows: int, classes: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    embeddings = nn.functional.normalize(torch.randn(rows, WIDTH, generator=generator))
    labels = torch.randint(0, classes, (rows,), generator=generator)
    return embeddings.cuda().requires_grad_(), labels.cuda()


def losses() -> None:
    print("| batch / classes | three products | " + " | ".join(LOSSES) + " |")
    print("|---" * (len(LOSSES) + 2) + "|")
    for rows, classes in SHAPES:
        embeddings, labels = batch(rows, classes)
        square = torch.randn(rows, rows, device="cuda")
        with torch.no_grad():
            products = milliseconds(
                lambda e=embeddings, s=square: (e @ e.T, s @ e, s.T @ e)  # type: ignore[misc]
            )
        cells = [f"{products:.3f} ms"]
        for name in LOSSES:
            sizes = (
                {"class_count": classes, "embedding_size": WIDTH}
                if name in ("arcface", "ccl")
                else {}
            )
            loss = load_loss(name, **sizes).cuda()

            def step(
                loss: nn.Module = loss, embeddings: Tensor = embeddings, labels: Tensor = labels
            ) -> None:
                embeddings.grad = None
                loss(embeddings, labels).backward()

            cells.append(f"{milliseconds(step):.2f} ms")
        print(f"| {rows} / {classes} | " + " | ".join(cells) + " |", flush=True)


def study() -> None:
    plan = load_plan("demo", overrides=STUDY)
    with tempfile.TemporaryDirectory() as folder:
        for device, jobs in (("cpu", 1), ("cuda", 1), ("cuda", 4)):
            start = time.perf_counter()
            outcome = run_study(
                plan,
                Path(folder) / f"{device}-{jobs}",
                progress=Progress(),
                resources=Resources(device=device, jobs=jobs),
            )
            print(
                f"study on {device}, {jobs} jobs: {time.perf_counter() - start:.1f} s, "
                f"{outcome.done} runs, {outcome.failed} failed",
                flush=True,
            )


if __name__ == "__main__":
    if not torch.cuda.is_available():
        sys.exit("torch finds no GPU on this machine")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    losses()
    study()

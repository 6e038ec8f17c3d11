"""The losses beside the seven that take labels, against pytorch-metric-learning, in processor time on one thread.

    python -m benchmarks.other_losses [LOSS …]

Processor time, because it does not depend on what else the machine does. A call is forward, backward and, for ours, the whole Evaluation.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from pytorch_metric_learning import distances, reducers
from pytorch_metric_learning import losses as pml
from torch import Tensor, nn

from lossgauge.losses.registry import LOSSES, load_loss, losses_for_labels, settings_of

WIDTH, CLASSES = 128, 10
SHAPES = (128, 512)


def peers() -> dict[str, nn.Module]:
    dot = distances.DotProductSimilarity(normalize_embeddings=False)
    mean = reducers.MeanReducer()
    return {
        "multi_similarity": pml.MultiSimilarityLoss(distance=dot, reducer=mean),
        "circle": pml.CircleLoss(reducer=mean),
        "proxy_anchor": pml.ProxyAnchorLoss(CLASSES, WIDTH),
        "subcenter_arcface": pml.SubCenterArcFaceLoss(num_classes=CLASSES, embedding_size=WIDTH),
        "soft_triple": pml.SoftTripleLoss(CLASSES, WIDTH),
        "smooth_ap": pml.SmoothAPLoss(),
    }


def milliseconds(work: Callable[[], Any], *, seconds: float = 0.1) -> float:
    """Median processor time of a call; the first call is not counted."""
    work()
    times: list[float] = []
    while sum(times) < seconds or len(times) < 3:
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return 1e3 * median(times)


def ratio(turns: list[dict[str, float]], work: str, other: str) -> float:
    return median(turn[work] / turn[other] for turn in turns)


def step(loss: nn.Module, rows: Tensor, labels: Tensor) -> Callable[[], None]:
    def work() -> None:
        rows.grad = None
        for parameter in loss.parameters():
            parameter.grad = None
        loss(rows, labels).backward()

    return work


def floor(batch: int) -> Callable[[], None]:
    """Three batch × batch × width products."""
    rows, matrix = torch.randn(batch, WIDTH), torch.randn(batch, batch)

    def work() -> None:
        torch.mm(rows, rows.T)
        torch.mm(matrix, rows)
        torch.mm(matrix.T, rows)

    return work


def main(names: list[str]) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for shape in SHAPES:
        for name in names:
            # the peer's Smooth-AP needs classes of one size
            batch = shape - shape % CLASSES if name == "smooth_ap" else shape
            rows = nn.functional.normalize(torch.randn(batch, WIDTH)).requires_grad_()
            labels = torch.arange(batch) * CLASSES // batch
            sizes = {"class_count": CLASSES, "embedding_size": WIDTH}
            given = sizes if "class_count" in settings_of(name) else {}
            works = {"floor": floor(batch), "ours": step(load_loss(name, **given), rows, labels)}
            if name in peers():
                works["PML"] = step(peers()[name], rows, labels)
            turns = [{key: milliseconds(work) for key, work in works.items()} for _ in range(5)]
            # what disturbs a turn disturbs all of it
            peer = f"{ratio(turns, 'PML', 'ours'):.1f} x ours" if "PML" in works else "—"
            ours = median(turn["ours"] for turn in turns)
            multiple = ratio(turns, "ours", "floor")
            print(f"| {batch} | `{name}` | {ours:.2f} ({multiple:.2f}) | {peer} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or [name for name in losses_for_labels() if name not in LOSSES])

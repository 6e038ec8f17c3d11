"""A loss alone: forward, backward and the whole Evaluation, float32, d = 128.

The floor of a pair loss is three batch × batch × d products, of a loss with a row a class three batch ×
classes × d products, made in the same run. Peers take turns with ours.
"""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch
from pytorch_metric_learning import distances, reducers
from pytorch_metric_learning import losses as pml
from sentence_transformers.losses import (
    BatchAllTripletLoss,
    BatchHardTripletLossDistanceFunction,
)
from torch import Tensor, nn

from benchmarks.clock import side_by_side
from lossgauge.losses.registry import LOSSES, load_loss

WIDTH = 128
SHAPES = ((128, 10), (512, 10), (512, 100), (2048, 10), (2048, 100))
PROXY_SHAPES = ((512, 10_000), (512, 100_000))
GROWTH = (512, 1024, 2048, 4096, 8192, 16_384)
# more terms than this and a peer that lists them does not fit, or takes minutes
_LISTED = 30_000_000


def make(batch: int, classes: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(batch, WIDTH, generator=generator)
    labels = torch.randint(0, classes, (batch,), generator=generator)
    return nn.functional.normalize(rows).requires_grad_(), labels


def ours(name: str, classes: int) -> nn.Module:
    sizes = {"class_count": classes, "embedding_size": WIDTH} if name in ("arcface", "ccl") else {}
    return load_loss(name, **sizes)


def peers(name: str, batch: int, classes: int) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """The same loss, or the nearest to it, in other libraries."""
    positives = batch / classes
    squared = distances.LpDistance(normalize_embeddings=False, power=2)
    dot = distances.DotProductSimilarity(normalize_embeddings=False)
    found: dict[str, Any] = {}
    if name == "contrastive":  # linear in the distance, not squared: the nearest there is
        found["PML"] = pml.ContrastiveLoss(distance=distances.LpDistance())
    elif name == "triplet":
        if batch**2 * positives <= _LISTED:
            found["PML"] = pml.TripletMarginLoss(
                margin=0.2, distance=squared, reducer=reducers.MeanReducer()
            )
        if batch <= 512:  # batch³ floats
            sentence = BatchAllTripletLoss(
                model=None,  # type: ignore[arg-type]
                distance_metric=_squared_euclidean,
                margin=0.2,
            )
            found["sentence-transformers"] = lambda rows, labels: sentence.batch_all_triplet_loss(
                labels, rows
            )
    elif name == "n_pair":
        found["PML"] = pml.NPairsLoss(distance=dot)
    elif name == "info_nce" and batch <= 128:  # larger: see `out_of_memory`
        found["PML"] = pml.NTXentLoss(temperature=0.1)
    elif name == "scl":
        found["PML"] = pml.SupConLoss(temperature=0.1)
    elif name == "arcface":
        found["PML"] = pml.ArcFaceLoss(classes, WIDTH, margin=28.6, scale=64)
    return found


def _squared_euclidean(rows: Tensor) -> Tensor:
    return BatchHardTripletLossDistanceFunction.eucledian_distance(rows, squared=True)


def step(loss: Any, rows: Tensor, labels: Tensor) -> Callable[[], None]:
    def work() -> None:
        rows.grad = None
        if isinstance(loss, nn.Module):
            for parameter in loss.parameters():
                parameter.grad = None
        loss(rows, labels).backward()

    return work


def products(batch: int, columns: int) -> Callable[[], None]:
    rows, others = torch.randn(batch, WIDTH), torch.randn(columns, WIDTH)
    matrix = torch.randn(batch, columns)

    def work() -> None:
        torch.mm(rows, others.T)
        torch.mm(matrix, others)
        torch.mm(matrix.T, rows)

    return work


def measure() -> list[dict[str, Any]]:
    """A row for each shape and loss: milliseconds, multiples of the floor, peers as multiples of ours."""
    found = []
    for batch, classes in (*SHAPES, *PROXY_SHAPES):
        rows, labels = make(batch, classes)
        proxy_shape = (batch, classes) in PROXY_SHAPES
        columns = classes if proxy_shape else batch
        names = ("arcface", "ccl") if proxy_shape else tuple(LOSSES)
        print(f"\n{batch} rows, {classes} classes", flush=True)
        for name in names:
            works = {"floor": products(batch, columns)}
            works["ours"] = step(ours(name, classes), rows, labels)
            for peer, loss in peers(name, batch, classes).items():
                works[peer] = step(loss, rows, labels)
            times = side_by_side(works)
            row: dict[str, Any] = {"batch": batch, "classes": classes, "loss": name, **times}
            row["over_floor"] = times["ours"] / times["floor"]
            ratios = {p: t / times["ours"] for p, t in times.items() if p not in ("floor", "ours")}
            row["peers_over_ours"] = ratios
            text = "".join(f", {peer} {ratio:.1f} x ours" for peer, ratio in ratios.items())
            print(
                f"  {name:12} {times['ours']:9.2f} ms = {row['over_floor']:.2f} floors{text}",
                flush=True,
            )
            found.append(row)
            del works
            gc.collect()
    return found


def growth() -> list[dict[str, Any]]:
    """Time and peak memory of ours up to 16,384 rows in 10 classes; triplet with its exact count."""
    print("\ngrowth, 10 classes: ms (floors), peak extra memory in batch² floats", flush=True)
    rows = []
    for batch in GROWTH:
        for name in ("contrastive", "triplet", "info_nce", "scl", "arcface"):
            row = _in_process(_GROWN, name, str(batch))
            row |= {"loss": name, "batch": batch, "over_floor": row["ours"] / row["floor"]}
            rows.append(row)
            print(
                f"  {batch:6} {name:12} {row['ours']:10.1f} ms ({row['over_floor']:.1f})"
                f"  {row['extra_bytes'] / batch**2 / 4:6.2f}  terms {row['terms']:,}, active {row['active']:,}",
                flush=True,
            )
    return rows


_GROWN = """
import json, sys, time
import torch
from benchmarks.losses import make, ours, products, step
def memory(key):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(key))
name, batch = sys.argv[1], int(sys.argv[2])
warm, warm_labels = make(64, 10)
loss = ours(name, 10)
step(loss, warm, warm_labels)()
rows, labels = make(batch, 10)
with open("/proc/self/clear_refs", "w") as reset:
    reset.write("5")
before = memory("VmRSS")
step(loss, rows, labels)()
extra = memory("VmHWM") - before
floor_work, times, floors = products(batch, batch), [], []
for _ in range(max(2, min(200, 2 * 10**8 // batch**2))):
    start = time.perf_counter(); step(loss, rows, labels)(); times.append(time.perf_counter() - start)
    start = time.perf_counter(); floor_work(); floors.append(time.perf_counter() - start)
evaluation = loss.evaluate(rows, labels)
times.sort(); floors.sort()
print(json.dumps({"ours": 1e3 * times[len(times) // 2], "floor": 1e3 * floors[len(floors) // 2], "extra_bytes": extra,
                  "terms": evaluation.term_count, "active": evaluation.active_count}))
"""

_TOO_LARGE = """
import json, resource
resource.setrlimit(resource.RLIMIT_AS, (24 * 2**30, 24 * 2**30))
from benchmarks.losses import make, step
from pytorch_metric_learning.losses import NTXentLoss
rows, labels = make(512, 10)
try:
    step(NTXentLoss(temperature=0.1), rows, labels)()
    print(json.dumps({"outcome": "ran"}))
except (RuntimeError, MemoryError) as error:
    print(json.dumps({"outcome": str(error).splitlines()[0]}))
"""


def out_of_memory() -> str:
    """What pytorch-metric-learning's InfoNCE says at 512 rows in 10 classes, allowed 24 GiB."""
    outcome = str(_in_process(_TOO_LARGE)["outcome"])
    print(f"\nPML info_nce at 512 rows in 10 classes, allowed 24 GiB: {outcome}", flush=True)
    return outcome


def _in_process(code: str, *arguments: str) -> dict[str, Any]:
    import json

    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result

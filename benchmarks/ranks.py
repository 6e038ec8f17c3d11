"""What plain DDP trains instead of the loss of the whole batch, and what `lossgauge.distributed.gathered` costs.

python -m benchmarks.ranks                two gloo ranks on this machine, one thread each; a minute on two cores
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize

from lossgauge.distributed import gathered
from lossgauge.losses.registry import LOSSES, load_loss

RANKS = 2
WIDTH = 32


def _loss(name: str, classes: int) -> nn.Module:
    torch.manual_seed(0)
    own = name in ("arcface", "ccl")
    return load_loss(name, **({"class_count": classes, "embedding_size": WIDTH} if own else {}))


def _gradient(loss: nn.Module, head: nn.Linear, rows: Tensor, labels: Tensor) -> Tensor:
    head.zero_grad()
    loss(normalize(head(rows)), labels).backward()
    return head.weight.grad.flatten().clone()


def directions(batch: int, draws: int = 100) -> dict[str, tuple[float, float]]:
    """For each loss, mean and least cosine between the mean gradient of two halves of a batch of digits, and that of the batch."""
    features, labels = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
    features = features / 16 - (features / 16).mean(0)
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    head = nn.Linear(64, WIDTH).double()
    table = {}
    for name in LOSSES:
        loss, cosines = _loss(name, 10).double(), []
        for _ in range(draws):
            rows = torch.randint(0, len(features), (batch,), generator=generator)
            whole = _gradient(loss, head, features[rows], labels[rows])
            parts = [_gradient(loss, head, features[half], labels[half]) for half in rows.chunk(2)]
            cosines.append(float(cosine_similarity(sum(parts), whole, dim=0)))
        table[name] = statistics.mean(cosines), min(cosines)
    return table


def _time_rank(rank: int, where: str, batch: int, turns: int, results: mp.SimpleQueue) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=where, rank=rank, world_size=RANKS)
    generator = torch.Generator().manual_seed(rank)
    rows = normalize(torch.randn(batch, 128, generator=generator)).requires_grad_()
    labels = torch.randint(0, 10, (batch,), generator=generator)
    loss = load_loss("triplet")

    def clock(function: nn.Module, *inputs: Tensor) -> float:
        seconds = []
        for _ in range(turns):
            dist.barrier()
            start = time.process_time()  # other programs do not count
            function(*inputs).backward()
            seconds.append(time.process_time() - start)
        return 1000 * statistics.median(seconds)

    both = torch.cat([rows.detach()] * RANKS).requires_grad_()
    times = (
        clock(loss, rows, labels),
        clock(loss, both, labels.repeat(RANKS)),
        clock(gathered(loss), rows, labels),
    )
    if rank == 0:
        results.put(times)
    dist.destroy_process_group()


def milliseconds(batch: int, turns: int = 60) -> tuple[float, float, float]:
    """Processor time of forward and backward of triplet: a rank's own batch, the batch of both ranks in one process, and gathered."""
    context = mp.get_context("spawn")
    results = context.SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        where = f"file://{Path(folder) / 'group'}"
        mp.spawn(_time_rank, args=(where, batch, turns, results), nprocs=RANKS)
    times: tuple[float, float, float] = results.get()
    return times


def main() -> None:
    """Print both tables."""
    print("| loss | 16 rows a rank | 64 | 256 |\n|---|---|---|---|")
    columns = [directions(RANKS * rows) for rows in (16, 64, 256)]
    for name in LOSSES:
        cells = (f"{mean:.3f} ({least:.2f})" for mean, least in (part[name] for part in columns))
        print(f"| {name} | {' | '.join(cells)} |")
    print(
        "\n| rows a rank | own batch, processor ms | both batches in one process | gathered |\n|---|---|---|---|"
    )
    for batch in (128, 512, 1024):
        print(f"| {batch} | {' | '.join(f'{time:.2f}' for time in milliseconds(batch))} |")


if __name__ == "__main__":
    main()

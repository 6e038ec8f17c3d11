"""Short trainings on several ranks, each with or without the probe.

python -m tests.loop.ranks ddp|fsdp with|without RANK RANKS FILE    prints the rows and a hash of the weights as JSON
"""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from lossgauge.loop.probe import Probe
from lossgauge.losses.registry import load_loss
from tests.loop.trainings import Network, batch, digest, seeded_network

STEPS, PARTS = 3, 2


def train_ranks(kind: str, *, probed: bool, rank: int, ranks: int) -> dict[str, Any]:
    """A loop with accumulation and clipping on `ranks` ranks. The process group exists already."""
    network: Any = seeded_network()
    criterion = load_loss("scl", temperature=0.5)
    if kind == "ddp":
        model: Any = nn.parallel.DistributedDataParallel(network)
    else:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh("cpu", (ranks,))
        fully_shard(network.inner, mesh=mesh)
        model = fully_shard(network, mesh=mesh)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    probe = Probe(optimizer, loss=criterion) if probed else None
    for step in range(STEPS):
        for part in range(PARTS):
            last = part == PARTS - 1
            if kind == "fsdp":
                model.set_requires_gradient_sync(last)
            with model.no_sync() if kind == "ddp" and not last else nullcontext():
                x, y = batch(number_of(step, part, rank, ranks))
                z = model(x)
                if probe is not None:
                    z = probe.embeddings(z, y)
                (criterion(z, y) / PARTS).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.3)
        optimizer.step()
        optimizer.zero_grad()
    weights = [p.full_tensor() if kind == "fsdp" else p for p in model.parameters()]
    return {"rows": probe.rows if probe else [], "digest": digest([w.detach() for w in weights])}


def number_of(step: int, part: int, rank: int, ranks: int) -> int:
    """The number of the batch that a rank sees."""
    return (step * PARTS + part) * ranks + rank


def plain_rows(*, ranks: int) -> list[list[dict[str, float]]]:
    """What one process says: for each rank and update, the local gradient at the embeddings, and that of the mean loss."""
    network: Network = seeded_network()
    criterion = load_loss("scl", temperature=0.5)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    rows: list[list[dict[str, float]]] = [[] for _ in range(ranks)]
    for step in range(STEPS):
        optimizer.zero_grad()
        for rank in range(ranks):
            norms, values = [], []
            for part in range(PARTS):
                x, y = batch(number_of(step, part, rank, ranks))
                z = network(x)
                z.retain_grad()
                value = criterion(z, y)
                (value / PARTS / ranks).backward()
                values.append(value.detach())
                norms.append(z.grad.norm(dim=1) * PARTS * ranks)
            rows[rank].append(
                {
                    "loss_value": float(torch.stack(values).mean()),
                    "embedding_gradient": float(torch.cat(norms).mean()),
                }
            )
        for clipped in ("", "clipped_"):
            squares = [p.grad.square().sum() for p in network.parameters()]
            norm = float(torch.stack(squares).sum().sqrt())
            for rank in range(ranks):
                rows[rank][-1][f"{clipped}head_gradient"] = norm
            nn.utils.clip_grad_norm_(network.parameters(), 0.3)
        optimizer.step()
    return rows


if __name__ == "__main__":
    kind, how, rank, ranks, path = sys.argv[1:]
    dist.init_process_group(
        "gloo",
        init_method=f"file://{path}",
        rank=int(rank),
        world_size=int(ranks),
        timeout=timedelta(minutes=5),
    )
    done = train_ranks(kind, probed=how == "with", rank=int(rank), ranks=int(ranks))
    print(json.dumps(done))
    dist.destroy_process_group()

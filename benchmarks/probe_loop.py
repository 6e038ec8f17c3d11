"""What `lg.Probe` adds to a step of a training loop: with it and without it, in turns, in one process.

A head: 512 x 1280 features, a linear layer to 128, Adam. A network: 32 images of 3 x 64 x 64 pixels through a small residual
network. Processor time, not time on the clock, so that a busy machine changes less; the ratio is what counts.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import process_time
from typing import Any

import torch
from torch import Tensor, nn

from lossgauge.loop.probe import Probe
from lossgauge.losses.registry import load_loss


class Block(nn.Module):
    """A residual block of two convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.layers(x))


class Normalized(nn.Module):
    """A model whose rows are unit vectors."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.normalize(self.body(x))


def head() -> nn.Module:
    return Normalized(nn.Linear(1280, 128))


def network() -> nn.Module:
    stages: list[nn.Module] = [nn.Conv2d(3, 64, 3, stride=2, padding=1)]
    stages += [Block(64), Block(64), nn.Conv2d(64, 128, 3, stride=2, padding=1), Block(128)]
    return Normalized(
        nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 128))
    )


CASES: dict[
    str, tuple[Callable[[], nn.Module], tuple[int, ...], Callable[[], nn.Module], int, int]
] = {
    # model, shape of a batch, loss, turns, steps of a turn: the probe turns 32 updates into rows together
    "head, triplet": (head, (512, 1280), lambda: load_loss("triplet", margin=0.2), 12, 32),
    "head, scl": (head, (512, 1280), lambda: load_loss("scl"), 12, 32),
    "head, cross entropy": (head, (512, 1280), nn.CrossEntropyLoss, 12, 32),
    "network, triplet": (network, (32, 3, 64, 64), lambda: load_loss("triplet"), 4, 4),
}


def measure() -> dict[str, Any]:
    """Milliseconds of a step with and without the probe, and the share of the step that it adds."""
    print(f"\n  {'step, milliseconds':22} {'without':>8} {'with':>8} {'added':>7}")
    found: dict[str, Any] = {}
    for name, (make, shape, loss, turns, steps) in CASES.items():
        found[name] = _case(make, shape, loss(), turns, steps)
        row = found[name]
        print(
            f"  {name:22} {row['without']:8.2f} {row['with']:8.2f} {row['added']:7.1%}", flush=True
        )
    return found


def _case(
    make: Callable[[], nn.Module], shape: tuple[int, ...], loss: nn.Module, turns: int, steps: int
) -> dict[str, float]:
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(shape, generator=generator), torch.arange(shape[0]) % 10
    model = make()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    blocks: dict[str, list[float]] = {"without": [], "with": []}

    def block(probe: Probe | None) -> float:
        began = process_time()
        for _ in range(steps):
            z = model(images)
            if probe is not None:
                z = probe.embeddings(z, labels)
            optimizer.zero_grad()
            loss(z, labels).backward()
            optimizer.step()
        if probe is not None:
            _ = probe.rows
        return 1e3 * (process_time() - began) / steps

    block(None)
    for _ in range(turns):
        blocks["without"].append(block(None))
        probe = Probe(optimizer, loss=loss)
        blocks["with"].append(block(probe))
        probe.close()
        blocks["without"].append(block(None))
    # neighbours in time are compared: a noisy minute is both's
    before = blocks["without"][::2]
    after = blocks["without"][1::2]
    added = median(
        2 * one / (a + b) - 1 for one, a, b in zip(blocks["with"], before, after, strict=True)
    )
    return {**{name: median(times) for name, times in blocks.items()}, "added": added}


if __name__ == "__main__":
    measure()

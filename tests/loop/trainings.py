"""Short trainings, each with or without the probe, and what a plain float32 loop says about the same updates.

python tests/loop/trainings.py with|without CASE...    prints a hash of the trained weights of each case
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lossgauge.loop.probe import Probe
from lossgauge.losses.registry import load_loss

ROWS, WIDTH, SIZE, CLASSES = 24, 6, 4, 3


class Trained(NamedTuple):
    weights: list[Tensor]
    rows: list[dict[str, Any]]
    probe: Probe | None


class Network(nn.Module):
    """Two layers; unit rows if `unit`. `inner` may be recomputed in backward, or frozen."""

    def __init__(self, *, unit: bool = True, recomputed: bool = False) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(WIDTH, 8), nn.Linear(8, SIZE)
        self.unit, self.recomputed = unit, recomputed

    def forward(self, x: Tensor) -> Tensor:
        body = checkpoint(self._body, x, use_reentrant=False) if self.recomputed else self._body(x)
        z = self.outer(body)
        return nn.functional.normalize(z) if self.unit else z

    def _body(self, x: Tensor) -> Tensor:
        return self.inner(x).tanh()


def batch(number: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(number)
    return torch.randn(ROWS, WIDTH, generator=generator), torch.arange(ROWS) % CLASSES


def seeded_network(**settings: Any) -> Network:
    torch.manual_seed(0)
    return Network(**settings)


def train(
    *,
    probed: bool,
    steps: int = 6,
    network: Network | None = None,
    loss: Any = None,
    make_optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
    fused: bool = False,
    accumulate: int = 1,
    autocast: torch.dtype | None = None,
    scaler: Any = None,
    clip: float | None = None,
    overflow_at: int | None = None,
    zero_first: bool = False,
    set_to_none: bool = True,
    compiled: bool = False,
    use_labels: bool = True,
    closure: bool = False,
    **settings: Any,
) -> Trained:
    """A loop as people write it. The probe adds two lines."""
    network = network or seeded_network()
    criterion = load_loss("scl", temperature=0.5) if loss is None else loss
    parameters = [p for p in (*network.parameters(), *criterion.parameters()) if p.requires_grad]
    optimizer = make_optimizer(parameters, lr=0.01, **({"fused": True} if fused else {}))
    model = torch.compile(network, backend="aot_eager") if compiled else network
    probe = Probe(optimizer, loss=criterion, **settings) if probed else None

    def value_of(number: int) -> Tensor:
        x, y = batch(number)
        with torch.autocast("cpu", dtype=autocast) if autocast else nullcontext():
            z = model(x)
            if probe is not None:
                z = probe.embeddings(z, y if use_labels else None)
            value = criterion(z, y) if use_labels else criterion(z, x[:, :SIZE])
        return value / accumulate

    for step in range(steps):
        if zero_first:
            optimizer.zero_grad(set_to_none=set_to_none)
        if closure:

            def evaluate(step: int = step) -> Tensor:
                optimizer.zero_grad()
                value = value_of(step)
                value.backward()
                return value

            optimizer.step(evaluate)
            continue
        for part in range(accumulate):
            value = value_of(step * accumulate + part)
            if step == overflow_at:
                value = value * float("inf")
            (value if scaler is None else scaler.scale(value)).backward()
        if clip is not None:
            if scaler is not None:
                scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(parameters, clip)
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()
        if not zero_first:
            optimizer.zero_grad(set_to_none=set_to_none)
    return Trained([p.detach() for p in parameters], probe.rows if probe else [], probe)


def triplet() -> nn.Module:
    return load_loss("triplet", margin=0.5)


def arcface() -> nn.Module:
    torch.manual_seed(1)
    return load_loss("arcface", class_count=CLASSES, embedding_size=SIZE, scale=8.0)


def frozen() -> Network:
    network = seeded_network()
    network.inner.requires_grad_(False)
    return network


def scaler(size: float = 2.0**16) -> Any:
    return torch.amp.GradScaler("cpu", init_scale=size)


CASES: dict[str, Callable[[], dict[str, Any]]] = {
    "plain": dict,
    "our own parameters": lambda: {"loss": arcface()},
    "zero first": lambda: {"zero_first": True, "set_to_none": False},
    "unnormalised": lambda: {"network": seeded_network(unit=False)},
    "accumulation": lambda: {"accumulate": 3, "loss": triplet()},
    "clipping": lambda: {"clip": 0.05},
    "bfloat16": lambda: {"autocast": torch.bfloat16},
    "float16 with a scaler": lambda: {
        "autocast": torch.float16,
        "scaler": scaler(2.0**20),
        "steps": 8,
    },
    "a scaler and accumulation": lambda: {"scaler": scaler(), "accumulate": 2, "clip": 0.05},
    "a scaler that skips": lambda: {"scaler": scaler(), "overflow_at": 2},
    "a scaler that skips, zero first": lambda: {
        "scaler": scaler(),
        "overflow_at": 2,
        "zero_first": True,
        "set_to_none": False,
    },
    "fused with a scaler": lambda: {"fused": True, "scaler": scaler(), "overflow_at": 2},
    "fused, unscaled before": lambda: {"fused": True, "scaler": scaler(), "clip": 0.05},
    "SGD": lambda: {"make_optimizer": torch.optim.SGD},
    "LBFGS": lambda: {"make_optimizer": torch.optim.LBFGS, "closure": True, "steps": 2},
    "Adam with a closure": lambda: {"closure": True},
    "regression": lambda: {
        "loss": nn.MSELoss(),
        "use_labels": False,
        "network": seeded_network(unit=False),
    },
    "frozen parts": lambda: {"network": frozen()},
    "checkpointing": lambda: {"network": seeded_network(recomputed=True)},
    "compiled": lambda: {"compiled": True, "steps": 3},
    "every third": lambda: {"every": 3},
}
"""Each case by its name: what it adds to `train`."""


def digest(weights: list[Tensor]) -> str:
    return hashlib.sha256(b"".join(w.numpy().tobytes() for w in weights)).hexdigest()


if __name__ == "__main__":
    for case in sys.argv[2:] or CASES:
        print(case, digest(train(probed=sys.argv[1] == "with", **CASES[case]()).weights), sep="\t")

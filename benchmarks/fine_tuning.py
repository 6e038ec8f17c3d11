"""Whether the losses that are best for a head on frozen features are best when the whole network is trained.

    python -m benchmarks.fine_tuning [--seeds 3]      about 15 minutes of one core; writes benchmarks/fine_tuning.csv

A small convolutional network is trained to classify one set. On another set it is used in two ways, with each loss: frozen, under a
linear head, and fine-tuned together with the head. Both train for the same number of steps on the same batches. Settings of the losses are
their defaults; the learning rate of each way is the same for all losses.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl
import torch
from scipy.stats import kendalltau
from torch import Tensor, nn

from lossgauge.data import load_dataset
from lossgauge.losses.registry import LOSSES, load_loss
from lossgauge.ranking.metrics import retrieval
from lossgauge.types import ImageSet

OUT = Path("benchmarks/fine_tuning.csv")
PAIRS = (
    ("mnist-5k", "fashion-mnist"),
    ("fashion-mnist", "mnist-5k"),
    ("fashion-mnist", "orl-faces"),
)
"""The set that the network has learned, and the set that the losses are compared on."""
SIDE, WIDTH, BATCH, ROWS = 28, 64, 64, 2500
STEPS, HEAD_RATE, NETWORK_RATE = 450, 1e-3, 3e-4
SEVEN = tuple(LOSSES[:7])


class Images:
    """Both sides of a set as 28 × 28 grey images; labels from 0."""

    def __init__(self, name: str) -> None:
        images = load_dataset(name)
        generator = np.random.default_rng(0)
        self.name = name
        self.train, self.train_labels = self._side(images, images.train, generator)
        self.test, self.test_labels = self._side(images, images.test, generator)

    @staticmethod
    def _side(
        of: ImageSet, rows: np.ndarray, generator: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        if len(rows) > ROWS:
            rows = np.sort(generator.choice(rows, ROWS, replace=False))
        grey = [
            np.asarray(of.read(int(i)).convert("L").resize((SIDE, SIDE)), np.float32) for i in rows
        ]
        pixels = torch.from_numpy(np.stack(grey))[:, None] / 255
        _, labels = np.unique(of.labels[rows], return_inverse=True)
        return (pixels - 0.5) / 0.25, torch.from_numpy(labels)


@cache
def images(name: str) -> Images:
    return Images(name)


def network() -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in ((1, 16), (16, 32), (32, 64)):
        layers += [
            nn.Conv2d(before, after, 3, stride=2, padding=1),
            nn.BatchNorm2d(after),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.Flatten())


FEATURES = 64 * 4 * 4


def batches(labels: Tensor, steps: int, seed: int) -> Iterator[Tensor]:
    """Rows of each step: every row once before one comes again."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(labels), generator=generator)
        for rows in order.split(BATCH):
            if len(rows) == BATCH:
                yield rows
                steps -= 1
            if not steps:
                return


def classify(name: str, seed: int) -> nn.Sequential:
    """The network after it has learned to classify the set."""
    torch.manual_seed(seed)
    body, data = network(), images(name)
    last = nn.Linear(FEATURES, int(data.train_labels.max()) + 1)
    optimizer = torch.optim.Adam([*body.parameters(), *last.parameters()], lr=1e-3)
    for rows in batches(data.train_labels, STEPS, seed):
        optimizer.zero_grad()
        nn.functional.cross_entropy(
            last(body(data.train[rows])), data.train_labels[rows]
        ).backward()
        optimizer.step()
    return body.eval()


def run(
    body: nn.Sequential, name: str, loss_name: str, seed: int, *, whole: bool
) -> dict[str, float]:
    """Train a head with a loss, alone or with the network, and measure the test side."""
    data = images(name)
    torch.manual_seed(1000 + seed)
    mine = network()
    mine.load_state_dict(body.state_dict())
    mine.eval()  # statistics of batch normalisation stay those of the first set in both ways
    head = nn.Linear(FEATURES, WIDTH)
    sizes = {"class_count": int(data.train_labels.max()) + 1, "embedding_size": WIDTH}
    loss = load_loss(loss_name, **(sizes if loss_name in ("arcface", "ccl") else {}))
    groups = [{"params": [*head.parameters(), *loss.parameters()], "lr": HEAD_RATE}]
    if whole:
        groups.append({"params": list(mine.parameters()), "lr": NETWORK_RATE})
    optimizer = torch.optim.Adam(groups)
    with torch.no_grad():
        train, test = (mine(side) for side in (data.train, data.test))
    center = train.mean(0)

    def embedded(features: Tensor) -> Tensor:
        return nn.functional.normalize(head(features - center))

    for rows in batches(data.train_labels, STEPS, seed):
        features = mine(data.train[rows]) if whole else train[rows]
        optimizer.zero_grad()
        loss(embedded(features), data.train_labels[rows]).backward()
        optimizer.step()
    with torch.no_grad():
        found = retrieval(embedded(mine(data.test) if whole else test), data.test_labels)
    return {"recall_at_1": found.recall_at[1], "map_at_r": found.map_at_r}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    torch.set_num_threads(1)
    rows = []
    for learned, name in PAIRS:
        for seed in range(parser.parse_args().seeds):
            body = classify(learned, seed)
            for loss in SEVEN:
                for way, whole in (("head", False), ("network", True)):
                    numbers = run(body, name, loss, seed, whole=whole)
                    rows.append(
                        {
                            "learned": learned,
                            "set": name,
                            "loss": loss,
                            "seed": seed,
                            "trained": way,
                            **numbers,
                        }
                    )
                    print(rows[-1], flush=True)
            pl.DataFrame(rows).write_csv(OUT)
    show(pl.read_csv(OUT))


def show(table: pl.DataFrame) -> None:
    """The means, and how far the two orders agree."""
    for learned, name in PAIRS:
        of = table.filter((pl.col("learned") == learned) & (pl.col("set") == name))
        if of.is_empty():
            continue
        for metric in ("map_at_r", "recall_at_1"):
            means = of.pivot(on="trained", index="loss", values=metric, aggregate_function="mean")
            order = kendalltau(means["head"], means["network"]).statistic
            agree = _pairs_that_agree(of, metric)
            print(
                f"\n{name} (network from {learned}), {metric}: Kendall's tau {order:+.2f}; {agree}"
            )
            print(means.sort("head", descending=True))


def _pairs_that_agree(of: pl.DataFrame, metric: str) -> str:
    """Of the pairs of losses whose difference has one sign in every seed in both ways: how many have the same sign in both."""
    signs = {}
    for way in ("head", "network"):
        by = of.filter(pl.col("trained") == way).pivot(on="loss", index="seed", values=metric)
        for one, other in combinations(SEVEN, 2):
            difference = (by[one] - by[other]).sign().to_list()
            signs[way, one, other] = difference[0] if len(set(difference)) == 1 else None
    clear = [
        (signs["head", a, b], signs["network", a, b])
        for a, b in combinations(SEVEN, 2)
        if signs["head", a, b] is not None and signs["network", a, b] is not None
    ]
    same = sum(one == other for one, other in clear)
    return f"{same} of {len(clear)} pairs that are clear in both ways have the same order"


if __name__ == "__main__":
    main()

"""Small real training runs, healthy ones and ones with a planted fault, and the findings about each.

A head on pixels of small images, 200 steps: under a second for a run. Thresholds of the rules were fixed on the sets of CALIBRATION
only; the battery reports on those of REPORTED.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lossgauge.data import load_dataset, toy
from lossgauge.data.locations import NotFound
from lossgauge.data.samplers import random_batches
from lossgauge.diagnostics.copies import Copies, copies
from lossgauge.diagnostics.hubness import hubness
from lossgauge.diagnostics.label_errors import label_errors
from lossgauge.diagnostics.probe import Probe
from lossgauge.diagnostics.variance import geometry
from lossgauge.errors import InputError, RunError
from lossgauge.heads import LinearHead, MLPHead
from lossgauge.health.data import data_findings
from lossgauge.health.finding import Finding
from lossgauge.health.space import norm_findings, space_findings
from lossgauge.health.training import label_findings, optimizer_findings, training_findings
from lossgauge.losses.function_loss import FunctionLoss
from lossgauge.losses.registry import load_loss
from lossgauge.ranking.metrics import retrieval
from lossgauge.training import Training, start_training, train_epoch
from lossgauge.types import Record

CALIBRATION = ("toy", "digits")
"""With seeds from 100 on."""
REPORTED = ("digits", "orl-faces", "mnist-5k", "fashion-mnist")
"""With seeds 0 and 1."""

STEPS, BATCH, WIDTH, K = 200, 64, 64, 10
SIDE = 16
SAMPLED = 2500
"""Rows of each side of FashionMNIST."""


class Rows(NamedTuple):
    """Labelled features in two sides; classes are numbered from 0 on the training side."""

    name: str
    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor

    @property
    def class_count(self) -> int:
        return int(self.train_labels.max()) + 1


class Run(NamedTuple):
    """A run that has ended: what a finding can be read from."""

    of: Rows
    loss: nn.Module
    optimizers: list[torch.optim.Optimizer]
    steps: list[Record]
    head: nn.Module
    given: Mapping[str, Any]
    """What `training_findings` is told."""


@cache
def load(name: str) -> Rows | None:
    """The set, centred by the mean of its training side; None if it is not on this machine."""
    if name == "toy":
        of = toy.load("gaussians-halves")
        # its outliers have no class, and a tenth of its labels is wrong: here each row has the class it was drawn from
        inside = of.labels >= 0
        train, test = (side[inside[side]] for side in (of.train, of.test))
        labels = torch.arange(len(of.labels)) // toy.ROWS_A_CLASS
        return _centred(name, of.features, labels, train, test)
    try:
        images = load_dataset(name)
    except NotFound:
        return None
    train, test = images.train, images.test
    if len(train) > SAMPLED:
        generator = np.random.default_rng(0)
        train, test = (
            np.sort(generator.choice(side, SAMPLED, replace=False)) for side in (train, test)
        )
    chosen = np.concatenate([train, test])
    pixels = np.stack(
        [
            np.asarray(images.read(int(i)).convert("L").resize((SIDE, SIDE)), np.float32)
            for i in chosen
        ]
    )
    places = torch.arange(len(chosen))
    return _centred(
        name,
        torch.from_numpy(pixels.reshape(len(chosen), -1) / 255),
        torch.from_numpy(images.labels[chosen]),
        places[: len(train)],
        places[len(train) :],
    )


def _centred(name: str, features: Tensor, labels: Tensor, train: Tensor, test: Tensor) -> Rows:
    features = features - features[train].mean(0)
    classes = labels[train].unique()
    numbers = torch.searchsorted(classes, labels[train].contiguous())
    return Rows(name, features[train], numbers, features[test], labels[test])


def train(
    of: Rows,
    loss: str | nn.Module,
    *,
    seed: int,
    settings: Mapping[str, Any] | None = None,
    steps: int = STEPS,
    batch_size: int = BATCH,
    learning_rate: float = 1e-3,
    optimizer: str = "adam",
    make_head: Callable[[int], nn.Module] = lambda width: LinearHead(width, WIDTH),
    only_head: bool = False,
) -> Run:
    """Train a head with one of our losses, or another module, and record each step."""
    settings = dict(settings or {})
    sizes = {"class_count": of.class_count, "embedding_size": WIDTH}

    def make_loss() -> nn.Module:
        if not isinstance(loss, str):
            return loss
        return load_loss(loss, **settings, **(sizes if loss in ("arcface", "ccl") else {}))

    training: Training = start_training(
        seed=seed,
        make_head=lambda: make_head(of.train.shape[1]),
        make_loss=make_loss,
        optimizer=optimizer,
        schedule=lambda _: learning_rate,
    )
    if only_head:
        training.optimizer = torch.optim.Adam(training.head.parameters(), lr=learning_rate)
    probe = Probe()
    rows = torch.arange(len(of.train))
    while training.step < steps:
        batches = random_batches(rows, batch_size=batch_size, seed=seed, epoch=training.epoch + 1)
        try:
            train_epoch(
                training, of.train, of.train_labels, batches[: steps - training.step], on_step=probe
            )
        except (InputError, RunError):  # it diverged
            break
    probe.finish()
    given = {
        "loss": loss if isinstance(loss, str) else None,
        "settings": settings,
        "batch_size": min(batch_size, len(rows)),
        "class_count": of.class_count,
    }
    return Run(of, training.loss, [training.optimizer], probe.rows, training.head, given)


@torch.no_grad()
def embedded(run: Run, rows: Tensor) -> Tensor:
    return run.head(rows)


def findings(run: Run, *, side: str = "test", norms: bool = False) -> list[Finding]:
    """Every finding that can be read from a run: its embeddings of one side, its rows and its data."""
    of = run.of
    rows = embedded(run, of.test if side == "test" else of.train)
    labels = of.test_labels if side == "test" else of.train_labels
    unit = nn.functional.normalize(rows)
    both = {
        f"{name}_intra_inter_ratio": geometry(
            nn.functional.normalize(embedded(run, part)), numbers
        ).intra_inter_ratio
        for name, part, numbers in (
            ("train", of.train, of.train_labels),
            ("test", of.test, of.test_labels),
        )
    }
    found = space_findings(
        geometry(unit, labels), hubness=hubness(nearest(unit)), width=unit.shape[1]
    )
    found += training_findings([*run.steps[:-1], {**run.steps[-1], **both}], **run.given)
    found += optimizer_findings(run.optimizers, run.loss)
    batch = torch.randperm(len(of.train), generator=torch.Generator().manual_seed(0))[:BATCH]
    with suppress(InputError):  # a run that diverged has embeddings that no loss takes
        found += label_findings(run.loss, embedded(run, of.train[batch]), of.train_labels[batch])
    found += of_data(of, unit, labels)
    if norms:
        by = {
            kind: retrieval(rows, labels, similarity=kind).recall_at[1]
            for kind in ("cosine", "dot")
        }
        sizes = rows.norm(dim=1)
        found += norm_findings(
            (float(sizes.min()), float(sizes.max())),
            cosine_recall=by["cosine"],
            dot_recall=by["dot"],
        )
    return found


def of_data(of: Rows, unit: Tensor, labels: Tensor) -> list[Finding]:
    near = nearest(unit)
    sizes = labels.bincount(minlength=int(labels.max()) + 1)
    errors = label_errors(
        torch.arange(len(labels)),
        labels,
        labels[near],
        (unit[near] @ unit[:, :, None])[..., 0],
        sizes[labels],
    )
    return data_findings(
        label_errors=errors,
        copies=found_copies(of),
        class_sizes=dict(enumerate(of.train_labels.bincount().tolist())),
    )


def found_copies(of: Rows) -> Copies:
    """Copies among the features of both sides."""
    rows = torch.cat([of.train, of.test])
    _, hashes = np.unique(rows.numpy(), axis=0, return_inverse=True)
    labels = torch.cat([of.train_labels, of.test_labels])
    trains = torch.arange(len(rows)) < len(of.train)
    return copies(torch.from_numpy(hashes).flatten().long(), labels, trains)


def nearest(unit: Tensor, k: int = K) -> Tensor:
    similarity = unit @ unit.T
    similarity.fill_diagonal_(-torch.inf)
    return similarity.topk(k, dim=1).indices


# faults: each gives the findings of a real run that has it


class Fault(NamedTuple):
    finding: str
    words: str
    run: Callable[[Rows, int], list[Finding]]


def constant(width: int) -> nn.Module:
    """A network whose ReLUs are dead: every input has the same embedding."""
    head = MLPHead(width, WIDTH, hidden_size=32)
    nn.init.constant_(head.hidden.bias, -1e3)
    return head


def _bottleneck(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, 2), LinearHead(2, WIDTH))


class Rounded(nn.Module):
    """Embeddings rounded to two digits, which stops the gradient."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, WIDTH)

    def forward(self, rows: Tensor) -> Tensor:
        return nn.functional.normalize((100 * self.linear(rows)).round())


def _free(width: int) -> nn.Module:
    """Embeddings of any norm."""
    return nn.Linear(width, WIDTH)


def shifted(of: Rows, by: float) -> Rows:
    """Features whose mean was not subtracted."""
    return of._replace(train=of.train + by, test=of.test + by)


def _cone(of: Rows, seed: int) -> list[Finding]:
    return findings(train(shifted(of, 10.0), "triplet", seed=seed, learning_rate=1e-6))


def _one_class_of_copies(of: Rows, seed: int) -> list[Finding]:
    """All images of a class are one image, with a little noise."""
    generator = torch.Generator().manual_seed(seed)

    def same(rows: Tensor, labels: Tensor, label: int) -> Tensor:
        of_class = rows[labels == label]
        noise = 1e-4 * torch.randn(of_class.shape, generator=generator)
        return rows.masked_scatter((labels == label)[:, None], of_class[:1] + noise)

    planted = of._replace(
        train=same(of.train, of.train_labels, 0),
        test=same(of.test, of.test_labels, int(of.test_labels[0])),
    )
    return findings(train(planted, "scl", seed=seed))


def _two_labels(of: Rows, seed: int) -> list[Finding]:
    """A class of each side with two labels, dealt at random."""
    generator = torch.Generator().manual_seed(seed)

    def split(labels: Tensor) -> Tensor:
        new = labels.clone()
        members = (labels == labels[0]).nonzero().flatten()
        new[members[torch.randperm(len(members), generator=generator)[::2]]] = int(labels.max()) + 1
        return new

    planted = of._replace(train_labels=split(of.train_labels), test_labels=split(of.test_labels))
    return findings(train(planted, "scl", seed=seed))


def _shuffled(of: Rows, seed: int) -> list[Finding]:
    """Labels of the test side in another order than its rows."""
    order = torch.randperm(len(of.test), generator=torch.Generator().manual_seed(seed))
    return findings(
        train(of, "scl", seed=seed)._replace(of=of._replace(test_labels=of.test_labels[order]))
    )


def _blank_rows(of: Rows, seed: int) -> list[Finding]:
    """Noise in 500 dimensions, of which one row in fifty has little, and features whose mean was not subtracted."""
    generator = torch.Generator().manual_seed(seed)

    def noisy(rows: Tensor) -> Tensor:
        noise = torch.cat([rows, torch.randn(len(rows), 500, generator=generator)], 1)
        noise[::50] *= 0.2
        return noise + 0.5

    planted = of._replace(train=noisy(of.train), test=noisy(of.test))
    wide = train(
        planted, "triplet", seed=seed, learning_rate=1e-6, make_head=lambda w: LinearHead(w, 512)
    )
    return findings(wide)


def _few_in_a_batch(of: Rows, seed: int) -> list[Finding]:
    return findings(train(of, "info_nce", seed=seed, batch_size=4))


def _by_heart(of: Rows, seed: int, side: str = "test") -> list[Finding]:
    """Three training rows a class, noise among the features, a large head."""
    generator = torch.Generator().manual_seed(seed)
    some = torch.cat(
        [(of.train_labels == c).nonzero().flatten()[:3] for c in range(of.class_count)]
    )

    def noisy(rows: Tensor) -> Tensor:
        return torch.cat([rows, torch.randn(len(rows), 500, generator=generator)], 1)

    few = of._replace(
        train=noisy(of.train[some]), train_labels=of.train_labels[some], test=noisy(of.test)
    )
    run = train(
        few,
        "ccl",
        seed=seed,
        steps=400,
        learning_rate=3e-3,
        make_head=lambda w: MLPHead(w, WIDTH, hidden_size=512),
    )
    return findings(run, side=side)


def broadcast(z: Tensor, y: Tensor) -> Tensor:
    """All pairs; a column of labels against a row of distances makes every combination of both."""
    one, other = torch.triu_indices(len(z), len(z), 1)
    distance = (z[one] - z[other]).square().sum(1)
    same = (y[one] == y[other]).to(z.dtype)[:, None]
    return (same * distance + (1 - same) * (1 - distance).clamp(min=0)).mean()


def _wrong_labels(share: float) -> Callable[[Rows, int], list[Finding]]:
    def run(of: Rows, seed: int) -> list[Finding]:
        """Labels of the test side, which are looked at after the training; the training side has as many wrong ones."""
        generator = np.random.default_rng(seed)

        def wrong(labels: Tensor) -> Tensor:
            new = labels.clone()
            classes = labels.unique()
            rows = generator.choice(len(labels), max(1, round(share * len(labels))), replace=False)
            for row in rows:
                others = classes[classes != labels[row]]
                new[row] = others[generator.integers(len(others))]
            return new

        planted = of._replace(
            train_labels=wrong(of.train_labels), test_labels=wrong(of.test_labels)
        )
        return findings(train(planted, "scl", seed=seed))

    return run


def _copied(where: str) -> Callable[[Rows, int], list[Finding]]:
    """A quarter of the rows of one side are copied."""

    def run(of: Rows, seed: int) -> list[Finding]:
        count = len(of.train) // 4
        if where == "inside":
            rows, labels = of.train[:count], of.train_labels[:count]
        elif where == "between":
            rows, labels = of.train[:count], (of.train_labels[:count] + 1) % of.class_count
        else:
            some = of.test[:count]
            # unseen test classes have no number on the training side, so any will do
            rows, labels = some, of.test_labels[:count] % of.class_count
        planted = of._replace(
            train=torch.cat([of.train, rows]), train_labels=torch.cat([of.train_labels, labels])
        )
        return findings(train(planted, "scl", seed=seed))

    return run


def _single_rows(of: Rows, seed: int) -> list[Finding]:
    """A tenth of the training rows are each a class of their own."""
    labels = of.train_labels.clone()
    alone = torch.arange(0, len(labels), 10)
    labels[alone] = of.class_count + torch.arange(len(alone))
    return findings(train(of._replace(train_labels=labels), "scl", seed=seed))


def _labels_unused(of: Rows, seed: int) -> list[Finding]:
    return findings(train(of, FunctionLoss(broadcast), seed=seed))


def _planted(loss: str, **changes: Any) -> Callable[[Rows, int], list[Finding]]:
    of_findings = {key: changes.pop(key) for key in ("side", "norms") if key in changes}
    return lambda of, seed: findings(train(of, loss, seed=seed, **changes), **of_findings)


FAULTS = (
    Fault("collapse", "dead ReLUs, triplet", _planted("triplet", make_head=constant)),
    Fault("collapse", "dead ReLUs, scl", _planted("scl", make_head=constant)),
    Fault("loss-at-collapse", "dead ReLUs, triplet", _planted("triplet", make_head=constant)),
    Fault("loss-at-collapse", "dead ReLUs, info_nce", _planted("info_nce", make_head=constant)),
    Fault("loss-at-collapse", "dead ReLUs, scl", _planted("scl", make_head=constant)),
    Fault("loss-at-collapse", "dead ReLUs, n_pair", _planted("n_pair", make_head=constant)),
    Fault("cone", "features not centred, hardly trained", _cone),
    Fault("few-directions", "a layer of two units before the head", _planted("scl", make_head=_bottleneck)),
    Fault("class-collapse", "one class is copies of one image", _one_class_of_copies),
    Fault("neural-collapse", "three rows a class, 400 steps, training side", lambda of, seed: _by_heart(of, seed, "train")),
    Fault("same-place", "one class with two labels", _two_labels),
    Fault("not-separated", "labels in another order than rows", _shuffled),
    Fault("hubs", "blank inputs among noisy ones, features not centred", _blank_rows),
    Fault("norms", "dot products of a head that learned cosines", _planted("arcface", make_head=_free, norms=True)),
    Fault("no-positives", "batches of 4", _few_in_a_batch),
    Fault("margin", "triplet, margin 5", _planted("triplet", settings={"margin": 5.0})),
    Fault("margin", "contrastive, margin 2.5", _planted("contrastive", settings={"margin": 2.5})),
    Fault("margin", "triplet, margin 0.001", _planted("triplet", settings={"margin": 0.001})),
    Fault("temperature", "info_nce, temperature 20", _planted("info_nce", settings={"temperature": 20.0})),
    Fault("temperature", "scl, temperature 20", _planted("scl", settings={"temperature": 20.0})),
    Fault("temperature", "info_nce, temperature 0.002", _planted("info_nce", settings={"temperature": 0.002})),
    Fault("untrained-loss-parameters", "arcface, the head alone in the optimizer", _planted("arcface", only_head=True)),
    Fault("dead-gradient", "embeddings rounded", _planted("triplet", make_head=Rounded)),
    Fault("dead-gradient", "dead ReLUs, contrastive", _planted("contrastive", make_head=constant)),
    Fault("exploding-gradient", "dot products not normalised, SGD at rate 5", _planted("n_pair", make_head=_free, optimizer="sgd", learning_rate=5.0)),
    Fault("few-active", "three rows a class, 400 steps", _by_heart),
    Fault("train-test-gap", "three rows a class, noise, a large head", _by_heart),
    Fault("labels-unused", "labels (B, 1) against distances (B,)", _labels_unused),
    Fault("label-errors", "1 % wrong", _wrong_labels(0.01)),
    Fault("label-errors", "5 % wrong", _wrong_labels(0.05)),
    Fault("label-errors", "20 % wrong", _wrong_labels(0.2)),
    Fault("copies", "a fifth of the training rows", _copied("inside")),
    Fault("copies-between-classes", "a fifth of the training rows, relabelled", _copied("between")),
    Fault("copies-across-split", "a fifth of the training rows", _copied("across")),
    Fault("small-classes", "a tenth of the rows are classes of their own", _single_rows),
)  # fmt: skip


def planted(fault: Fault, of: Rows, seed: int) -> str:
    """The level that a fault was found at; `ok` if it was not."""
    levels = {found.name: found.level for found in fault.run(of, seed)}
    return levels.get(fault.finding, "ok")

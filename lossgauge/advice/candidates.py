"""What is tried: every loss of the package, each with the same number of settings, samplers and batch sizes.

Bergstra and Bengio 2012 for settings drawn at random: https://www.jmlr.org/papers/v13/bergstra12a.html
"""

from __future__ import annotations

import hashlib
import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from lossgauge.data.samplers import random_batches, share_without_positive
from lossgauge.losses.registry import settings_of
from lossgauge.plan.loss import BATCH_SIZE, LEARNING_RATE, SAMPLER, Choices, Fixed, LossPlan, Range
from lossgauge.plan.study import Plan
from lossgauge.study.schedule.search import space

LARGER, FEW_ROWS = 4, 2_000
"""The second batch size is so many times the first; with fewer training rows than this, both are halved. Our choice."""

LONELY = 0.5
"""Random batches with a larger share of rows without a positive are not tried: most losses would see little. Our choice."""


class Batching(NamedTuple):
    """How batches are drawn."""

    sampler: str
    batch_size: int

    @property
    def settings(self) -> dict[str, Fixed]:
        return {BATCH_SIZE: self.batch_size, SAMPLER: self.sampler}


def samples_per_class(sizes: Int[np.ndarray, " classes"]) -> int:
    """Of M-per-class batches: 4, or 2 if half of the classes have fewer than 4 training rows."""
    return 4 if np.median(sizes) >= 4 else 2


def batchings(labels: Int[Tensor, " train"]) -> list[Batching]:
    """The batchings that are tried, from the labels of the training rows; never none.

    Two batch sizes, the second only with rows for four such batches; each with random batches, and with M-per-class
    batches where there are enough classes. Random batches are left out if most of their rows have no positive.
    """
    rows = len(labels)
    sizes = labels.unique(return_counts=True)[1].numpy()
    several = samples_per_class(sizes)
    small = 64 if rows >= FEW_ROWS else min(32, max(2, rows))
    tried: list[Batching] = []
    for size in (small, *([small * LARGER] if rows >= 4 * LARGER * small else ())):
        batches = random_batches(torch.arange(rows), batch_size=size, seed=0, epoch=1)
        if share_without_positive([labels[batch] for batch in batches]) <= LONELY:
            tried.append(Batching("random", size))
        if (sizes >= several).sum() * several >= size:
            tried.append(Batching("m_per_class", size))
    return tried or [Batching("random", small)]


def pair_batchings(queries: int) -> list[Batching]:
    """The batchings that are tried with so many training queries: two sizes, the second only with queries for four such batches."""
    small = 64 if queries >= FEW_ROWS else min(32, max(2, queries))
    larger = [small * LARGER] if queries >= 4 * LARGER * small else []
    return [Batching("random", size) for size in (small, *larger)]


def candidates(name: str, plan: Plan, tried: list[Batching], count: int) -> list[LossPlan]:
    """`count` variants of a loss. The first has the defaults of the loss and the first batching; the settings of the
    others are drawn from the ranges that `tune` searches, and the batchings take turns.

    They depend on the name of the loss alone, and the first ones of a larger number are those of a smaller one.
    """
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    generator = np.random.default_rng(seed)
    searched = space(LossPlan(name=name), plan)
    first = LossPlan(name=name, settings={LEARNING_RATE: plan.learning_rate, **tried[0].settings})
    variants = [first]
    for number in range(1, count):
        batching = tried[number % len(tried)]
        drawn = {key: _drawn(name, key, of, generator) for key, of in searched.items()}
        variants.append(LossPlan(name=name, settings={**drawn, **batching.settings}))
    return variants


def all_candidates(plan: Plan, tried: list[Batching], count: int) -> list[LossPlan]:
    """`count` variants of every loss of the plan; first every loss with its defaults, so that a search that is stopped early
    has seen all losses.
    """
    of_losses = [candidates(loss.name, plan, tried, count) for loss in plan.losses]
    return [one for same_number in zip(*of_losses, strict=True) for one in same_number]


def _drawn(name: str, key: str, of: Range | Choices, generator: np.random.Generator) -> Fixed:
    if isinstance(of, Choices):
        return of.choices[int(generator.integers(len(of.choices)))]
    place = float(generator.random())
    if of.log:
        value = math.exp(math.log(of.low) + place * (math.log(of.high) - math.log(of.low)))
    else:
        value = of.low + place * (of.high - of.low)
    known = settings_of(name).get(key)
    if known is not None and known.kind is int:
        return round(value)
    # as it is shown, so that a copy of the shown line is the same run
    return min(max(float(f"{value:.3g}"), of.low), of.high)

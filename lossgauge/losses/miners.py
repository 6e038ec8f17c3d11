"""Miners: which positive and negative pairs of a batch a loss sees. Pure functions of a matrix and masks, that return smaller masks.

The semantics are those of pytorch-metric-learning 2.9. It returns lists of triplets or pairs; here the result is always two masks of pairs, so that
every pair loss can take it. For `hard` and `multi_similarity` that is the same. `semihard` keeps each pair that is part of a semi-hard
triplet, and a triplet loss then also sees the other triplets of these pairs. `distance` keeps a drawn negative once, however often it is drawn.
An anchor without a kept positive or without a kept negative keeps none.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lossgauge.errors import InputError, nearest

MINERS = ("all", "hard", "semihard", "distance", "multi_similarity")

SEMIHARD_MARGIN, EPSILON, CUTOFF, FARTHEST = 0.2, 0.1, 0.5, 1.4
"""Of TripletMarginMiner, MultiSimilarityMiner, and the two of DistanceWeightedMiner: the defaults there."""


class Masks(NamedTuple):
    """The pairs of a batch, one row for each anchor."""

    positive: Bool[Tensor, "rows columns"]
    negative: Bool[Tensor, "rows columns"]

    def of_whole_anchors(self) -> Masks:
        """Without the pairs of anchors that have no positive or no negative."""
        whole = self.positive.any(dim=1, keepdim=True) & self.negative.any(dim=1, keepdim=True)
        return Masks(self.positive & whole, self.negative & whole)


def mined(
    miner: str,
    similarity: Float[Tensor, "rows columns"],
    masks: Masks,
    *,
    width: int,
    generator: torch.Generator | None = None,
) -> Masks:
    """The masks that a miner keeps, from the cosines of unit vectors of `width` numbers. Only `distance` draws at random.

    Without a `generator` it draws from torch's own. Raises InputError for an unknown miner.
    """
    if miner == "all":
        return masks
    if miner == "hard":
        return hard(similarity, masks)
    if miner == "semihard":
        return semihard(distances(similarity), masks, margin=SEMIHARD_MARGIN)
    if miner == "distance":
        return distance_weighted(distances(similarity), masks, width=width, generator=generator)
    if miner == "multi_similarity":
        return multi_similarity(similarity, masks, epsilon=EPSILON)
    raise InputError(f"unknown miner {miner!r}{nearest(miner, MINERS)}: one of {', '.join(MINERS)}")


def distances(similarity: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """Euclidean distances of unit vectors, from their cosines."""
    return (2 - 2 * similarity).clamp(min=0).sqrt()


def hard(similarity: Float[Tensor, "rows columns"], masks: Masks) -> Masks:
    """The least similar positive and the most similar negative of each anchor."""
    farthest = similarity.masked_fill(~masks.positive, torch.inf).argmin(dim=1, keepdim=True)
    closest = similarity.masked_fill(~masks.negative, -torch.inf).argmax(dim=1, keepdim=True)
    none = torch.zeros_like(masks.positive)
    return Masks(
        none.scatter(1, farthest, True) & masks.positive,
        none.scatter(1, closest, True) & masks.negative,
    ).of_whole_anchors()


def semihard(distance: Float[Tensor, "rows columns"], masks: Masks, *, margin: float) -> Masks:
    """Each pair of a triplet whose negative is farther than its positive, by at most `margin`."""
    # the nearest negative beyond a positive decides for the positive, and the farthest positive before a negative for the negative
    to_negatives = distance.masked_fill(~masks.negative, torch.inf).sort(dim=1).values
    beyond = torch.searchsorted(to_negatives, distance.contiguous(), right=True)
    padded = torch.nn.functional.pad(to_negatives, (0, 1), value=torch.inf)
    positive = masks.positive & (padded.gather(1, beyond) - distance <= margin)
    to_positives = distance.masked_fill(~masks.positive, -torch.inf).sort(dim=1).values
    before = torch.searchsorted(to_positives, distance.contiguous(), right=False)
    padded = torch.nn.functional.pad(to_positives, (1, 0), value=-torch.inf)
    negative = masks.negative & (distance - padded.gather(1, before) <= margin)
    return Masks(positive, negative)


def distance_weighted(
    distance: Float[Tensor, "rows columns"],
    masks: Masks,
    *,
    width: int,
    generator: torch.Generator | None = None,
) -> Masks:
    """All positives, and as many drawn negatives as there are positives, each by `distance_weights`; drawn twice, it is kept once."""
    weights = distance_weights(distance, masks.negative, width=width)
    anchors = (masks.positive.any(dim=1) & (weights.sum(dim=1) > 0)).nonzero().flatten()
    negative = torch.zeros_like(masks.negative)
    if len(anchors):
        draws = masks.positive[anchors].sum(dim=1)
        drawn = torch.multinomial(
            weights[anchors], int(draws.max()), replacement=True, generator=generator
        )
        rank = torch.arange(drawn.shape[1], device=drawn.device)
        # a draw beyond the number of an anchor's positives repeats its first one
        drawn = torch.where(rank < draws[:, None], drawn, drawn[:, :1])
        negative[anchors] = negative[anchors].scatter(1, drawn, True)
    return Masks(masks.positive, negative).of_whole_anchors()


def distance_weights(
    distance: Float[Tensor, "rows columns"],
    negative: Bool[Tensor, "rows columns"],
    *,
    width: int,
) -> Float[Tensor, "rows columns"]:
    """The probability of each negative: inverse to the density of distances on the sphere, which is d^(n−2)·(1 − d²/4)^((n−3)/2).

    Distances below `CUTOFF` count as that, and those from `FARTHEST` on are never drawn. Rows sum to 1, or are 0 without such a
    negative. Wu et al. 2017, arXiv 1706.07567.
    """
    d = distance.clamp(min=CUTOFF)
    drawable = negative & (d < FARTHEST)
    inside = torch.where(drawable, d, 1)
    logs = (2 - width) * inside.log() - (width - 3) / 2 * (1 - inside.square() / 4).log()
    weights = logs.masked_fill(~drawable, -torch.inf).softmax(dim=1)
    return torch.where(drawable.any(dim=1, keepdim=True), weights, 0)


def multi_similarity(
    similarity: Float[Tensor, "rows columns"], masks: Masks, *, epsilon: float
) -> Masks:
    """Positives less similar than the most similar negative plus `epsilon`; negatives more similar than the least similar positive minus it."""
    closest = similarity.masked_fill(~masks.negative, -torch.inf).amax(dim=1, keepdim=True)
    farthest = similarity.masked_fill(~masks.positive, torch.inf).amin(dim=1, keepdim=True)
    return Masks(
        masks.positive & (similarity - epsilon < closest),
        masks.negative & (similarity + epsilon > farthest),
    ).of_whole_anchors()

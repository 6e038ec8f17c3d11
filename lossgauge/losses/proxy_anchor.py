"""Proxy anchor loss: one learnable proxy for each class is the anchor, the samples of the batch its positives and negatives.

Kim et al. 2020, eq. 4. The value is the mean over proxies with positives of log(1 + Σ_{x∈p} e^{−α(s_xp − δ)}), plus the mean over all proxies of
log(1 + Σ_{x∉p} e^{α(s_xp + δ)}). A term is a proxy, with both of its parts; s is a cosine.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lossgauge.losses.base import Outcome, effective_share, forces
from lossgauge.losses.proxies import ProxyLoss
from lossgauge.losses.settings import SearchRange, above_zero, setting, zero_or_more
from lossgauge.losses.softmax_family import log_one_plus_sum
from lossgauge.sphere import on_sphere, through_normalization


class ProxyAnchor(ProxyLoss):
    """Proxy anchor loss; it normalises embeddings and proxies.

    Each proxy's value, count and W are divided among the samples by their share of its gradient, so the W of a sample is a mean over
    proxies, weighted by the forces. W of a proxy is the mean of its Σ/(1 + Σ), of the parts that have samples.
    """

    group = "other"

    margin: float = setting(
        default=0.1, check=zero_or_more, search=SearchRange(0.01, 0.5, log=True)
    )
    alpha: float = setting(default=32.0, check=above_zero, search=SearchRange(4.0, 128.0, log=True))

    def outcome(
        self, embeddings: Float[Tensor, "batch width"], labels: Int[Tensor, " batch"]
    ) -> Outcome:
        self.check_fit(embeddings, labels)
        unit, norms = on_sphere(embeddings)
        directions, lengths = on_sphere(self.proxies.to(unit.dtype))
        cosine = directions @ unit.T
        own = labels == torch.arange(self.class_count, device=labels.device)[:, None]
        others = ~own
        with_positives, with_negatives = own.any(dim=1), others.any(dim=1)
        positive = log_one_plus_sum((cosine - self.margin).mul_(-self.alpha), own)
        negative = log_one_plus_sum(cosine.add_(self.margin).mul_(self.alpha), others)
        # a term is averaged over all proxies, so the mean over those with positives needs a factor
        factor = self.class_count / with_positives.sum()
        value = torch.addcmul(negative.value, positive.value, factor)
        parts = (with_positives.int() + with_negatives.int()).clamp(min=1)
        weight = (positive.weight + negative.weight) / parts
        attraction = positive.shares.mul_(-self.alpha * factor)
        repulsion = negative.shares.mul_(self.alpha)
        pull, push = attraction.T @ directions, repulsion.T @ directions
        gradient = attraction.add_(repulsion)
        at_directions = gradient @ unit
        share = gradient.abs().double()
        total = share.sum(dim=1, keepdim=True)
        # without any force, all samples have the same share
        share = torch.where(total > 0, share / total, 1 / len(unit))
        of_samples = torch.stack((value, weight)).double() @ share
        return Outcome(
            value=of_samples[0].to(unit.dtype),
            counts=share.sum(dim=0),
            active=share[value > self.tolerance].sum(dim=0),
            weight=of_samples[1].to(unit.dtype),
            forces=forces(*through_normalization(torch.stack((pull, push)), unit, norms)),
            skipped_anchors=0,
            effective_share=effective_share(gradient, pairs=gradient.numel()),
            parameter_gradients=(through_normalization(at_directions, directions, lengths),),
        )

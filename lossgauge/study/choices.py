"""What the paper leaves open, and what we set: shown in every report as our choice."""

from __future__ import annotations

from lossgauge.study.plan import Plan
from lossgauge.types import Record


def choices(plan: Plan) -> Record:
    """Each setting that arXiv 2601.21450 does not publish → what it is here and why."""
    return {
        "backbone": f"{_backbones(plan)}: the checkpoint of the paper's ViT-B/32 is not public, that of this network is",
        "features": "less the mean of the training rows, so that the direction all images share does not "
        "stand in for a class structure"
        if plan.center_features
        else "as they come from the backbone",
        "head": f"one linear layer to {plan.embedding_size}, then L2 normalisation: the smallest head",
        "loss settings": "as in the settings column, not tuned; where the study file gives none, the default of "
        "the loss's own paper or common use. CCL's are not public: 32, 0.2 and 1 are its defaults here",
        "reducer": "the mean over all valid terms, for every loss",
        "sampler": f"{_SAMPLERS[plan.sampler]}, the same for every loss of a seed; a remainder is dropped",
        "splits": "official where there are, class-disjoint for orl-faces (20 people train, 20 test), "
        "first half of each class for digits",
        "selection": "the last epoch: no epoch is picked by its test result",
        "active, term rule": "a term above 1e-6",
        "active, gradient rule": "a sample whose gradient is above 1 % of the median of the first ten steps",
    }


_SAMPLERS = {
    "random": "random batches",
    "m_per_class": "the same number of samples of each class of a batch",
    "stratified": "batches that mirror the classes",
    "stratified_kmeans": "batches that mirror k-means cells of the frozen features, in antithetic pairs",
}


def _backbones(plan: Plan) -> str:
    if isinstance(plan.backbone, str):
        return plan.backbone
    return ", ".join(f"{backbone} for {dataset}" for dataset, backbone in plan.backbone.items())

"""The columns of `probe.rows`, in their order: what each is, and what a good value is. `docs/probe.md` says more."""

from __future__ import annotations

COLUMNS: dict[str, str] = {
    "step": "Updates before this one, skipped ones included.",
    "epoch": "Number of the epoch, from 1: calls of `probe.epoch` after the first update count.",
    "skipped": "Whether the update was not made: a scaler found an overflow, or the loop cleared the gradients. Rare after the first updates.",
    "not_finite": "What is NaN or infinite, with its first row; empty if all is finite.",
    "loss_value": "The loss, mean over the micro-batches; of several losses their sum, in units of the first.",
    "loss_factor": "What the loss was multiplied by before backward, added up: scale of the scaler × 1 / micro-batches × weight. 1 for a plain loop.",
    "micro_batch_count": "Calls of the first loss that lead to this update.",
    "batch_size": "Rows of embeddings in all of them.",
    "embedding_norm": "Mean length of an embedding. 1 if the model normalises.",
    "embedding_norm_min": "Length of the shortest embedding.",
    "embedding_norm_max": "Length of the longest embedding.",
    "batch_class_count": "Classes in a micro-batch, mean.",
    "lone_ratio": "Share of rows that are alone in their class: they have no positive. Near 0 is good.",
    "term_count": "Terms of the loss: pairs, triplets or samples.",
    "active_count": "Terms above zero.",
    "term_active_ratio": "Share of terms above zero. It falls as a margin loss learns, and stays at 1 for a softmax loss.",
    "skipped_anchor_ratio": "Share of samples that the loss does not use as anchors. Near 0 is good.",
    "mean_weight": "Share of a full-strength update that a term gets; it falls from near 1.",
    "effective_share": "Effective number of pairs in the update, as a share of all; low means that a few pairs dominate.",
    "pull": "Mean length of the part of a sample's gradient that pulls it to its class.",
    "push": "Mean length of the part that pushes it away from others.",
    "embedding_gradient": "Mean length of ∂loss/∂z over the samples. Compare it over time, not between losses.",
    "embedding_gradient_p10": "A tenth of the samples have a shorter gradient.",
    "embedding_gradient_p50": "Half of the samples have a shorter gradient.",
    "embedding_gradient_p90": "Nine tenths of the samples have a shorter gradient.",
    "tangent_gradient": "Mean length of the part of it across the embedding: what can rotate it. Never above the whole.",
    "gradient_per_active": "Gradient at the embedding divided by the share of active terms.",
    "head_gradient": "Length of the gradient at the parameters of the optimizers, without those of the loss, before clipping.",
    "loss_gradient": "The same at the parameters of the loss, such as the rows of ArcFace.",
    "clipped_head_gradient": "Length of the gradient that the update used, after clipping. 0 if it was cleared before.",
    "clipped_loss_gradient": "The same at the parameters of the loss.",
    "gradient_active_ratio_low": "Share of samples whose gradient is above 0.1 % of that at the start (g₀).",
    "gradient_active_ratio": "Share above 1 % of it. It falls as any loss learns.",
    "gradient_active_ratio_high": "Share above 10 % of it.",
}
"""With several losses, `loss_value_<name>` and `loss_weight_<name>` of each follow `micro_batch_count`. A loss's own numbers
(`Loss.columns`, such as `penalty_active`) follow `push`."""

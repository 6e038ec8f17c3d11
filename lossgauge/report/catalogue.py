"""Every number the report shows: its title, its unit, which way is good, and what it says in plain words."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from lossgauge.claims.evidence import Interval
from lossgauge.claims.numbers import rounded, short

Unit = Literal["percent", "number", "small", "epochs", "milliseconds"]


class Metric(NamedTuple):
    column: str
    """Column of a summary row; of a reference row without the `test_`."""
    title: str
    unit: Unit
    meaning: str
    """One sentence or two: what it is, and what a good value is."""
    better: Literal["higher", "lower"] | None = None
    """None where neither way is good in itself."""


RETRIEVAL = (
    Metric("recall_at_1", "R@1", "percent", "Share of test samples whose nearest other sample is of their class. 100 % is perfect; compare it with the untrained head.", "higher"),
    Metric("map_at_r", "MAP@R", "percent", "Mean average precision over the R nearest samples, R being the number of others in the class. Stricter than R@1: the whole class must come first. 100 % is perfect.", "higher"),
)  # fmt: skip
VARIANCE = (
    Metric("test_intra", "intra", "number", "Mean squared distance of test samples to their class mean, from 0 (each class is a point) to 1. Low is compact; near 0 the differences inside a class are lost, which unseen classes may need."),
    Metric("test_inter", "inter", "number", "Mean squared distance of two class means, from 0 (all in one place) to about 2. High is well separated; read it together with intra."),
    Metric("test_offset", "offset", "number", "Squared length of the mean of the class means: 0 is a sphere in balanced use, 1 is everything in one direction. Low leaves room; on the sphere, intra + offset + a share of inter is exactly 1."),
    Metric("test_spacing_cv", "spacing CV", "percent", "Spread of the distances between class means, over their mean. 0 % is evenly spaced classes; high means that some classes crowd together."),
    Metric("test_margin", "margin", "number", "Distance of a class mean to its nearest rival, less two standard deviations of the class, averaged over classes. Above 0 a class stands clear of its rival; below 0 they overlap."),
)  # fmt: skip
GREEDINESS = (
    Metric("term_active_ratio", "active, terms", "percent", "Share of the loss's terms (pairs, triplets, samples) that are above zero, mean over training. Softmax losses stay near 100 % by construction."),
    Metric("gradient_active_ratio", "active, gradient", "percent", "Share of samples whose gradient is above 1 % of the run's starting gradient, mean over training. It moves for every loss: high is many updates, low is few. N-pair moves two samples of each class by its definition."),
    Metric("mean_weight", "W", "percent", "The share of a full-strength update that a term gets, mean over training: 100 % pushes as hard as it can, 0 % is satisfied."),
    Metric("embedding_gradient", "gradient, embedding", "small", "Length of the gradient that one embedding gets, mean over samples and training: the size of an update. Temperature and scale stretch it, so compare losses only in their given settings."),
    Metric("head_gradient", "gradient, head", "small", "Length of the gradient at the head's weights, mean over training. Adam divides much of it away."),
    Metric("loss_gradient", "gradient, loss’s own", "small", "Length of the gradient at the loss's own parameters (ArcFace's weights, CCL's centers). Most losses have none: —."),
    Metric("pull", "pull", "small", "Mean length of the gradient's part that draws a sample to its own class, over training."),
    Metric("push", "push", "small", "Mean length of the gradient's part that drives a sample off other classes, over training. Next to pull it says what the loss spends its force on."),
    Metric("decay_epochs", "decay", "epochs", "Epochs until the loss is down to 10 % of its first value. Losses with a floor (SCL, N-pair) often never get there: not reached is then normal."),
    Metric("compaction_epochs", "compaction", "epochs", "Epochs until 90 % of the whole fall of intra on the training side is done. Few is greedy: the classes are compact early."),
)  # fmt: skip
FURTHER = (
    Metric("recall_at_2", "R@2", "percent", "Share of test samples with one of their class among the 2 nearest. 100 % is perfect.", "higher"),
    Metric("recall_at_4", "R@4", "percent", "As R@2, among the 4 nearest.", "higher"),
    Metric("recall_at_8", "R@8", "percent", "As R@2, among the 8 nearest.", "higher"),
    Metric("r_precision", "R-precision", "percent", "Share of the R nearest samples that are of the class, whatever their order. 100 % is perfect.", "higher"),
    Metric("test_spacing_min_ratio", "closest pair", "percent", "Distance of the two closest class means over the mean distance: near 0 % two classes sit in one place."),
    Metric("test_intra_inter_ratio", "intra / inter", "number", "Variance inside classes over the distance between them; low is well clustered."),
    Metric("test_cdnv", "CDNV", "number", "Class-distance normalised variance, the mean over pairs of classes; low is well clustered, 0 is neural collapse."),
    Metric("test_effective_rank", "effective rank", "number", "How many directions the test embeddings use. Below 2 the space has collapsed onto a line; about the number of classes less one is usual."),
    Metric("test_alignment", "alignment", "number", "Mean squared distance of two samples of one class; low is aligned."),
    Metric("test_uniformity", "uniformity", "number", "How evenly the sphere is filled: −4 is near uniform, 0 is one point. It does not see a collapse onto few directions."),
    Metric("train_intra", "intra, train", "number", "intra on the training side; far below the test's means that compactness does not carry over."),
    Metric("train_inter", "inter, train", "number", "inter on the training side."),
    Metric("gradient_active_ratio_low", "active at 0.1 %", "percent", "The gradient rule with a threshold ten times lower: how much the readout depends on our choice of 1 %."),
    Metric("gradient_active_ratio_high", "active at 10 %", "percent", "The gradient rule with a threshold ten times higher."),
    Metric("effective_share", "effective share", "percent", "Effective number of pairs that carry the update, over all pairs: low means that a few pairs decide."),
    Metric("gradient_per_active", "gradient / active", "small", "Gradient at the embedding over the active ratio of terms: the size of an update if only active terms were averaged."),
    Metric("skipped_anchor_ratio", "skipped anchors", "percent", "Share of samples without a partner in their batch, which the loss leaves out. Near 0 % is good.", "lower"),
    Metric("floor_decay_epochs", "decay to floor", "epochs", "Epochs until 90 % of the whole fall of the loss is done: fair to losses with a floor."),
    Metric("loss_value", "loss", "number", "The loss at the end. Not comparable between losses."),
    Metric("selected_epoch", "selected epoch", "epochs", "The epoch that counts, where not the last one does: the numbers of the space at the end are of this epoch."),
    Metric("step_milliseconds", "step", "milliseconds", "Time of one training step on this machine.", "lower"),
    Metric("probe_share", "probe’s share", "percent", "Share of a step's time that the measuring takes.", "lower"),
)  # fmt: skip
METRICS = {m.column: m for m in RETRIEVAL + VARIANCE + GREEDINESS + FURTHER}


def shown(value: float, unit: Unit) -> str:
    """`value` in its unit, in as many digits as a reader can use; never "−0.0"."""
    if not math.isfinite(value):
        return "—"
    if unit == "small":
        return short(value, 3)
    if unit == "percent":
        return f"{rounded(100 * value, 1)}\u00a0%"
    if unit == "epochs":
        return rounded(value, 1)
    if unit == "milliseconds":
        return f"{value:.3g}\u00a0ms"
    return rounded(value, 3 if abs(value) < 10 else 1)


def shown_interval(over: Interval, unit: Unit) -> str:
    """`91.2 % ± 0.4`; the mean alone where there is no interval."""
    text = shown(over.mean, unit)
    if over.half_width is None:
        return text
    return f"{text} ± {shown_half_width(over.half_width, over.mean, unit)}"


def shown_half_width(half_width: float, mean: float, unit: Unit) -> str:
    """The ± of an interval in the digits of its mean; one that rounds to nothing is "< 0.1", not 0."""
    if unit in ("small", "milliseconds"):
        return short(half_width, 3) if unit == "small" else f"{half_width:.2g}"
    scaled = 100 * half_width if unit == "percent" else half_width
    digits = 1 if unit in ("percent", "epochs") or abs(mean) >= 10 else 3
    least = 10.0**-digits
    return f"< {least:.{digits}f}" if scaled < least / 2 else f"{scaled:.{digits}f}"

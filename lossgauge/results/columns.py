"""Every column of the runs, once: its title, its unit, which way is better, and what it means in plain words."""

from __future__ import annotations

from typing import Literal, NamedTuple

from lossgauge.stats.number_format import Unit


class Column(NamedTuple):
    name: str
    """Column of a summary row; of a reference row without the `test_`."""
    title: str
    unit: Unit
    meaning: str
    """One sentence or two: what it is, and what a good value is."""
    better: Literal["higher", "lower"] | None = None
    """None where neither way is good in itself."""


RETRIEVAL = (
    Column("recall_at_1", "R@1", "percent", "Share of test samples whose nearest other sample is of their class. 100 % is perfect; compare it with the untrained head.", "higher"),
    Column("map_at_r", "MAP@R", "percent", "Mean average precision over the R nearest samples, R being the number of others in the class. Stricter than R@1: the whole class must come first. 100 % is perfect.", "higher"),
)  # fmt: skip
VARIANCE = (
    Column("test_intra", "intra", "number", "Mean squared distance of test samples to their class mean, from 0 (each class is a point) to 1. Low is compact; near 0 the differences inside a class are lost, which unseen classes may need."),
    Column("test_inter", "inter", "number", "Mean squared distance of two class means, from 0 (all in one place) to about 2. High is well separated; read it together with intra."),
    Column("test_offset", "offset", "number", "Squared length of the mean of the class means: 0 is a sphere in balanced use, 1 is everything in one direction. Low leaves room; on the sphere, intra + offset + a share of inter is exactly 1."),
    Column("test_spacing_cv", "spacing CV", "percent", "Spread of the distances between class means, over their mean. 0 % is evenly spaced classes; high means that some classes crowd together."),
    Column("test_margin", "margin", "number", "Distance of a class mean to its nearest rival, less two standard deviations of the class, averaged over classes. Above 0 a class stands clear of its rival; below 0 they overlap."),
)  # fmt: skip
GREEDINESS = (
    Column("term_active_ratio", "active, terms", "percent", "Share of the loss's terms (pairs, triplets, samples) that are above zero, mean over training. Softmax losses stay near 100 % by construction."),
    Column("gradient_active_ratio", "active, gradient", "percent", "Share of samples whose gradient is above 1 % of the run's starting gradient, mean over training. It moves for every loss: high is many updates, low is few. N-pair moves two samples of each class by its definition."),
    Column("mean_weight", "W", "percent", "The share of a full-strength update that a term gets, mean over training: 100 % pushes as hard as it can, 0 % is satisfied."),
    Column("embedding_gradient", "gradient, embedding", "small", "Length of the gradient that one embedding gets, mean over samples and training: the size of an update. Temperature and scale stretch it, so compare losses only in their given settings."),
    Column("head_gradient", "gradient, head", "small", "Length of the gradient at the head's weights, mean over training. Adam divides much of it away."),
    Column("loss_gradient", "gradient, loss’s own", "small", "Length of the gradient at the loss's own parameters (ArcFace's weights, CCL's centers). Most losses have none: —."),
    Column("pull", "pull", "small", "Mean length of the gradient's part that draws a sample to its own class, over training."),
    Column("push", "push", "small", "Mean length of the gradient's part that drives a sample off other classes, over training. Next to pull it says what the loss spends its force on."),
    Column("decay_epochs", "decay", "epochs", "Epochs until the loss is down to 10 % of its first value. Losses with a floor (SCL, N-pair) often never get there: not reached is then normal."),
    Column("compaction_epochs", "compaction", "epochs", "Epochs until 90 % of the whole fall of intra on the training side is done. Few is greedy: the classes are compact early."),
)  # fmt: skip
FURTHER = (
    Column("recall_at_2", "R@2", "percent", "Share of test samples with one of their class among the 2 nearest. 100 % is perfect.", "higher"),
    Column("recall_at_4", "R@4", "percent", "As R@2, among the 4 nearest.", "higher"),
    Column("recall_at_8", "R@8", "percent", "As R@2, among the 8 nearest.", "higher"),
    Column("r_precision", "R-precision", "percent", "Share of the R nearest samples that are of the class, whatever their order. 100 % is perfect.", "higher"),
    Column("test_spacing_min_ratio", "closest pair", "percent", "Distance of the two closest class means over the mean distance: near 0 % two classes sit in one place."),
    Column("test_intra_inter_ratio", "intra / inter", "number", "Variance inside classes over the distance between them; low is well clustered."),
    Column("test_cdnv", "CDNV", "number", "Class-distance normalised variance, the mean over pairs of classes; low is well clustered, 0 is neural collapse."),
    Column("test_effective_rank", "effective rank", "number", "How many directions the test embeddings use. Below 2 the space has collapsed onto a line; about the number of classes less one is usual."),
    Column("test_alignment", "alignment", "number", "Mean squared distance of two samples of one class; low is aligned."),
    Column("test_uniformity", "uniformity", "number", "How evenly the sphere is filled: −4 is near uniform, 0 is one point. It does not see a collapse onto few directions."),
    Column("train_intra", "intra, train", "number", "intra on the training side; far below the test's means that compactness does not carry over."),
    Column("train_inter", "inter, train", "number", "inter on the training side."),
    Column("gradient_active_ratio_low", "active at 0.1 %", "percent", "The gradient rule with a threshold ten times lower: how much the readout depends on our choice of 1 %."),
    Column("gradient_active_ratio_high", "active at 10 %", "percent", "The gradient rule with a threshold ten times higher."),
    Column("effective_share", "effective share", "percent", "Effective number of pairs that carry the update, over all pairs: low means that a few pairs decide."),
    Column("gradient_per_active", "gradient / active", "small", "Gradient at the embedding over the active ratio of terms: the size of an update if only active terms were averaged."),
    Column("skipped_anchor_ratio", "skipped anchors", "percent", "Share of samples without a partner in their batch, which the loss leaves out. Near 0 % is good.", "lower"),
    Column("floor_decay_epochs", "decay to floor", "epochs", "Epochs until 90 % of the whole fall of the loss is done: fair to losses with a floor."),
    Column("loss_value", "loss", "number", "The loss at the end. Not comparable between losses."),
    Column("selected_epoch", "selected epoch", "epochs", "The epoch that counts, where not the last one does: the numbers of the space at the end are of this epoch."),
    Column("step_milliseconds", "step", "milliseconds", "Time of one training step on this machine.", "lower"),
    Column("probe_share", "probe’s share", "percent", "Share of a step's time that the measuring takes.", "lower"),
)  # fmt: skip
COLUMNS = {column.name: column for column in RETRIEVAL + VARIANCE + GREEDINESS + FURTHER}

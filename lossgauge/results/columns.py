"""The one list of all columns in a study's tables: title, unit, group, which direction is better, and the meaning.

To add a number to the runs: the function that measures it, a line here, and its test. Tables, exports, trackers, the
report and the claims read this list.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from lossgauge.errors import InputError, nearest
from lossgauge.stats.number_format import Unit

Group = Literal["retrieval", "variance", "greediness", "timing", "run", "settings"]


class Column(NamedTuple):
    """A column with a number."""

    name: str
    title: str
    """For the header of a table, and inside sentences."""
    unit: Unit
    meaning: str
    """One or two sentences: what it is, and what a good value is."""
    better: Literal["higher", "lower"] | None = None
    """None if neither direction is better in general."""
    group: Group = "variance"
    by_clock: bool = False
    """Whether it is a measured time. All other columns are equal for the same run on the same machine."""
    margin: float | None = None
    """Differences below it do not matter in practice, in the unit of the column: our choice. None where no number fits
    all studies, as for gradients and loss values, which temperature and scale multiply."""


# measured on embeddings of one side of the split: `test_intra` in a run, `train_intra` of its training side,
# `validation_intra` in a trial, and `intra` in a row of a reference space or a class
_SPACE = (
    Column("intra", "intra", "number", "Mean squared distance of test samples to their class mean, from 0 (each class is a point) to 1. Low means compact; near 0 the differences inside a class are lost, but unseen classes may need them.", margin=0.01),
    Column("inter", "inter", "number", "Mean squared distance between two class means, from 0 (all at one point) to about 2. High means well separated; read it together with intra.", margin=0.02),
    Column("offset", "offset", "number", "Squared length of the mean of the class means: 0 means that the sphere is used evenly, 1 that all embeddings have one direction. On the sphere, intra + offset + a share of inter is exactly 1, so a low offset leaves more for the other two.", margin=0.01),
    Column("spacing_mean", "spacing", "number", "Mean distance between two class means.", margin=0.01),
    Column("spacing_cv", "spacing CV", "percent", "Standard deviation of the distances between class means, divided by their mean. 0 % means evenly spaced classes; a high value means that some classes are much closer than others.", margin=0.01),
    Column("spacing_min_ratio", "closest pair", "percent", "Distance between the two closest class means, divided by the mean distance: near 0 % two classes have almost the same mean.", margin=0.01),
    Column("margin", "margin", "number", "Distance of a class mean to the nearest other class mean, minus two standard deviations of the class, averaged over classes. Above 0 a class is separated from its nearest class; below 0 they overlap.", margin=0.02),
    Column("intra_inter_ratio", "intra / inter", "number", "Variance inside classes divided by the squared distance between them; low means well clustered.", margin=0.01),
    Column("cdnv", "CDNV", "number", "Class-distance normalised variance, the mean over pairs of classes; low means well clustered, 0 means neural collapse.", margin=0.01),
    Column("effective_rank", "effective rank", "number", "How many directions the test embeddings use. Below 2 the space has collapsed to about one direction; a value near the number of classes minus one is usual.", margin=0.5),
    Column("alignment", "alignment", "number", "Mean squared distance between two samples of one class; low means aligned.", margin=0.02),
    Column("uniformity", "uniformity", "number", "How evenly the sphere is filled: −4 means nearly uniform, 0 means one point. It does not show a collapse to few directions.", margin=0.05),
    Column("smallest_class_intra", "smallest intra", "number", "intra of the most compact class. At 0 that class has collapsed, which a mean over classes can hide.", margin=0.01),
    Column("class_count", "classes", "count", "Number of classes."),
    Column("sample_count", "samples", "count", "Number of samples."),
    Column("singleton_count", "single samples", "count", "Number of classes with one sample, which have no variance. Near 0 is good.", "lower"),
)  # fmt: skip
_NEAREST = (
    Column("recall_at_1", "R@1", "percent", "Share of test samples whose nearest other sample has the same class. 100 % is perfect; compare it with the untrained head.", "higher", "retrieval", margin=0.005),
    Column("recall_at_2", "R@2", "percent", "Share of test samples with a sample of the same class among the 2 nearest. 100 % is perfect.", "higher", "retrieval", margin=0.005),
    Column("recall_at_4", "R@4", "percent", "Like R@2, among the 4 nearest.", "higher", "retrieval", margin=0.005),
    Column("recall_at_5", "R@5", "percent", "Like R@2, among the 5 nearest.", "higher", "retrieval", margin=0.005),
    Column("recall_at_8", "R@8", "percent", "Like R@2, among the 8 nearest.", "higher", "retrieval", margin=0.005),
    Column("recall_at_10", "R@10", "percent", "Like R@2, among the 10 nearest.", "higher", "retrieval", margin=0.005),
    Column("r_precision", "R-precision", "percent", "Share of the R nearest samples that have the same class, in any order. 100 % is perfect.", "higher", "retrieval", margin=0.005),
    Column("map_at_r", "MAP@R", "percent", "Mean average precision over the R nearest samples, where R is the number of other samples in the class. Stricter than R@1: the whole class must come first. 100 % is perfect.", "higher", "retrieval", margin=0.005),
)  # fmt: skip
_JUDGED = (
    Column("ndcg_at_10", "nDCG@10", "percent", "Of queries and documents: grades of the first 10 documents of a query, discounted by log2(rank + 1), divided by the largest possible value; mean over test queries. 100 % is perfect; compare it with the raw model.", "higher", "retrieval", margin=0.005),
    Column("mrr_at_10", "MRR@10", "percent", "Mean of 1 / rank of the first right document, 0 if it is not among the first 10. 100 % is perfect.", "higher", "retrieval", margin=0.005),
    Column("found_at_1", "Recall@1", "percent", "Share of the right documents of a query that come first: Recall@1 of information retrieval, mean over test queries. 100 % is perfect where a query has one right document.", "higher", "retrieval", margin=0.005),
    Column("found_at_10", "Recall@10", "percent", "Share of the right documents of a query among its first 10. 100 % is perfect.", "higher", "retrieval", margin=0.005),
    Column("found_at_100", "Recall@100", "percent", "Share of the right documents of a query among its first 100. 100 % is perfect.", "higher", "retrieval", margin=0.005),
)  # fmt: skip
_RANKING = (*_NEAREST, *_JUDGED)
_OF_PAIRS = (
    Column("pair_alignment", "pair alignment", "number", "Mean squared distance of a query and its right document; low means aligned.", margin=0.02),
    Column("anisotropy", "anisotropy", "number", "Mean cosine of two texts: 0 means that all directions are used, 1 that all texts have one direction.", margin=0.01),
    Column("hubness", "hubness", "number", "Skew of how often a document is among the 10 nearest of another one: 0 is symmetric, above 1 some documents are found by very many.", margin=0.1),
)  # fmt: skip
_DYNAMICS = (
    Column("loss_value", "loss", "number", "The loss at the end. Not comparable between losses.", None, "greediness"),
    Column("term_count", "terms", "count", "Terms of the loss in a batch (pairs, triplets, samples), mean over training.", None, "greediness"),
    Column("active_count", "active term count", "count", "Terms of a batch that are above zero, mean over training.", None, "greediness"),
    Column("term_active_ratio", "active terms", "percent", "Share of the loss's terms (pairs, triplets, samples) that are above zero, mean over training. Softmax losses stay near 100 % by construction.", None, "greediness", margin=0.02),
    Column("gradient_active_ratio", "active gradients", "percent", "Share of samples whose gradient is above 1 % of the run's starting gradient, mean over training. It changes for every loss: high means many updates, low means few. By definition, N-pair updates only two samples of each class.", None, "greediness", margin=0.02),
    Column("gradient_active_ratio_low", "active at 0.1 %", "percent", "The gradient rule with a threshold ten times lower: how much the result depends on our choice of 1 %.", None, "greediness", margin=0.02),
    Column("gradient_active_ratio_high", "active at 10 %", "percent", "The gradient rule with a threshold ten times higher.", None, "greediness", margin=0.02),
    Column("mean_weight", "W", "percent", "The share of a full-strength update that a term gets, mean over training: 100 % means the full force, 0 % means no force.", None, "greediness", margin=0.02),
    Column("effective_share", "effective share", "percent", "Effective number of pairs in the update, divided by all pairs: low means that a few pairs dominate.", None, "greediness", margin=0.02),
    Column("penalty_active", "active penalty", "percent", "Share of anchors whose least similar positive is above the threshold of `relaxed`, so that its penalty pushes, mean over training.", None, "greediness", margin=0.02),
    Column("masked_negative_ratio", "masked negatives", "percent", "Share of negatives that `gist` leaves out because its guide ranks them above the positive, mean over training.", None, "greediness", margin=0.02),
    Column("mined_share", "mined terms", "percent", "Share of the terms of a batch that the miner of `mined` keeps, mean over training.", None, "greediness", margin=0.02),
    Column("memory_drift", "memory drift", "number", "1 − the mean cosine of the rows in the memory and of the same rows embedded by the present head, after the epoch: 0 means that the stored rows are still right, above 0.1 that the loss compares with rows of another head. None without a memory.", "lower", "greediness", margin=0.01),
    Column("embedding_gradient", "gradient at the embedding", "small", "Length of the gradient that one embedding gets, mean over samples and training: the size of an update. Temperature and scale multiply it, so a comparison of losses is valid only for the given settings.", None, "greediness"),
    Column("embedding_gradient_p10", "gradient, tenth", "small", "A tenth of the samples of a batch have a smaller gradient than this, mean over training.", None, "greediness"),
    Column("embedding_gradient_p50", "gradient, median", "small", "Half of the samples of a batch have a smaller gradient than this, mean over training.", None, "greediness"),
    Column("embedding_gradient_p90", "gradient, ninetieth", "small", "Nine tenths of the samples of a batch have a smaller gradient than this, mean over training.", None, "greediness"),
    Column("tangent_gradient", "gradient along the sphere", "small", "Length of the part of the gradient that rotates an embedding, mean over samples and training: the rest would only change its length.", None, "greediness"),
    Column("head_gradient", "gradient at the head", "small", "Length of the gradient at the head's weights, mean over training. Adam divides the gradient by its recent size, so its length has little effect on the update.", None, "greediness"),
    Column("loss_gradient", "gradient at the loss", "small", "Length of the gradient at the loss's own parameters (ArcFace's weights, CCL's centers). Most losses have none: —.", None, "greediness"),
    Column("gradient_per_active", "gradient / active", "small", "Gradient at the embedding divided by the active ratio of terms: the size of an update if only active terms were averaged.", None, "greediness"),
    Column("pull", "pull", "small", "Length of the part of the gradient that pulls a sample to its own class, mean over training.", None, "greediness"),
    Column("push", "push", "small", "Length of the part of the gradient that pushes a sample away from other classes, mean over training. Compare it with pull to see what the loss uses its force for.", None, "greediness"),
    Column("skipped_anchor_ratio", "skipped anchors", "percent", "Share of samples without a positive in their batch, which the loss does not use as anchors. Near 0 % is good.", "lower", "greediness", margin=0.02),
    Column("decay_epochs", "decay", "epochs", "Epochs until the loss has fallen to 10 % of its first value. Losses with a floor (SCL, N-pair) often never reach it, so “not reached” is normal for them.", None, "greediness", margin=0.5),
    Column("floor_decay_epochs", "decay to floor", "epochs", "Epochs until the loss has done 90 % of its total fall: also useful for losses with a floor.", None, "greediness", margin=0.5),
    Column("compaction_epochs", "compaction", "epochs", "Epochs until intra on the training side has done 90 % of its total fall. Few epochs means greedy: the classes become compact early.", None, "greediness", margin=0.5),
)  # fmt: skip
_CLOCK = (
    Column("step_milliseconds", "step", "milliseconds", "Time of one training step on this machine.", "lower", "timing", True),
    Column("probe_milliseconds", "probe", "milliseconds", "Time of the measurements in one training step.", "lower", "timing", True),
    Column("probe_share", "probe’s share", "percent", "Share of the time of a step that the measurements take.", "lower", "timing", True),
    Column("seconds", "training time", "seconds", "Training time without the measurements between epochs.", "lower", "timing", True),
)  # fmt: skip
_QUERIES = (
    Column("hit_at_1", "hit at 1", "percent", "Whether the nearest other sample has the class of the query: R@1 is the mean over the queries.", "higher", "retrieval"),
    Column("ap_at_r", "AP@R", "percent", "Average precision over the R nearest samples of a query: MAP@R is the mean over the queries.", "higher", "retrieval"),
    Column("first_right_rank", "first right rank", "count", "Rank of the nearest sample of the query's class, from 1. 1 is a hit.", "lower", "retrieval"),
    Column("reciprocal_rank_at_10", "reciprocal rank", "number", "1 / rank of the first right document of a query, 0 below rank 10: MRR@10 is the mean over the queries.", "higher", "retrieval"),
    Column("nearest_right", "nearest right", "count", "Row of the nearest sample of the query's class, in the dataset.", None, "retrieval"),
    Column("nearest_right_similarity", "similarity of the nearest right", "number", "Cosine similarity of the query and the nearest sample of its class.", None, "retrieval"),
    Column("nearest_wrong", "nearest wrong", "count", "Row of the nearest sample of another class, in the dataset.", None, "retrieval"),
    Column("nearest_wrong_similarity", "similarity of the nearest wrong", "number", "Cosine similarity of the query and the nearest sample of another class. Above that of the nearest right sample, the query is a miss.", None, "retrieval"),
)  # fmt: skip
_RUN = (
    Column("epochs", "epochs", "epochs", "Epochs that the run trained for.", None, "run"),
    Column("epochs_planned", "planned epochs", "epochs", "Epochs in the study file.", None, "run"),
    Column("selected_epoch", "selected epoch", "epochs", "The epoch whose numbers are reported: the last one, or the one that the study's selection chose.", None, "run"),
    Column("objective", "objective", "percent", "The value that a search maximises: `selection_metric` on the validation slice.", "higher", "run"),
    Column("factor", "multiple", "number", "The factor that a setting was multiplied by, in a run of variant `sensitivity`.", None, "run"),
    Column("size", "samples", "count", "Samples of a class.", None, "run"),
    Column("nearest", "nearest class", "count", "The class whose mean is nearest.", None, "run"),
    Column("spacing", "spacing", "number", "Mean distance of a class mean to the other class means."),
)  # fmt: skip

SIDES = ("train", "test", "validation")
"""Sides of a split. Retrieval of the test side has no prefix."""


def _of_side(column: Column, side: str) -> Column:
    prefix = "" if column in _RANKING and side == "test" else f"{side}_"
    if side == "test":
        return column._replace(name=f"{prefix}{column.name}")
    words = {"train": "the training side", "validation": "the validation slice"}[side]
    return column._replace(
        name=f"{prefix}{column.name}",
        title=f"{column.title}, {side}",
        meaning=f"{column.title} on {words}.",
    )


COLUMNS: dict[str, Column] = {
    column.name: column
    for column in (
        *(_of_side(column, "test") for column in (*_RANKING, *_SPACE)),
        *(_of_side(column, "train") for column in _SPACE),
        *(_of_side(column, "validation") for column in (*_RANKING, *_SPACE)),
        *_SPACE,
        *(_of_side(column, "test") for column in _OF_PAIRS),
        *(_of_side(column, "validation") for column in _OF_PAIRS),
        *_OF_PAIRS,
        *_DYNAMICS,
        *_CLOCK,
        *_QUERIES,
        *_RUN,
    )
}
"""Every column with a number, by its name. Columns of settings begin with SETTING."""

OF_PAIRS = frozenset(
    {
        "reciprocal_rank_at_10",
        *(column.name for column in _OF_PAIRS),
        *(_of_side(c, "test").name for c in (*_JUDGED, *_OF_PAIRS)),
        *(_of_side(c, "validation").name for c in (*_JUDGED, *_OF_PAIRS)),
    }
)
"""Columns that only studies of queries and documents have."""

SETTING = "setting_"
"""`setting_margin` is the margin of the loss, `setting_learning_rate` the learning rate of its run."""

MEASURED_ON_TEST = frozenset(
    _of_side(column, "test").name for column in (*_RANKING, *_SPACE, *_OF_PAIRS)
)
"""Columns that a trial measures on the validation slice instead."""

CLOCK_COLUMNS = frozenset(name for name, column in COLUMNS.items() if column.by_clock)
"""Columns of measured times."""

STEP_TIMES = ("step_milliseconds", "probe_milliseconds")
"""Those of a step."""

RUN_TIMES = ("step_milliseconds", "probe_share", "seconds")
"""Those of a run."""


def _selected(*names: str) -> tuple[Column, ...]:
    return tuple(COLUMNS[name] for name in names)


# What a report shows, in its order.
RETRIEVAL = _selected("recall_at_1", "map_at_r")
PAIR_RETRIEVAL = _selected("ndcg_at_10", "mrr_at_10")
"""Of a study of queries and documents; the first one ranks."""
VARIANCE = _selected("test_intra", "test_inter", "test_offset", "test_spacing_cv", "test_margin")
GREEDINESS = _selected(
    *("term_active_ratio", "gradient_active_ratio", "mean_weight", "embedding_gradient"),
    *("head_gradient", "loss_gradient", "pull", "push", "decay_epochs", "compaction_epochs"),
)
FURTHER = _selected(
    *("recall_at_2", "recall_at_4", "recall_at_5", "recall_at_8", "recall_at_10"),
    *("r_precision", "test_spacing_min_ratio", "test_intra_inter_ratio", "test_cdnv"),
    *("test_effective_rank", "test_alignment"),
    *("test_uniformity", "train_intra", "train_inter", "gradient_active_ratio_low"),
    *("gradient_active_ratio_high", "effective_share", "gradient_per_active"),
    *("skipped_anchor_ratio", "floor_decay_epochs", "loss_value", "selected_epoch"),
    "memory_drift",
    *("step_milliseconds", "probe_share"),
)

Kind = Literal["text", "whole", "real"]

RUN: dict[str, Kind] = {
    **dict.fromkeys(("run", "dataset", "loss", "base", "variant"), "text"),
    "seed": "whole",
}
"""The columns that identify the rows of a run. A run may appear twice, as two variants."""

TABLES: dict[str, dict[str, Kind]] = {
    "runs": RUN,
    "timing": {**RUN, **dict.fromkeys(RUN_TIMES, "real")},
    "epochs": {**RUN, "epoch": "whole"},
    "trials": {**RUN, "trial": "whole", "objective": "real", "error": "text"},
    "tuned": {
        **dict.fromkeys(("dataset", "base", "loss"), "text"),
        "trial": "whole",
        "settings": "text",
        **dict.fromkeys(("objective", "default_objective"), "real"),
        **dict.fromkeys(("trials", "failed"), "whole"),
        "error": "text",
    },
    "classes": {**RUN, "side": "text", "label": "whole"},
    "steps": {**RUN, "step": "whole", "epoch": "whole"},
    "queries": {**RUN, "query": "whole", "label": "whole"},
    "frozen_queries": {"dataset": "text", "query": "whole", "label": "whole"},
    "references": {"dataset": "text", "reference": "text"},
    "failures": {**RUN, "error": "text"},
    "left_out": {"dataset": "text", "reason": "text", "extent": "text"},
}
"""The tables of a study, and the first columns of each, which it always has."""


QUERY_COLUMNS = (
    *(column.name for column in _QUERIES if column.name != "reciprocal_rank_at_10"),
    "r_precision",
)
"""Numbers that every row of `queries` has; those of queries and documents have more."""

PER_QUERY = {"recall_at_1": "hit_at_1", "map_at_r": "ap_at_r", "r_precision": "r_precision"}
"""Columns of `runs` that are the mean of a column of `queries` over the queries of the run."""

PER_JUDGED_QUERY = {
    "ndcg_at_10": "ndcg_at_10",
    "mrr_at_10": "reciprocal_rank_at_10",
    **{f"found_at_{k}": f"found_at_{k}" for k in (1, 10, 100)},
}
"""More of them, of queries and documents."""

HIT_WITHIN = {f"recall_at_{k}": k for k in (2, 4, 5, 8, 10)}
"""Columns of `runs` that are the share of queries whose `first_right_rank` is at most this."""


def group_of(column: str) -> Group:
    """The group of a column; `greediness` for one that a user's own loss or a later version added."""
    return COLUMNS[column].group if column in COLUMNS else "greediness"


def check_column(name: str) -> str:
    """`name`, if it is a column of numbers. Otherwise InputError, with the nearest name."""
    if name in COLUMNS or name.startswith(SETTING):
        return name
    raise InputError(f"unknown column {name!r}{nearest(name, COLUMNS)}")

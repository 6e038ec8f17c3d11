"""What each finding says if its level is not `ok`, in one line; docs/findings.md has an entry for each."""

from __future__ import annotations

TITLES = {
    "collapse": "the whole space has collapsed to one point",
    "cone": "all embeddings point in the same direction, so any two are similar",
    "few-directions": "the space uses few of its directions",
    "class-collapse": "a class has collapsed to one point, and averages do not show it",
    "neural-collapse": "each class has shrunk to one point",
    "not-separated": "classes are not separated",
    "same-place": "two classes are in one place",
    "hubs": "a few rows are near to very many others",
    "norms": "the norms of the rows change the ranking",
    "loss-at-collapse": "the loss is where it is when all embeddings are one point",
    "loss-floor": "the loss does not come near 0, which is normal: its lowest value is above 0",
    "no-positives": "many samples have no positive in their batch and are skipped",
    "margin": "the margin does not fit the distances",
    "temperature": "the temperature does not fit the similarities",
    "dead-gradient": "no gradient reaches the embeddings or the weights",
    "exploding-gradient": "the gradient grows without limit",
    "not-finite": "the loss or its gradient is not a finite number",
    "few-active": "the loss has almost no effect at the end: few samples still have a gradient",
    "train-test-gap": "classes are learned by heart",
    "untrained-loss-parameters": "parameters of the loss are not trained",
    "labels-unused": "the labels do not enter the loss",
    "label-errors": "labels look wrong",
    "copies": "a class has copies of its rows",
    "copies-between-classes": "the same row has two labels",
    "copies-across-split": "test rows are copies of training rows",
    "small-classes": "classes are too small",
    "training-harms": "training makes retrieval worse: R@1 and MAP@R are both below those of the untrained head",
    "still-compacting": "intra was still falling when training ended, so the compaction epoch is provisional",
}

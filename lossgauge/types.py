"""The records that the parts of this package exchange, with their shapes.

A loss returns an `Evaluation`, and the probe reads it. A training loop creates a `Step`, and the probe reads it.
A study writes flat `Record` rows, and the report reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int
from PIL.Image import Image
from torch import Tensor

IMAGES, TEXTS = "images", "texts"
"""The two kinds of items that have features."""

PADDING = -1
"""Behind the tokens of the shorter texts of a batch."""

Record = dict[str, Any]
"""A flat row: names to numbers, strings or None. None means "not known", never 0."""


NO_COLUMNS: Mapping[str, float] = {}
"""Do not change it. A read-only view (`MappingProxyType`) can be neither copied nor sent to another process."""


class Evaluation(NamedTuple):
    """The results of a loss on one batch. A black-box loss has only `value`; the other fields are None.

    Pull and push are the two parts of the gradient of `value` at the embeddings, from positives and
    from negatives: the mean over the batch of the norm of a sample's part.
    """

    value: Float[Tensor, ""]
    """The loss: differentiable, reduced over terms."""
    term_count: int | None = None
    """Valid terms in the batch; each loss defines its terms."""
    active_count: int | None = None
    """Terms whose value is above the loss's `tolerance`."""
    skipped_anchors: int | None = None
    """Samples that should be an anchor but have no term, for example because they have no positive."""
    anchor_value: Float[Tensor, " batch"] | None = None
    """Mean value of the terms of each anchor; NaN if a sample is not an anchor."""
    anchor_weight: Float[Tensor, " batch"] | None = None
    """Mean W of the terms of each anchor, in [0, 1]: the share of a full-strength update; NaN if it is not an anchor."""
    pull: Float[Tensor, ""] | None = None
    push: Float[Tensor, ""] | None = None
    effective_share: float | None = None
    """(Σw)²/Σw² over the pair weights w = |∂value/∂s|, as a share of all pairs; NaN without weight."""
    anchor_count: int | None = None
    """Samples that can be an anchor: the queries of a batch of queries and documents. None: every sample of the batch."""
    columns: Mapping[str, float] = NO_COLUMNS
    """Further numbers of this loss, by name: those that its class lists in `columns`."""


class PairGradient(NamedTuple):
    """The gradient of the sum of a pair loss's terms at its matrix of dot products or squared distances, and its masks.

    A row is an anchor, or one positive pair of it; a column is a sample of the batch.
    """

    gradient: Float[Tensor, "rows columns"]
    terms: Int[Tensor, " rows"]
    """Terms of each row."""
    anchor: Int[Tensor, " rows"]
    """The sample of each row."""
    positive: Bool[Tensor, "rows columns"]
    negative: Bool[Tensor, "rows columns"]
    is_distance: bool
    """Whether the matrix holds squared distances."""

    @property
    def weight(self) -> Float[Tensor, " rows"]:
        """W_i = ½ Σ_j |G_ij| / terms: the strength of a row's mean update; NaN without a term."""
        return self.gradient.abs().sum(dim=1) / 2 / self.terms


class Step(NamedTuple):
    """One optimisation step, as any training loop can report it after `backward` and before the update."""

    number: int
    """Steps done before this one."""
    epoch: int
    evaluation: Evaluation
    embeddings: Float[Tensor, "batch width"]
    """With `.grad` filled: call `embeddings.retain_grad()` before `backward`."""
    head_parameters: tuple[Tensor, ...]
    loss_parameters: tuple[Tensor, ...]


class Text(NamedTuple):
    """A text as a backbone gets it."""

    words: str
    side: str = ""
    """`query` or `document`, because a model may put another prompt before each; empty for labelled texts."""


Item = Image | Text


@dataclass(frozen=True)
class ImageSet:
    """Labelled images and their split; or texts, with labels or as queries and documents (`pairs`).

    The order of the rows never changes: it is the order of `ids`.
    """

    name: str
    ids: tuple[str, ...]
    """A stable name for each item, such as `s1/3.pgm`; unique."""
    labels: Int[np.ndarray, " images"]
    """Class of each image, the official id."""
    class_names: Mapping[int, str]
    train: Int[np.ndarray, " train"]
    """Row numbers, ascending."""
    test: Int[np.ndarray, " test"]
    protocol: str
    """How the split was made: `official`, `class-disjoint` (test classes are unseen), `halves`, or of pairs
    `component-disjoint` (no right document is on both sides)."""
    source: str
    """The place where it was found, and its layout, in words."""
    digest: str
    """SHA-256 over ids, labels and pixels or texts, or over the files that hold them: part of the cache key."""
    read: Callable[[int], Item] = field(repr=False)
    """The item of a row. Raises DataError, which names the file, if an image cannot be decoded."""
    notes: tuple[str, ...] = ()
    """One line for each thing a user should know about the files: what was left out, and what is doubtful."""
    groups: np.ndarray | None = None
    """The group of each image, as text: images of a group are on one side of the split. None without groups."""
    kind: str = IMAGES
    """What the items are: `images` or `texts`."""
    pairs: PairRows | None = None
    """Of texts that are queries and documents: as in `FeatureSet`. `train` and `test` are then rows of queries."""
    own_ids: tuple[str, ...] | None = None
    """The ids of queries and documents in the user's files, where they are unique on each side only; None: `ids`."""


@runtime_checkable
class Backbone(Protocol):
    """Images or texts in, feature rows out; frozen. One for texts has `takes = "texts"`; without it, it is for images."""

    name: str
    identity: dict[str, str]
    """Everything the features depend on: weights' SHA-256, preprocessing. Part of the cache key."""

    def prepare(self, item: Any, /) -> Tensor:
        """One image, ready to be stacked into a batch; or the numbers of the tokens of a `Text`."""
        ...

    def extract(self, batch: Tensor) -> Float[Tensor, "rows width"]:
        """Features of a batch of prepared items, float32, without a graph. Shorter texts are filled up with `PADDING`."""
        ...


class PairRows(NamedTuple):
    """Which rows of a feature set are documents, and which documents are right for which query.

    All numbers are rows of the feature set. A query may have several right documents, and a document several queries.
    The sides of a split hold queries; every document of the corpus can be found by every query.
    """

    corpus: Int[Tensor, " documents"]
    """The rows of the documents, ascending."""
    query: Int[Tensor, " judged"]
    """The query of each judgement, ascending."""
    document: Int[Tensor, " judged"]
    """The document of each judgement; of one query ascending, each at most once."""
    grade: Float[Tensor, " judged"]
    """Above 0: the document is right, and more so the higher the grade. 0: judged as not right."""
    negative_query: Int[Tensor, " negatives"]
    """The query of each hard negative that the user gives, ascending."""
    negative_document: Int[Tensor, " negatives"]
    text: Int[Tensor, " rows"]
    """The number of each row's text: two rows of one text have one number."""


NO_NAMES: Mapping[int, str] = {}
"""As `NO_COLUMNS`."""


class FeatureSet(NamedTuple):
    """Frozen features of an `ImageSet`, ready for a head."""

    dataset: str
    backbone: str
    features: Float[Tensor, "rows width"]
    labels: Int[Tensor, " rows"]
    train: Int[Tensor, " train"]
    test: Int[Tensor, " test"]
    protocol: str
    fingerprint: str
    """SHA-256 over the sorted ids and labels of both sides of the split: two results with different
    fingerprints do not belong in one table."""
    identity: Mapping[str, str]
    """What the features depend on, for the record."""
    validation: Int[Tensor, " validation"] | None = None
    """Rows of the training side that are held out, to select an epoch with them."""
    class_names: Mapping[int, str] = NO_NAMES
    """For messages; a class that is not listed is shown by its number."""
    notes: tuple[str, ...] = ()
    """The notes of the `ImageSet`, and the images that could not be read."""
    groups: Int[Tensor, " rows"] | None = None
    """The number of each row's group: a validation slice keeps groups together, too. None without groups."""
    labelled: Mapping[str, float] | None = None
    """How many training rows keep their label, as in {"per_class": 5}, with a draw for each seed; None if all do. `train` has all of
    them."""
    pairs: PairRows | None = None
    """Queries and documents instead of classes: `train`, `validation` and `test` are then rows of queries, and `labels` number the
    classes that the user gives, or else the queries that are connected by a right document, with these documents."""


class Results(NamedTuple):
    """The content of a study's folder, as the report and the claims read it.

    Rows of runs share the columns `run`, `dataset`, `loss` (as shown), `base` (the loss as the plan names it),
    `variant` and `seed`. The loss `untrained` is the baseline: the same initial head, never trained.
    """

    plan: Record
    """The study as it was run: every setting, flat or nested as in the study file."""
    assumptions: Record
    """Settings the paper does not publish → why we set them so: shown as *our choice*."""
    summaries: list[Record]
    """One row for each finished run of variant `default` (as in the plan) or `tuned`: geometry and retrieval of the
    selected epoch on the test side, means of the dynamics; `settings` in words, `setting_<name>` as numbers."""
    epochs: list[Record]
    """One row for each run of `summaries` and each epoch; epoch 0 is before training. None means not measured."""
    references: list[Record]
    """`dataset`, `reference` (`frozen features`, `random unit vectors`, `full collapse`) and geometry columns."""
    left_out: list[Record]
    """`dataset`, `reason`, and `extent`: `whole`, or `part` where only some of the dataset is left out or doubtful."""
    failures: list[Record]
    """`run`, `dataset`, `loss`, `seed`, `error`; a trial that failed is in `trials`."""
    environment: Record
    sensitivity: Sequence[Record] = ()
    """Like `summaries`, for variant `sensitivity`: a loss with one `setting` at `factor` times its value in the plan."""
    trials: Sequence[Record] = ()
    """One row for each trial that ended: the run columns, `trial` (0 is the loss as in the plan), `setting_<name>`,
    `objective` on the validation slice (None if it failed, with `error`), and `validation_…` columns."""
    tuned: Sequence[Record] = ()
    """One row for each dataset and loss: `dataset`, `base`, `loss`, the chosen `trial`, its `settings` in words,
    `objective`, `default_objective`, and how many `trials` were made and how many `failed`."""
    waiting: Sequence[Record] = ()
    """The run columns of planned runs that have neither finished nor failed."""
    answer: Record | None = None
    """The answer of `lossgauge advise` in the study of its finalists: `asked`, `sentences` of a `topic` and a `text`, and the `loss` and `seed` to take."""
    expected: int | None = None
    """Number of runs of the whole study, including runs that a search has not chosen yet; None if unknown."""

"""manifest.json of an exported head: all that its user must know, in one record that is checked when it is read."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

FORMAT = 1
"""`format` of the manifest."""

KIND = "lossgauge head"
"""`of` in the manifest."""

Number = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Width = Annotated[int, Field(ge=1, le=1 << 20)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Model(BaseModel):
    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, use_attribute_docstrings=True
    )


class BackboneRecord(_Model):
    """The backbone whose features the head takes."""

    name: str
    """As `load_backbone` takes it; `none (given embeddings)` for a head that was trained on a table of embeddings."""
    settings: dict[str, bool | int | float | str]
    identity: dict[str, str]
    """What its features depend on: hashes of the weights, the preprocessing. Empty for given embeddings."""


class HeadRecord(_Model):
    """The form of the head: features minus `center` in, rows on the unit sphere out.

    `linear` is one linear layer, `mlp` two with a ReLU between them, and `residual` adds an update of low `rank` to the features.
    """

    kind: Literal["linear", "mlp", "residual"]
    feature_width: Width
    hidden_size: Width | None
    embedding_size: Width
    rank: Width | None = None
    """Of the update of a residual head."""
    sides: Literal["both", "query"] = "both"
    """What goes through the head. `query`: documents are the features minus `center`, of length 1, so an index stays as it is."""
    reduced_from: Width | None = None
    """The width that was trained, if `embedding_size` is fewer: the leading principal directions of the training rows."""
    centered: bool
    """Whether the mean of the training features is subtracted first: it is the tensor `center`."""
    normalized: Literal[True] = True
    similarity: Literal["cosine"] = "cosine"
    """How its embeddings are compared; they have length 1, so the dot product is the same."""


class TrainedRecord(_Model):
    """The run that trained the head."""

    dataset: str
    protocol: str
    fingerprint: str
    """Of the rows, labels and sides of the split."""
    loss: str
    settings: str
    seed: int
    epoch: int
    run: str
    chosen: str
    """Why this run, in words."""


class MeasuredRecord(_Model):
    """Retrieval on the test side, measured at the export; None where it is not defined."""

    recall_at_1: Number | None
    map_at_r: Number | None
    frozen_recall_at_1: Number | None
    """Of the features without a head, normalised."""
    frozen_map_at_r: Number | None
    test_rows: int
    """Of queries and documents, the test queries."""
    ndcg_at_10: Number | None = None
    """Of queries and documents."""
    frozen_ndcg_at_10: Number | None = None
    mrr_at_10: Share | None = None
    """Of queries and documents, as all that follow; None in a manifest of an earlier version."""
    frozen_mrr_at_10: Share | None = None
    found_at_1: Share | None = None
    """Recall@1: the share of a query's right documents that are found first."""
    frozen_found_at_1: Share | None = None
    found_at_10: Share | None = None
    frozen_found_at_10: Share | None = None
    found_at_100: Share | None = None
    frozen_found_at_100: Share | None = None
    documents: int | None = None
    """That every query is searched among; None where test rows are searched among each other."""


class OperatingRecord(_Model):
    """A threshold on the cosine: two rows at or above it are taken for one class, a document for a right one of its query."""

    far: Number
    """At most this share of the pairs of two classes reach the threshold."""
    threshold: Number | None
    """None if even the highest score is reached by too many such pairs."""
    tpr: Number
    """Share of the pairs of one class that reach it."""
    tpr_half_width: Number | None
    """The 95 % interval is tpr ± this; None if it is not known."""


class ThresholdsRecord(_Model):
    """Score thresholds from the pairs of the test side; of queries and documents, pairs of a test query and a document."""

    at_far: tuple[OperatingRecord, ...]
    eer: Number
    eer_half_width: Number | None
    eer_threshold: Number
    intervals_over: str
    """What would be drawn again: new classes, new rows of the same classes, or new queries."""
    genuine_pairs: int
    impostor_pairs: int


class FileRecord(_Model):
    bytes: int
    sha256: Sha256


class Manifest(_Model):
    """The whole record."""

    of: Literal["lossgauge head"] = "lossgauge head"
    format: int = FORMAT
    lossgauge: str
    """The version that wrote it."""
    backbone: BackboneRecord
    head: HeadRecord
    trained: TrainedRecord
    measured: MeasuredRecord
    thresholds: ThresholdsRecord | None
    """None where the test side has no pair of one class or none of two."""
    files: dict[str, FileRecord]
    """Size and SHA-256 of each other file of the folder."""

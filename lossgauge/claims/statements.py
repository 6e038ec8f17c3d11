"""The claims of the paper as data: each a set of tests on the rows of a study.

Variance & Greediness: https://arxiv.org/abs/2601.21450
A claim names losses without settings, and quantities by their columns.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from lossgauge.results.columns import COLUMNS

DISJOINT = "class-disjoint"
"""The protocol whose test classes are unseen in training: what the paper's fine-grained sets have."""


class Comparison(NamedTuple):
    """`left` has more, or less, of a quantity than `right`."""

    left: str
    right: str
    column: str
    direction: Literal["higher", "lower"]

    @property
    def losses(self) -> tuple[str, ...]:
        return self.left, self.right

    @property
    def words(self) -> str:
        """`triplet − contrastive in intra`; the claim is about the sign of that difference."""
        return f"{self.left} − {self.right} in {COLUMNS[self.column].title}"


class Ordering(NamedTuple):
    """Over losses, the two quantities rise together: a rank correlation above 0."""

    x: str
    y: str
    losses: tuple[str, ...]

    @property
    def words(self) -> str:
        return f"rank correlation of {COLUMNS[self.x].title} and {COLUMNS[self.y].title}"


class Claim(NamedTuple):
    key: str
    """Its number in the paper's order; a claim of two parts that need different data has `7a` and `7b`."""
    words: str
    comparisons: tuple[Comparison, ...] = ()
    orderings: tuple[Ordering, ...] = ()
    protocol: str | None = None
    """The split it is made for; None where it is made for any."""
    caution: str = ""
    """What a verdict on it does not say."""

    @property
    def losses(self) -> tuple[str, ...]:
        """Every loss it needs, each once."""
        of_each = [test.losses for test in self.comparisons] + [o.losses for o in self.orderings]
        return tuple(dict.fromkeys(loss for losses in of_each for loss in losses))


_LOOSE, _GREEDY = ("triplet", "scl"), ("contrastive", "info_nce")
_OTHERS = ("contrastive", "triplet", "info_nce", "arcface", "scl", "ccl")
_ALL = ("contrastive", "triplet", "n_pair", "info_nce", "arcface", "scl", "ccl")
_FINE_GRAINED = (
    "“Fine-grained” here means a class-disjoint split; how similar the classes are is not measured."
)


def _each(
    lefts: tuple[str, ...],
    rights: tuple[str, ...],
    column: str,
    direction: Literal["higher", "lower"],
) -> tuple[Comparison, ...]:
    return tuple(Comparison(left, right, column, direction) for left in lefts for right in rights)


CLAIMS = (
    Claim(
        "1",
        "Triplet and SCL keep more variance inside classes than Contrastive and InfoNCE.",
        _each(_LOOSE, _GREEDY, "test_intra", "higher"),
    ),
    Claim(
        "2",
        "Triplet and SCL have clearer margins between classes than Contrastive and InfoNCE.",
        _each(_LOOSE, _GREEDY, "test_margin", "higher"),
    ),
    Claim(
        "3",
        "Triplet and SCL retrieve better than Contrastive and InfoNCE on fine-grained sets.",
        _each(_LOOSE, _GREEDY, "recall_at_1", "higher"),
        protocol=DISJOINT,
        caution=_FINE_GRAINED,
    ),
    Claim(
        "4",
        "Contrastive and InfoNCE compact earlier than Triplet and SCL.",
        _each(_GREEDY, _LOOSE, "compaction_epochs", "lower"),
        caution="Each loss is measured by its own fall of intra, even if that fall is small.",
    ),
    Claim(
        "5",
        "Contrastive and InfoNCE work by many small updates: more active terms and smaller gradients than Triplet.",
        (
            *_each(_GREEDY, ("triplet",), "term_active_ratio", "higher"),
            *_each(_GREEDY, ("triplet",), "embedding_gradient", "lower"),
        ),
        caution="Nearly all terms of InfoNCE are active by construction; the temperature scales its gradient.",
    ),
    Claim(
        "6",
        "N-pair puts class means farthest apart, and least evenly.",
        (
            *_each(("n_pair",), _OTHERS, "test_inter", "higher"),
            *_each(("n_pair",), _OTHERS, "test_spacing_cv", "higher"),
        ),
        caution="The distance between class means is inter, the mean of their squared distances.",
    ),
    Claim(
        "7a",
        "Over losses, earlier compaction goes with less variance inside classes.",
        orderings=(Ordering("compaction_epochs", "test_intra", _ALL),),
        caution="There is only one point for each loss, and the losses are not a random sample.",
    ),
    Claim(
        "7b",
        "Over losses, earlier compaction goes with lower R@1 on fine-grained sets.",
        orderings=(Ordering("compaction_epochs", "recall_at_1", _ALL),),
        protocol=DISJOINT,
        caution="There is only one point for each loss, and the losses are not a random sample. "
        + _FINE_GRAINED,
    ),
    Claim(
        "8",
        "Triplet, against Contrastive: more variance inside and between classes, a later decay, fewer active terms, "
        "larger gradients.",
        (
            *_each(("triplet",), ("contrastive",), "test_intra", "higher"),
            *_each(("triplet",), ("contrastive",), "test_inter", "higher"),
            *_each(("triplet",), ("contrastive",), "decay_epochs", "higher"),
            *_each(("triplet",), ("contrastive",), "term_active_ratio", "lower"),
            *_each(("triplet",), ("contrastive",), "embedding_gradient", "higher"),
        ),
        caution="Margins set the scale of both losses' gradients.",
    ),
)

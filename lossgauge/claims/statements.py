"""The claims of the paper as data: each a set of contrasts between groups of losses, or an ordering over losses.

Variance & Greediness: https://arxiv.org/abs/2601.21450
A claim names losses without settings, and quantities by their columns.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from lossgauge.results.columns import COLUMNS

UNSEEN_CLASSES = "class-disjoint"
"""The protocol whose test classes are unseen in training: what the paper's fine-grained sets have."""

Direction = Literal["higher", "lower"]


class Contrast(NamedTuple):
    """The mean of the losses in `left` is higher, or lower, than the mean of those in `right`."""

    left: tuple[str, ...]
    right: tuple[str, ...]
    column: str
    direction: Direction
    every: bool = False
    """Whether the claim says it of every pair, as `farthest apart` does; otherwise the means of the groups count."""

    @property
    def losses(self) -> tuple[str, ...]:
        return *self.left, *self.right

    @property
    def members(self) -> tuple[Contrast, ...]:
        """Each loss of `left` against each of `right`; empty if there is only one such pair."""
        if len(self.losses) == 2:
            return ()
        return tuple(
            Contrast((left,), (right,), self.column, self.direction)
            for left in self.left
            for right in self.right
        )

    @property
    def pairs(self) -> tuple[Contrast, ...]:
        """The members, or the contrast itself if it is one pair."""
        return self.members or (self,)

    @property
    def comparison(self) -> tuple[str, tuple[tuple[str, ...], ...]]:
        """The quantity and the two groups, in any order: what a correction counts once."""
        return self.column, tuple(sorted((tuple(sorted(self.left)), tuple(sorted(self.right)))))

    @property
    def words(self) -> str:
        """`triplet − contrastive in intra`; the claim is about the sign of that difference."""
        return f"{_mean_of(self.left)} − {_mean_of(self.right)} in {COLUMNS[self.column].title}"


def _mean_of(losses: tuple[str, ...]) -> str:
    return losses[0] if len(losses) == 1 else f"mean of {', '.join(losses[:-1])} and {losses[-1]}"


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
    contrasts: tuple[Contrast, ...] = ()
    """Its parts: the claim says all of them."""
    orderings: tuple[Ordering, ...] = ()
    protocol: str | None = None
    """The split that it is about; None for any split. The paper's fine-grained sets have UNSEEN_CLASSES."""
    caution: str = ""
    """What a verdict on it does not say."""

    @property
    def losses(self) -> tuple[str, ...]:
        """Every loss it needs, each once."""
        of_each = [part.losses for part in self.contrasts] + [o.losses for o in self.orderings]
        return tuple(dict.fromkeys(loss for losses in of_each for loss in losses))


_LOOSE, _GREEDY = ("triplet", "scl"), ("contrastive", "info_nce")
_OTHERS = ("contrastive", "triplet", "info_nce", "arcface", "scl", "ccl")
_ALL = ("contrastive", "triplet", "n_pair", "info_nce", "arcface", "scl", "ccl")
_FINE_GRAINED = (
    "“Fine-grained” here means a class-disjoint split; how similar the classes are is not measured."
)


CLAIMS = (
    Claim(
        "1",
        "Triplet and SCL keep more variance inside classes than Contrastive and InfoNCE.",
        (Contrast(_LOOSE, _GREEDY, "test_intra", "higher"),),
    ),
    Claim(
        "2",
        "Triplet and SCL have clearer margins between classes than Contrastive and InfoNCE.",
        (Contrast(_LOOSE, _GREEDY, "test_margin", "higher"),),
    ),
    Claim(
        "3",
        "Triplet and SCL retrieve better than Contrastive and InfoNCE on fine-grained sets.",
        (Contrast(_LOOSE, _GREEDY, "recall_at_1", "higher"),),
        protocol=UNSEEN_CLASSES,
        caution=_FINE_GRAINED,
    ),
    Claim(
        "4",
        "Contrastive and InfoNCE compact earlier than Triplet and SCL.",
        (Contrast(_GREEDY, _LOOSE, "compaction_epochs", "lower"),),
        caution="Each loss is measured by its own fall of intra, even if that fall is small.",
    ),
    Claim(
        "5",
        "Contrastive and InfoNCE work by many small updates: more active terms and smaller gradients than Triplet.",
        (
            Contrast(_GREEDY, ("triplet",), "term_active_ratio", "higher"),
            Contrast(_GREEDY, ("triplet",), "embedding_gradient", "lower"),
        ),
        caution="Nearly all terms of InfoNCE are active by construction; the temperature scales its gradient.",
    ),
    Claim(
        "6",
        "N-pair puts class means farthest apart, and least evenly.",
        (
            Contrast(("n_pair",), _OTHERS, "test_inter", "higher", every=True),
            Contrast(("n_pair",), _OTHERS, "test_spacing_cv", "higher", every=True),
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
        protocol=UNSEEN_CLASSES,
        caution="There is only one point for each loss, and the losses are not a random sample. "
        + _FINE_GRAINED,
    ),
    Claim(
        "8",
        "Triplet, against Contrastive: more variance inside and between classes, a later decay, fewer active terms, "
        "larger gradients.",
        (
            Contrast(("triplet",), ("contrastive",), "test_intra", "higher"),
            Contrast(("triplet",), ("contrastive",), "test_inter", "higher"),
            Contrast(("triplet",), ("contrastive",), "decay_epochs", "higher"),
            Contrast(("triplet",), ("contrastive",), "term_active_ratio", "lower"),
            Contrast(("triplet",), ("contrastive",), "embedding_gradient", "higher"),
        ),
        caution="Margins set the scale of both losses' gradients.",
    ),
)

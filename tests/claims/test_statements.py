"""The claims as data: whole, of losses and quantities that exist."""

from __future__ import annotations

import pytest

from lossgauge.claims.statements import CLAIMS, Contrast
from lossgauge.losses.registry import LOSSES
from lossgauge.results.columns import COLUMNS
from tests.claims.conftest import CLAIM


def test_every_claim_of_the_paper_is_there_in_its_order():
    assert [claim.key for claim in CLAIMS] == ["1", "2", "3", "4", "5", "6", "7a", "7b", "8"]
    assert all(claim.words.endswith(".") for claim in CLAIMS)


def test_claims_name_losses_of_the_package_and_known_columns():
    for claim in CLAIMS:
        assert set(claim.losses) <= set(LOSSES)
        columns = {c.column for c in claim.contrasts}
        columns |= {column for o in claim.orderings for column in (o.x, o.y)}
        assert columns
        assert columns <= COLUMNS.keys()
        for contrast in claim.contrasts:
            assert not set(contrast.left) & set(contrast.right)


def test_a_contrast_is_made_once():
    for claim in CLAIMS:
        assert len({c.comparison for c in claim.contrasts}) == len(claim.contrasts)


def test_members_are_each_loss_against_each_and_a_pair_has_none():
    contrast = Contrast(("a", "b"), ("c", "d", "e"), "test_intra", "lower")
    expected = {(x, y) for x in "ab" for y in "cde"}
    assert {(m.left[0], m.right[0]) for m in contrast.members} == expected
    assert {(m.column, m.direction) for m in contrast.members} == {("test_intra", "lower")}
    pair = Contrast(("a",), ("b",), "test_intra", "lower")
    assert (pair.members, pair.pairs) == ((), (pair,))
    assert contrast.pairs == contrast.members


def test_exchanged_groups_are_the_same_comparison():
    one = Contrast(("a", "b"), ("c",), "test_intra", "higher")
    assert one.comparison == Contrast(("c",), ("b", "a"), "test_intra", "lower").comparison
    assert one.comparison != one._replace(column="test_inter").comparison
    assert one.comparison != Contrast(("a",), ("b", "c"), "test_intra", "higher").comparison


def test_a_contrast_is_named_by_its_groups():
    words = Contrast(("a", "b"), ("c",), "test_intra", "higher").words
    assert words == "mean of a and b − c in intra"


@pytest.mark.parametrize(
    ("key", "more", "less", "column", "direction"),
    [
        ("1", ("triplet", "scl"), ("contrastive", "info_nce"), "test_intra", "higher"),
        ("2", ("triplet", "scl"), ("contrastive", "info_nce"), "test_margin", "higher"),
        ("3", ("triplet", "scl"), ("contrastive", "info_nce"), "recall_at_1", "higher"),
        ("4", ("contrastive", "info_nce"), ("triplet", "scl"), "compaction_epochs", "lower"),
    ],
)
def test_four_claims_hold_two_losses_against_two(key, more, less, column, direction):
    assert CLAIM[key].contrasts == (Contrast(more, less, column, direction),)
    assert len(CLAIM[key].contrasts[0].members) == 4


def test_many_small_updates_are_more_active_terms_and_smaller_gradients():
    greedy = ("contrastive", "info_nce")
    assert set(CLAIM["5"].contrasts) == {
        Contrast(greedy, ("triplet",), "term_active_ratio", "higher"),
        Contrast(greedy, ("triplet",), "embedding_gradient", "lower"),
    }


def test_n_pair_is_held_against_every_other_loss_in_two_quantities():
    first, second = CLAIM["6"].contrasts
    assert {first.column, second.column} == {"test_inter", "test_spacing_cv"}
    for contrast in (first, second):
        assert contrast.left == ("n_pair",)
        assert set(contrast.right) == set(LOSSES) - {"n_pair"}
        assert contrast.direction == "higher"
        assert contrast.every
    assert not any(c.every for key in "123458" for c in CLAIM[key].contrasts)


def test_only_what_is_said_of_fine_grained_sets_needs_unseen_classes():
    assert [claim.key for claim in CLAIMS if claim.protocol == "class-disjoint"] == ["3", "7b"]
    assert all("fine-grained" in CLAIM[key].words for key in ("3", "7b"))


def test_five_things_are_said_of_triplet_against_contrastive():
    assert {c.losses for c in CLAIM["8"].contrasts} == {("triplet", "contrastive")}
    directions = {c.column: c.direction for c in CLAIM["8"].contrasts}
    assert directions == {
        "test_intra": "higher",
        "test_inter": "higher",
        "decay_epochs": "higher",
        "term_active_ratio": "lower",
        "embedding_gradient": "higher",
    }

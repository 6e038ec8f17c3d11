"""The claims as data: whole, of losses and quantities that exist."""

from __future__ import annotations

import pytest

from lossgauge.claims.statements import CLAIMS, DISJOINT
from lossgauge.losses.registry import LOSSES
from lossgauge.results.columns import COLUMNS
from tests.claims.conftest import CLAIM


def test_every_claim_of_the_paper_is_there_in_its_order():
    assert [claim.key for claim in CLAIMS] == ["1", "2", "3", "4", "5", "6", "7a", "7b", "8"]
    assert all(claim.words.endswith(".") for claim in CLAIMS)


def test_claims_name_losses_of_the_package_and_known_columns():
    for claim in CLAIMS:
        assert set(claim.losses) <= set(LOSSES)
        columns = {c.column for c in claim.comparisons}
        columns |= {column for o in claim.orderings for column in (o.x, o.y)}
        assert columns
        assert columns <= COLUMNS.keys()
        for comparison in claim.comparisons:
            assert comparison.left != comparison.right


def test_a_comparison_is_made_once():
    for claim in CLAIMS:
        assert len(set(claim.comparisons)) == len(claim.comparisons)


@pytest.mark.parametrize(
    ("key", "more", "less", "column", "direction"),
    [
        ("1", ("triplet", "scl"), ("contrastive", "info_nce"), "test_intra", "higher"),
        ("2", ("triplet", "scl"), ("contrastive", "info_nce"), "test_margin", "higher"),
        ("3", ("triplet", "scl"), ("contrastive", "info_nce"), "recall_at_1", "higher"),
        ("4", ("contrastive", "info_nce"), ("triplet", "scl"), "compaction_epochs", "lower"),
    ],
)
def test_four_claims_hold_each_of_two_losses_against_each_of_two(
    key, more, less, column, direction
):
    expected = {(left, right, column, direction) for left in more for right in less}
    assert {tuple(c) for c in CLAIM[key].comparisons} == expected


def test_many_small_updates_are_more_active_terms_and_smaller_gradients():
    assert {tuple(c) for c in CLAIM["5"].comparisons} == {
        ("contrastive", "triplet", "term_active_ratio", "higher"),
        ("info_nce", "triplet", "term_active_ratio", "higher"),
        ("contrastive", "triplet", "embedding_gradient", "lower"),
        ("info_nce", "triplet", "embedding_gradient", "lower"),
    }


def test_n_pair_is_held_against_every_other_loss_in_two_quantities():
    others = {c.right for c in CLAIM["6"].comparisons if c.column == "test_inter"}
    assert others == set(LOSSES) - {"n_pair"}
    assert len(CLAIM["6"].comparisons) == 12
    assert {c.left for c in CLAIM["6"].comparisons} == {"n_pair"}
    assert {c.direction for c in CLAIM["6"].comparisons} == {"higher"}


def test_only_what_is_said_of_fine_grained_sets_needs_unseen_classes():
    assert [claim.key for claim in CLAIMS if claim.protocol == DISJOINT] == ["3", "7b"]
    assert all("fine-grained" in CLAIM[key].words for key in ("3", "7b"))


def test_five_things_are_said_of_triplet_against_contrastive():
    assert {c.losses for c in CLAIM["8"].comparisons} == {("triplet", "contrastive")}
    directions = {c.column: c.direction for c in CLAIM["8"].comparisons}
    assert directions == {
        "test_intra": "higher",
        "test_inter": "higher",
        "decay_epochs": "higher",
        "term_active_ratio": "lower",
        "embedding_gradient": "higher",
    }

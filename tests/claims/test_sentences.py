"""Evidence in words: the number, its doubt and its side."""

from __future__ import annotations

import pytest

from lossgauge.claims.sensitivity import Flip, Shares
from lossgauge.claims.sentences import (
    amount,
    evidence,
    family,
    margin,
    paired,
    shares,
    summary,
    turning,
)
from lossgauge.claims.statements import CLAIMS, Contrast
from lossgauge.claims.verdicts import verdicts
from lossgauge.results.columns import COLUMNS
from lossgauge.results.view import StudyView
from lossgauge.stats.intervals import Interval
from tests.claims.conftest import CLAIM, LOSSES, random_study, set_column


def told(results, key):
    return verdicts(StudyView(results), "d", [CLAIM[key]])[0]


def test_a_share_is_told_in_points_with_seeds_p_and_side():
    results = random_study()
    set_column(
        results, "recall_at_1", {"triplet": (0.6, 0.7, 0.8), "contrastive": (0.5, 0.59, 0.7)}
    )
    line = evidence(told(results, "3"))[1]  # the first is the contrast of the groups
    assert line.startswith(
        "triplet − contrastive in R@1, claimed above 0: +10.3 ± 8.6 points, 3 seeds, paired, p = 0.025"
    )
    difference = told(results, "3").results[1].difference._replace(queries=360, approximate="x")
    assert paired(difference) == "3 seeds and 360 queries, both paired, approximate"


@pytest.mark.parametrize(
    ("column", "told_as"),
    [
        ("test_intra", "+0.103 ± 0.014"),
        ("test_inter", "+0.103 ± 0.014"),
        ("test_margin", "+0.103 ± 0.014"),
        ("embedding_gradient", "+0.103 ± 0.014"),
        ("recall_at_1", "+10.3 ± 1.4 points"),
        ("test_spacing_cv", "+10.3 ± 1.4 points"),
        ("term_active_ratio", "+10.3 ± 1.4 points"),
        ("compaction_epochs", "+0.103 ± 0.014 epochs"),
        ("decay_epochs", "+0.103 ± 0.014 epochs"),
    ],
)
def test_every_quantity_is_told_in_its_unit(column, told_as):
    results = random_study(losses=("triplet", "contrastive"))
    values = {"triplet": (0.6, 0.7, 0.8), "contrastive": (0.5, 0.59, 0.7)}
    set_column(results, column, values)
    claim = CLAIM["1"]._replace(
        contrasts=(Contrast(("triplet",), ("contrastive",), column, "higher"),)
    )
    found = verdicts(StudyView(results), "d", [claim])[0]
    assert f": {told_as}, 3 seeds, paired" in evidence(found)[0]
    assert "corrected" not in evidence(found)[0]
    title = COLUMNS[column].title
    assert family(found).endswith(f"that the claims make on this dataset: 1 in {title}.")


def test_a_claim_of_both_kinds_is_counted_and_not_told_by_its_correlation():
    claim = CLAIM["1"]._replace(orderings=CLAIM["7a"].orderings)
    found = verdicts(StudyView(random_study()), "d", [claim])[0]
    assert (len(found.results), len(found.sides)) == (5, 2)
    assert summary(found) == found.counts


def test_a_difference_below_0_has_a_true_minus_and_an_open_one_its_reason():
    results = random_study()
    set_column(results, "compaction_epochs", {"contrastive": (3, 4, 5), "triplet": (9, 10, 11.4)})
    line = evidence(told(results, "4"))[1]
    assert "claimed below 0: −6.13 ± 0.72 epochs" in line
    set_column(results, "compaction_epochs", {"contrastive": (3, None, 5)})
    assert "in 1 of 3 seeds" in evidence(told(results, "4"))[1]


def test_an_ordering_names_its_losses():
    line = evidence(told(random_study(), "7a"))[0]
    assert f"n = 7 losses ({', '.join(LOSSES)})" in line


def test_the_family_of_the_correction_is_stated_for_each_quantity():
    results = random_study()
    assert family(told(results, "6")) == (
        "Corrected (Holm) for all comparisons that the claims make on this dataset: "
        "7 in inter, 7 in spacing CV."
    )
    # claim 8 compares in inter too
    of_all = {v.claim.key: v for v in verdicts(StudyView(results), "d", CLAIMS)}
    assert "8 in inter, " in family(of_all["6"])
    assert "8 in inter, " in family(of_all["8"])
    assert family(told(random_study(seeds=(0,)), "6")) == ""
    assert family(told(results, "7a")) == ""


def test_a_corrected_p_value_and_what_it_takes_are_told():
    results = random_study()
    set_column(results, "recall_at_1", dict.fromkeys(LOSSES, (0.5, 0.6, 0.7)))
    level = {"triplet": (0.6, 0.701, 0.8), "contrastive": (0.5, 0.602, 0.7)}
    set_column(results, "recall_at_1", level | {"scl": (0.5, 0.601, 0.7)})
    first = told(results, "3").results[1]
    line = evidence(told(results, "3"))[1]
    assert line.endswith(", p < 0.0001, corrected < 0.0001: for")
    assert first.decision.p_value > first.difference.p_value
    lines = [line for seed in range(20) for line in evidence(told(random_study(seed), "3"))]
    taken = [line for line in lines if ": clear alone (p = 0.0" in line]
    assert taken
    assert all(li.endswith("but not after the correction for 5 comparisons") for li in taken)


@pytest.mark.parametrize(
    ("mean", "half", "told_as"),
    [
        (0.102, 0.006, "+0.1020 ± 0.0060"),
        (0.387, 0.1, "+0.39 ± 0.10"),
        (-0.0068, 0.006, "−0.0068 ± 0.0060"),
        (0.0, 1.2, "0.0 ± 1.2"),
        (57.7, 23.4, "+58 ± 23"),
        (2e-4, 3e-5, "+2.0·10⁻⁴ ± 3·10⁻⁵"),
    ],
)
def test_a_difference_and_its_half_width_have_the_same_decimals(mean, half, told_as):
    assert amount("test_intra", Interval(mean, half, 3)) == told_as


def test_a_difference_inside_the_margin_is_said_with_the_margin():
    results = random_study()
    set_column(results, "recall_at_1", dict.fromkeys(LOSSES, (0.5, 0.6, 0.7)))
    set_column(results, "recall_at_1", {"triplet": (0.5001, 0.6002, 0.7001)})
    line = evidence(told(results, "3"))[1]
    assert line.endswith(": equivalent, inside ± 0.5 points")
    assert margin("test_intra") == "± 0.01"
    assert margin("compaction_epochs") == "± 0.5 epochs"
    assert margin("embedding_gradient") == ""


def test_a_summary_is_the_effect_of_one_contrast_and_the_counts_of_several():
    results = random_study()
    level = {"triplet": (0.6, 0.7, 0.81), "scl": (0.1, 0.2, 0.31)}
    middle = {"contrastive": (0.3, 0.4, 0.5), "info_nce": (0.3, 0.4, 0.5)}
    set_column(results, "test_intra", level | middle)
    assert summary(told(results, "1")).startswith("+0.053 ± 0.0")
    found = told(results, "8")
    assert summary(found) == found.counts
    assert sum(int(part.split()[0]) for part in found.counts.split(", ")) == 5
    assert summary(told(random_study(losses=("scl",)), "1")) == ""
    assert summary(told(random_study(), "7a")).lstrip("+−").startswith("0.")


def test_small_and_large_numbers_are_told_without_an_exponent():
    results = random_study()
    small = {"triplet": (4.1e-4, 4.2e-4, 4.6e-4), "contrastive": (1e-4, 1e-4, 1e-4)}
    set_column(results, "embedding_gradient", small)
    lines = evidence(told(results, "8"))
    assert any(
        "gradient at the embedding, claimed above 0: +3.3·10⁻⁴ ± 7·10⁻⁵" in li for li in lines
    )
    assert not any("e-0" in line or "e+0" in line for line in lines)


def test_turns_are_told_up_to_three():
    turn = Flip(
        CLAIM["1"].contrasts[0].members[0],
        "triplet(margin=0.05)",
        "info_nce(temperature=0.4)",
        "against",
        Interval(-1, 0.1, 3),
    )
    assert turning([turn]) == (
        "against the claim in intra with triplet(margin=0.05) and info_nce(temperature=0.4)"
    )
    assert turning([turn] * 5).endswith("; and 2 more")
    assert turning([]) == ""


def test_shares_leave_out_what_is_not_there():
    assert shares(Shares(3, 0, 1)) == "75 % for, 25 % open, of 4"
    assert shares(Shares(2, 1, 0, 1)) == "50 % for, 25 % against, 25 % equivalent, of 4"
    assert shares(Shares(0, 0, 0)) == "none"

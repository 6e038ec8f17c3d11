"""Verdicts against a slow loop, and what degenerate studies give."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from lossgauge.claims.statements import CLAIMS
from lossgauge.claims.verdicts import NO_PROTOCOL, Verdict, verdicts
from lossgauge.results.view import StudyView
from lossgauge.types import Results
from tests.claims.conftest import CLAIM, LOSSES, random_study, row, set_column, study

HIGH, LOW = (0.50, 0.61, 0.70), (0.40, 0.50, 0.61)
UNCLEAR = (0.10, 0.50, 0.95)


def found(results: Results, key: str, dataset: str = "d") -> Verdict:
    return verdicts(StudyView(results), dataset, [CLAIM[key]])[0]


def slowly(results: Results, key: str) -> str:
    """A claim's status, said again without the package: scipy's own paired test on rows found by hand."""
    sides = []
    for comparison in CLAIM[key].comparisons:
        pairs = []
        for a in results.summaries:
            for b in results.summaries:
                if (a["loss"], b["loss"]) == comparison.losses and a["seed"] == b["seed"]:
                    pairs.append((a[comparison.column], b[comparison.column]))
        test = stats.ttest_rel([a for a, _ in pairs], [b for _, b in pairs])
        low, high = test.confidence_interval(0.95)
        if comparison.direction == "lower":
            low, high = -high, -low
        sides.append(1 if low > 0 else -1 if high < 0 else 0)
    if all(side == 1 for side in sides):
        return "supported"
    return "contradicted" if all(side == -1 for side in sides) else "undecided"


@pytest.mark.parametrize("key", ["1", "2", "3", "4", "5", "6", "8"])
def test_a_verdict_is_that_of_a_slow_loop_over_scipys_paired_test(key):
    expected = [slowly(random_study(seed), key) for seed in range(40)]
    assert [found(random_study(seed), key).status for seed in range(40)] == expected


@pytest.mark.parametrize("flip", [1, -1])
@pytest.mark.parametrize("key", [claim.key for claim in CLAIMS])
def test_a_claim_whose_every_part_is_so_is_supported_and_the_reverse_contradicted(key, flip):
    claim = CLAIM[key]
    results = random_study()
    for r in results.summaries:
        wobble = 0.01 * math.sin(7.0 * r["seed"] + len(r["loss"]))
        for c in claim.comparisons:
            sign = flip * (1 if c.direction == "higher" else -1)
            if r["loss"] == c.left:
                r[c.column] = 1.0 + wobble
            elif r["loss"] == c.right:
                r[c.column] = 1.0 - 0.5 * sign + wobble / 2
        for ordering in claim.orderings:
            r[ordering.x] = LOSSES.index(r["loss"]) + wobble
            r[ordering.y] = flip * r[ordering.x]
    if key in ("1", "2", "3", "4"):  # a loss is at one level there, whatever it is held against
        assert slowly(results, key) == ("supported" if flip == 1 else "contradicted")
    assert found(results, key).status == ("supported" if flip == 1 else "contradicted")


def test_one_comparison_that_is_not_told_apart_leaves_a_claim_undecided():
    results = random_study()
    levels = {"triplet": HIGH, "scl": HIGH, "contrastive": LOW, "info_nce": UNCLEAR}
    set_column(results, "test_intra", levels)
    told = found(results, "1")
    assert told.status == "undecided"
    assert told.reason == "2 for, 2 open, of 4 comparisons"


def test_a_claim_with_parts_on_both_sides_is_undecided_and_says_how_many():
    results = random_study()
    levels = {"triplet": HIGH, "scl": LOW, "contrastive": (0.45, 0.555, 0.65)}
    set_column(results, "test_intra", {**levels, "info_nce": levels["contrastive"]})
    told = found(results, "1")
    assert (told.status, told.reason) == ("undecided", "mixed: 2 for, 2 against, of 4 comparisons")


def test_pairing_is_by_seed_and_not_by_place():
    results = random_study()
    set_column(
        results, "test_intra", {"triplet": HIGH, "scl": HIGH, "contrastive": LOW, "info_nce": LOW}
    )
    assert found(results, "1").status == "supported"
    for r in results.summaries:
        if r["loss"] in ("contrastive", "info_nce"):
            r["seed"] = (r["seed"] + 1) % 3
    assert found(results, "1").status == "undecided"


def plain(told: list[Verdict]) -> list[object]:
    return [
        (v.claim.key, v.status, v.reason, [(w.side, w.difference) for w in v.comparisons])
        for v in told
    ]


def test_neither_the_order_of_rows_nor_the_names_of_runs_and_datasets_matter():
    results = random_study(3)
    expected = plain(verdicts(StudyView(results), "d"))
    order = np.random.default_rng(1).permutation(len(results.summaries))
    moved = [results.summaries[i] for i in order]
    assert plain(verdicts(StudyView(results._replace(summaries=moved)), "d")) == expected
    renamed = [{**r, "dataset": "other", "run": "x", "seed": 7 * r["seed"] + 3} for r in moved]
    assert plain(verdicts(StudyView(results._replace(summaries=renamed)), "other")) == expected


def test_other_datasets_tuned_runs_and_varied_ones_do_not_count():
    results = random_study(3)
    expected = plain(verdicts(StudyView(results), "d"))
    noise = random_study(99).summaries
    more = [{**r, "dataset": "e"} for r in noise]
    more += [
        {**r, "base": r["loss"], "loss": f"{r['loss']}(tuned)", "variant": "tuned"} for r in noise
    ]
    varied = [
        {**r, "base": r["loss"], "variant": "sensitivity", "setting": "margin", "factor": 2.0}
        for r in noise
    ]
    mixed = results._replace(summaries=results.summaries + more, sensitivity=varied)
    assert plain(verdicts(StudyView(mixed), "d")) == expected


def test_one_seed_decides_nothing():
    for told in verdicts(StudyView(random_study(seeds=(4,))), "d"):
        assert told.status == "undecided"
        assert told.reason == "one seed shows no spread"


def test_a_missing_loss_is_named_and_the_rest_is_still_shown():
    results = random_study(losses=[loss for loss in LOSSES if loss != "scl"])
    told = found(results, "1")
    assert (told.status, told.reason) == ("not tested", "scl is not in the study")
    assert len(told.comparisons) == 2
    assert found(results, "5").status != "not tested"


def test_a_loss_that_failed_is_named_as_such():
    results = random_study(losses=[loss for loss in LOSSES if loss != "scl"])
    failed = [{**row("scl", 0), "error": "NaN"}]
    told = found(results._replace(failures=failed), "1")
    assert (told.status, told.reason) == ("not tested", "every run of scl failed")


def test_a_loss_with_settings_stands_for_the_plain_one_unless_there_are_two():
    results = random_study(2)
    expected = found(results, "1")
    for r in results.summaries:
        if r["loss"] == "triplet":
            r["loss"] = r["base"] = "triplet(margin=0.1)"
    results = study(results.summaries)
    assert plain([found(results, "1")]) == plain([expected])
    other = "triplet(margin=0.3)"
    again = [{**r, "loss": other, "base": other} for r in results.summaries if "0.1" in r["loss"]]
    told = found(study(results.summaries + again), "1")
    assert told.status == "not tested"
    assert "triplet(margin=0.1) and triplet(margin=0.3)" in told.reason


def test_fine_grained_claims_ask_for_a_class_disjoint_split():
    results = random_study()
    assert found(results, "3").status != "not tested"
    for r in results.summaries:
        r["protocol"] = "halves"
    assert (
        found(results, "3").reason
        == "the claim is about a class-disjoint split, and this split is halves"
    )
    for r in results.summaries:
        del r["protocol"]
    assert (found(results, "3").status, found(results, "3").reason) == ("not tested", NO_PROTOCOL)
    assert found(results, "7a").status != "not tested"


def test_a_decay_that_one_seed_never_reached_is_open_and_not_left_out():
    results = random_study()
    decays: dict[str, tuple[float | None, ...]] = {
        "triplet": (30.0, 31.0, None),
        "contrastive": (10.0, 11.2, 12.0),
    }
    set_column(results, "decay_epochs", decays)
    part = next(w for w in found(results, "8").comparisons if w.comparison.column == "decay_epochs")
    assert (part.side, part.difference) == ("open", None)
    assert "decay of triplet was not reached or not measured in 1 of 3 seeds" in part.reason


def test_one_comparison_without_numbers_leaves_a_claim_undecided():
    results = random_study()
    decays: dict[str, tuple[float | None, ...]] = {
        "triplet": (30.0, 31.0, None),
        "contrastive": (10.0, 11.2, 12.0),
    }
    set_column(results, "decay_epochs", decays)
    told = found(results, "8")
    assert [w.difference is None for w in told.comparisons] == [False, False, True, False, False]
    assert told.status == "undecided"
    assert told.reason == f"{told.counts}, of 5 comparisons"


def test_open_comparisons_of_several_reasons_are_counted_and_of_one_told():
    results = random_study()
    level = dict.fromkeys(("triplet", "scl"), (0.1, 0.5, 0.95))
    even = dict.fromkeys(("contrastive", "info_nce"), (0.3, 0.9, 0.2))
    set_column(results, "test_intra", level | even)
    assert found(results, "1").reason == "no clear difference"
    set_column(results, "test_intra", {"scl": (0.4, 1.0, 0.3)})  # by the same in every seed
    told = found(results, "1")
    assert {w.side for w in told.comparisons} == {"open"}
    assert len({w.reason for w in told.comparisons}) == 2
    assert told.reason == "all 4 comparisons open it"


def test_quantities_that_nobody_measured_leave_a_claim_untested():
    results = random_study()
    set_column(results, "test_margin", dict.fromkeys(LOSSES, (None, None, None)))
    told = found(results, "2")
    assert told.status == "not tested"
    assert "margin of triplet was not reached or not measured in 3 of 3 seeds" in told.reason


def test_losses_without_a_shared_seed_are_not_compared():
    rows = [row("triplet", 0), row("triplet", 1), row("contrastive", 2), row("contrastive", 3)]
    told = found(study(rows), "8")
    assert told.status == "not tested"
    assert "share no seed" in told.reason


def test_corrected_p_values_are_holms_over_the_claims_own_comparisons():
    told = found(random_study(11), "6")
    raw = [stats.ttest_rel(*values).pvalue for values in values_of(random_study(11), "6")]
    order = np.argsort(raw)
    expected, highest = [0.0] * 12, 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, (12 - place) * raw[index]))
        expected[index] = highest
    assert [w.corrected_p_value for w in told.comparisons] == pytest.approx(expected, rel=1e-6)
    assert told.holding_up == sum(p < 0.05 for p in expected)
    assert told.resolved == sum(p < 0.05 for p in raw)


def values_of(results: Results, key: str) -> list[list[list[float]]]:
    def column(loss: str, name: str) -> list[float]:
        rows = [r for r in results.summaries if r["loss"] == loss]
        return [r[name] for r in sorted(rows, key=lambda r: r["seed"])]

    return [[column(c.left, c.column), column(c.right, c.column)] for c in CLAIM[key].comparisons]


def test_an_ordering_is_spearmans_over_the_means_of_losses():
    for seed in range(10):
        results = random_study(seed)
        part = found(results, "7a").orderings[0]
        means = [
            [np.mean([r[c] for r in results.summaries if r["loss"] == loss]) for loss in LOSSES]
            for c in ("compaction_epochs", "test_intra")
        ]
        assert part.correlation is not None
        assert part.correlation.value == pytest.approx(stats.spearmanr(*means).statistic)
        decided = part.correlation.p_value < 0.05
        assert part.side == (
            "open" if not decided else "for" if part.correlation.value > 0 else "against"
        )


def test_an_ordering_uses_the_seeds_that_all_losses_share():
    results = random_study(1)
    rows = [r for r in results.summaries if (r["loss"], r["seed"]) != ("ccl", 2)]
    shared = [r for r in results.summaries if r["seed"] != 2]
    assert found(study(rows), "7a").orderings == found(study(shared), "7a").orderings


def test_an_ordering_of_two_losses_is_not_tested():
    told = found(random_study(losses=("scl", "ccl")), "7a")
    assert told.status == "not tested"
    assert "a rank correlation needs three" in told.reason


def test_a_study_of_nothing_has_no_verdict_but_not_tested():
    assert {v.status for v in verdicts(StudyView(study([])), "d")} == {"not tested"}

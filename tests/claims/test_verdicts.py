"""Verdicts against a slow loop, each verdict once, and what degenerate studies give."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lossgauge.claims.statements import CLAIMS, Claim, Contrast
from lossgauge.claims.verdicts import NO_PROTOCOL, Verdict, verdicts
from lossgauge.results.columns import COLUMNS
from lossgauge.results.view import StudyView
from lossgauge.stats.decisions import LEVEL
from lossgauge.types import Results
from tests.claims.conftest import CLAIM, LOSSES, random_study, row, set_column, study
from tests.support.made_up_study import make_results
from tests.support.slow_seeds import OverSeeds, over_seeds

HIGH, LOW = (0.50, 0.61, 0.70), (0.40, 0.50, 0.61)
UNCLEAR = (0.10, 0.50, 0.95)


def found(results: Results, key: str, dataset: str = "d") -> Verdict:
    """The verdict on one claim, alone in its family."""
    return verdicts(StudyView(results), dataset, [CLAIM[key]])[0]


def slow_difference(results: Results, contrast: Contrast) -> OverSeeds:
    """The difference of a contrast, from rows found by hand."""
    values: dict[str, list[float]] = {}
    for r in sorted(results.summaries, key=lambda r: r["seed"]):
        values.setdefault(r["loss"], []).append(r[contrast.column])
    left, right = ([values[loss] for loss in of] for of in (contrast.left, contrast.right))
    comparable = COLUMNS[contrast.column].margin is not None
    return over_seeds(left, right, [values[loss] for loss in LOSSES] if comparable else [])


def slowly(results: Results, key: str) -> str:
    """A claim's status, said again without the package: a slow interval, Bonferroni's steps by hand."""
    claim = CLAIM[key]
    every: dict[Contrast, tuple[float, float, float]] = {}  # mean, p, p outside the margin
    for part in claim.contrasts:
        for contrast in (part, *part.members):
            slow = slow_difference(results, contrast)
            margin = COLUMNS[contrast.column].margin
            outside = 1.0 if margin is None else slow.outside(margin)
            every[contrast] = slow.mean, slow.p_value, outside

    def rejected(contrast: Contrast, which: int) -> bool:
        family = sorted(v[which] for c, v in every.items() if c.column == contrast.column)
        for place, p in enumerate(family):
            if p >= LEVEL / (len(family) - place):
                return False
            if p == every[contrast][which]:
                return True
        return False

    def side(contrast: Contrast) -> str:
        if rejected(contrast, 2):
            return "equivalent"
        if not rejected(contrast, 1):
            return "open"
        return "for" if (every[contrast][0] > 0) == (contrast.direction == "higher") else "against"

    parts = []
    for part in claim.contrasts:
        sides = [side(m) for m in part.members] if part.every else [side(part)]
        if all(s == "for" for s in sides):
            parts.append("for")
        elif "against" in sides or "equivalent" in sides:
            parts.append("against" if "against" in sides else "equivalent")
        else:
            parts.append("open")
    seen = {*parts, *map(side, every)}
    if {"for", "against"} <= seen or {"for", "equivalent"} <= set(parts):
        return "mixed"
    if set(parts) == {"for"}:
        return "supported"
    return "contradicted" if {"against", "equivalent"} & set(parts) else "undecided"


@pytest.mark.parametrize("key", ["1", "2", "3", "4", "5", "6", "8"])
def test_a_verdict_is_that_of_a_slow_loop(key):
    seeds = tuple(range(5))
    studies = [random_study(seed, seeds=seeds) for seed in range(40)]
    for r in (r for results in studies for r in results.summaries):
        for column in ("compaction_epochs", "decay_epochs"):
            r[column] *= 20  # these are epochs, the others shares
    expected = [slowly(results, key) for results in studies]
    assert [found(results, key).status for results in studies] == expected
    assert len(set(expected)) > 1


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 10_000),
    st.sampled_from([0.001, 0.02, 0.1, 0.6]),
    st.lists(st.sampled_from(CLAIMS), min_size=1, unique=True),
)
def test_a_verdict_never_contradicts_its_own_correction(seed, spread, claims):
    results = random_study(seed, seeds=(0, 1, 2, 3))
    for number, r in enumerate(results.summaries):
        for column in ("test_intra", "test_inter", "compaction_epochs"):
            r[column] = 0.5 + spread * (r[column] - 0.5) + 1e-4 * math.sin(number)
    for verdict in verdicts(StudyView(results), "d", claims):
        for result in verdict.results:
            p, outside = result.decision.p_value, result.decision.equivalence_p_value
            assert result.difference is not None
            if result.side in ("for", "against"):
                assert p is not None
                assert p < LEVEL
                as_claimed = (result.difference.mean > 0) == (result.contrast.direction == "higher")
                assert as_claimed == (result.side == "for")
            if result.side == "equivalent":
                assert outside is not None
                assert outside < LEVEL
                margin = COLUMNS[result.contrast.column].margin
                assert margin is not None
                assert max(abs(result.difference.low), abs(result.difference.high)) < margin
            if result.side == "open":
                assert p is None or p >= LEVEL
                assert outside is None or outside >= LEVEL
        sides = {result.side for result in verdict.results}
        if verdict.status == "supported":
            assert "against" not in sides
            assert set(verdict.sides) == {"for"}
        if verdict.status == "contradicted":
            assert {"against", "equivalent"} & set(verdict.sides)
            assert "for" not in verdict.sides
        if verdict.status == "mixed":
            assert len({"for", "against", "equivalent"} & sides) >= 2


def test_swapped_groups_turn_support_into_contradiction():
    statuses = {"supported": "contradicted", "contradicted": "supported"}
    for seed in range(20):
        results = random_study(seed, seeds=tuple(range(6)))
        claim = CLAIM["1"]
        (contrast,) = claim.contrasts
        turned = Contrast(contrast.right, contrast.left, contrast.column, contrast.direction)
        back = claim._replace(contrasts=(turned,))
        one, other = (verdicts(StudyView(results), "d", [c])[0] for c in (claim, back))
        assert other.status == statuses.get(one.status, one.status)
        assert one.effect is not None
        assert other.effect is not None
        assert other.effect.mean == pytest.approx(-one.effect.mean)


def test_the_order_of_losses_in_a_group_does_not_matter():
    for seed in range(10):
        results = random_study(seed)
        (contrast,) = CLAIM["1"].contrasts
        turned = contrast._replace(left=contrast.left[::-1], right=contrast.right[::-1])
        back = CLAIM["1"]._replace(contrasts=(turned,))
        one, other = (verdicts(StudyView(results), "d", [c])[0] for c in (CLAIM["1"], back))
        assert one.status == other.status
        assert one.effect == other.effect
        assert {r.contrast.comparison: r.decision for r in one.results} == {
            r.contrast.comparison: r.decision for r in other.results
        }


LEVELS = {"triplet": 0.30, "scl": 0.29, "contrastive": 0.20, "info_nce": 0.19}
"""Of intra: claim 1 is so."""


def made_up(levels: dict[str, float], *, spread: float = 0.002) -> Results:
    """The made-up study with these levels of intra on its second dataset, in four seeds."""
    results = make_results(seeds=(0, 1, 2, 3))
    for r in results.summaries:
        wobble = spread * math.sin(7.0 * r["seed"] + len(r["loss"]))
        if r["loss"] in levels:
            r["test_intra"] = levels[r["loss"]] + wobble
    return results


@pytest.mark.parametrize(
    ("levels", "spread", "status", "reason"),
    [
        (LEVELS, 0.002, "supported", "the difference is clear"),
        (
            {loss: 0.5 - level for loss, level in LEVELS.items()},
            0.002,
            "contradicted",
            "the difference is clear, in the other direction",
        ),
        (
            dict.fromkeys(LEVELS, 0.2),
            0.002,
            "contradicted",
            "the difference lies inside the margin, and the claim says more",
        ),
        (
            {**LEVELS, "scl": 0.1},
            0.002,
            "mixed",
            "for it: triplet − contrastive in intra, triplet − info_nce in intra; "
            "against it: scl − contrastive in intra, scl − info_nce in intra",
        ),
        (LEVELS, 0.3, "undecided", "no clear difference; about"),
    ],
)
def test_each_verdict_of_a_made_up_study(levels, spread, status, reason):
    told = found(made_up(levels, spread=spread), "1", "orl-faces")
    assert (told.status, told.reason[: len(reason)]) == (status, reason)


def test_what_is_not_tested_says_why():
    results = made_up(LEVELS)
    rows = [r for r in results.summaries if r["loss"] != "scl"]
    told = found(results._replace(summaries=rows, epochs=[]), "1", "orl-faces")
    assert (told.status, told.reason) == ("not tested", "scl is not in the study")


def test_an_undecided_claim_says_how_many_seeds_would_decide_it():
    told = found(made_up(LEVELS, spread=0.3), "1", "orl-faces")
    (whole,) = (part.whole for part in told.parts)
    assert whole is not None
    assert told.seeds_needed == whole.seeds_needed
    assert told.seeds_needed is not None
    assert told.seeds_needed > 4
    assert f"about {told.seeds_needed} seeds would decide it" in told.reason
    assert told.queries_needed is None


def test_a_claim_about_every_pair_needs_all_of_them():
    results = random_study(seeds=(0, 1, 2, 3))
    for r in results.summaries:
        wobble = 1e-3 * math.sin(5.0 * r["seed"] + len(r["loss"]))
        r["test_inter"] = r["test_spacing_cv"] = (0.9 if r["loss"] == "n_pair" else 0.3) + wobble
    assert found(results, "6").status == "supported"
    set_to(results, "ccl", 0.9)  # as far apart as N-pair: the mean of the others is still far below
    told = found(results, "6")
    assert told.parts[0].whole is not None
    assert told.parts[0].whole.side == "for"
    assert [part.side for part in told.parts] == ["equivalent", "equivalent"]
    assert told.status == "contradicted"
    set_to(results, "ccl", 1.4)
    assert found(results, "6").status == "mixed"


def set_to(results: Results, loss: str, level: float) -> None:
    for r in results.summaries:
        if r["loss"] == loss:
            wobble = 1e-3 * math.sin(3.0 * r["seed"])
            r["test_inter"] = r["test_spacing_cv"] = level + wobble


def test_one_part_that_is_against_it_contradicts_a_claim_and_two_sides_are_mixed():
    results = random_study(seeds=(0, 1, 2, 3))

    def put(signs: dict[str, int]) -> Verdict:
        """The verdict where triplet minus contrastive has these signs; 0 is a difference that is not clear."""
        for r in results.summaries:
            for column, sign in signs.items():
                difference = (sign or 0.1) + (0.02 if sign else 0.9) * (-1, 1, 0, 0.5)[r["seed"]]
                r[column] = 5.0 + (difference if r["loss"] == "triplet" else 0.0)
        return found(results, "8")

    columns = (
        "test_intra",
        "test_inter",
        "decay_epochs",
        "term_active_ratio",
        "embedding_gradient",
    )
    assert put(dict.fromkeys(columns, 0)).status == "undecided"
    told = put({"test_intra": -1})
    assert told.status == "contradicted"
    assert "intra: against it" in told.reason
    assert "inter: open" in told.reason
    told = put({"test_inter": 1})
    assert told.status == "mixed"
    assert told.reason.startswith("for it: triplet − contrastive in inter; against it: triplet")


@pytest.mark.parametrize("flip", [1, -1])
@pytest.mark.parametrize("key", [claim.key for claim in CLAIMS])
def test_a_claim_whose_every_part_is_so_is_supported_and_the_reverse_contradicted(key, flip):
    claim = CLAIM[key]
    results = random_study()
    for r in results.summaries:
        wobble = 0.001 * math.sin(7.0 * r["seed"] + len(r["loss"]))
        for c in claim.contrasts:
            sign = flip * (1 if c.direction == "higher" else -1)
            if r["loss"] in c.left:
                r[c.column] = 5.0 + wobble
            elif r["loss"] in c.right:
                r[c.column] = 5.0 - 2.5 * sign + wobble / 2
        for ordering in claim.orderings:
            r[ordering.x] = LOSSES.index(r["loss"]) + wobble
            r[ordering.y] = flip * r[ordering.x]
    assert found(results, key).status == ("supported" if flip == 1 else "contradicted")


def test_pairing_is_by_seed_and_not_by_place():
    results = random_study()
    wobble = {"triplet": 1e-4, "scl": 3e-4, "contrastive": 0.0, "info_nce": 2e-4}
    for r in results.summaries:
        if r["loss"] in wobble:
            high = HIGH if r["loss"] in ("triplet", "scl") else LOW
            r["test_intra"] = high[r["seed"]] + wobble[r["loss"]] * r["seed"]
    assert found(results, "1").status == "supported"
    for r in results.summaries:
        if r["loss"] in ("contrastive", "info_nce"):
            r["seed"] = (r["seed"] + 1) % 3
    assert found(results, "1").status == "undecided"


def plain(told: list[Verdict]) -> list[object]:
    return [
        (v.claim.key, v.status, v.reason, [(w.side, w.difference, w.decision) for w in v.results])
        for v in told
    ]


def test_neither_the_order_of_rows_nor_the_names_of_runs_and_datasets_matter():
    results = random_study(3)
    expected = plain(verdicts(StudyView(results), "d"))
    order = np.random.default_rng(1).permutation(len(results.summaries))
    moved = [results.summaries[i] for i in order]
    assert plain(verdicts(StudyView(results._replace(summaries=moved)), "d")) == expected
    renamed = [
        {**r, "dataset": "other", "run": f"x {r['run']}", "seed": 7 * r["seed"] + 3} for r in moved
    ]
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
    assert [r.contrast.left for r in told.results] == [("triplet",)] * 2
    assert told.parts[0].whole is None
    assert found(results, "5").status != "not tested"


def test_a_loss_that_failed_is_named_as_such():
    results = random_study(losses=[loss for loss in LOSSES if loss != "scl"])
    failed = [{**row("scl", 0), "error": "NaN"}]
    told = found(results._replace(failures=failed), "1")
    assert (told.status, told.reason) == ("not tested", "every run of scl failed or is damaged")


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
    part = next(w for w in found(results, "8").results if w.contrast.column == "decay_epochs")
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
    assert [w.difference is None for w in told.results] == [False, False, True, False, False]
    assert told.parts[2].side == "open"
    assert told.status in ("undecided", "contradicted", "mixed")


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


def test_corrected_p_values_are_holms_over_all_claims_in_one_quantity():
    results = random_study(11)
    told = verdicts(StudyView(results), "d", CLAIMS)
    raw: dict[object, float] = {}
    for claim in (CLAIM["1"], CLAIM["8"]):  # those about intra
        for part in claim.contrasts:
            for contrast in (part, *part.members):
                if contrast.column == "test_intra":
                    raw[contrast.comparison] = slow_difference(results, contrast).p_value
    assert len(raw) == 5  # the comparison of claim 8 is a member of claim 1
    expected, highest = {}, 0.0
    for place, (comparison, p) in enumerate(sorted(raw.items(), key=lambda item: item[1])):
        highest = max(highest, min(1.0, (5 - place) * p))
        expected[comparison] = highest
    seen = [r for v in told for r in v.results if r.contrast.column == "test_intra"]
    assert len(seen) == 6
    for result in seen:
        assert result.decision.family == 5
        assert result.decision.p_value == pytest.approx(expected[result.contrast.comparison])


def test_a_further_claim_enlarges_the_family():
    results = random_study(11)
    own = Claim("own 1", "It is so.", (Contrast(("ccl",), ("arcface",), "test_intra", "higher"),))
    alone, more = (
        verdicts(StudyView(results), "d", claims)[0] for claims in ([CLAIM["1"]], [CLAIM["1"], own])
    )
    assert {r.decision.family for r in alone.results} == {5}
    assert {r.decision.family for r in more.results} == {6}


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

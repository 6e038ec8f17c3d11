"""How claims move with the settings, against a slow loop over every pair of settings."""

from __future__ import annotations

import numpy as np
import pytest

from lossgauge.claims.sensitivity import Movement, Shares, movements
from lossgauge.claims.variants import loss_variants
from lossgauge.claims.verdicts import Verdict, verdicts
from lossgauge.results.columns import COLUMNS
from lossgauge.results.view import StudyView
from lossgauge.types import Record, Results
from tests.claims.conftest import CLAIM, LOSSES, QUANTITIES, random_study
from tests.support.slow_seeds import over_seeds

FACTORS = (0.25, 0.5, 2.0, 4.0)
EQUIVALENT = 2
SETTINGS = {"arcface": ("margin", "scale"), "ccl": ("margin", "scale")}


def varied_study(seed: int = 0, *, losses=LOSSES, factors=FACTORS) -> Results:
    """A random study, tuned and with every loss at four multiples of each of its settings."""
    results = random_study(seed, losses=losses)
    generator = np.random.default_rng([seed, 1])
    tuned: list[Record] = []
    varied: list[Record] = []
    for r in results.summaries:
        base = {"base": r["loss"], "protocol": "class-disjoint"}
        moved = {name: r[name] + 0.3 * np.sin(len(r["loss"])) for name in QUANTITIES}
        names = {"loss": f"{r['loss']}(tuned)", "run": f"{r['run']}_tuned"}
        tuned.append({**r, **moved, **base, **names, "variant": "tuned"})
        for setting in SETTINGS.get(r["loss"], ("temperature",)):
            for factor in factors:
                title = f"{r['loss']}({setting}={factor:g})"
                columns = {"variant": "sensitivity", "setting": setting, "factor": factor}
                by = {
                    name: r[name] + generator.normal(0, 0.05) + 0.2 * np.log2(factor)
                    for name in QUANTITIES
                }
                names = {"loss": title, "run": f"{r['run']}_{setting}_{factor}"}
                varied.append({**r, **by, **base, **columns, **names})
    return results._replace(summaries=[*results.summaries, *tuned], sensitivity=varied)


def moved(results: Results, key: str) -> Movement:
    return movements(StudyView(results), "d", [CLAIM[key]])[0]


def slow_sides(results: Results, key: str) -> list[tuple[str, str, str, int]]:
    """Column, both titles, and the side of every pair of settings, from rows found by hand."""
    rows = [*results.summaries, *results.sensitivity]
    found = []

    def values(title: str, column: str) -> list[float]:
        by_seed = {r["seed"]: r[column] for r in rows if r["loss"] == title}
        return [by_seed[seed] for seed in (0, 1, 2)]

    pairs = [pair for part in CLAIM[key].contrasts for pair in part.pairs]
    for comparison in pairs:
        titles = [
            sorted({r["loss"] for r in rows if r.get("base", r["loss"]) == loss})
            for loss in comparison.losses
        ]
        for a in titles[0]:
            for b in titles[1]:
                column = comparison.column
                margin = COLUMNS[column].margin
                study = [values(t, column) for t in LOSSES] if margin is not None else []
                slow = over_seeds([values(a, column)], [values(b, column)], study)
                low, high = slow.low, slow.high
                if comparison.direction == "lower":
                    low, high = -high, -low
                side = 1 if low > 0 else -1 if high < 0 else 0
                if margin is not None and -margin < low and high < margin:
                    side = EQUIVALENT
                found.append((comparison.column, a, b, side))
    return found


@pytest.mark.parametrize("key", ["1", "4", "5", "8"])
def test_shares_and_turns_are_those_of_a_slow_loop_over_all_pairs_of_settings(key):
    results = varied_study(int(key))
    found = moved(results, key)
    expected = slow_sides(results, key)
    sides = [side for *_, side in expected]
    assert found.combinations == Shares(*map(sides.count, (1, -1, 0, EQUIVALENT)))
    assert found.combinations.total == sum(len(part.pairs) for part in CLAIM[key].contrasts) * 36
    default = {(c, a, b): side for c, a, b, side in expected if {a, b} <= set(LOSSES)}
    flips = {
        (column, a, b)
        for column, a, b, side in expected
        if side == (1 if default[column, a.partition("(")[0], b.partition("(")[0]] == -1 else -1)
    }
    assert {(t.contrast.column, t.left, t.right) for t in found.flips} == flips
    assert flips  # a study in which nothing flips would test nothing


def test_the_default_is_the_verdict_of_the_plans_settings():
    results = varied_study(2)
    assert [m.default for m in movements(StudyView(results), "d")] == verdicts(
        StudyView(results), "d"
    )


def estimates(verdict: Verdict | None) -> list[object]:
    """What does not depend on how much seeds vary in the other losses of the study."""
    assert verdict is not None
    return [
        verdict.claim,
        *((r.contrast, r.difference and r.difference.mean) for r in verdict.results),
        *verdict.orderings,
    ]


def test_the_tuned_verdict_is_that_of_a_study_of_the_tuned_rows_alone():
    results = varied_study(2)
    alone = [
        {**r, "loss": r["base"], "variant": "default"}
        for r in results.summaries
        if r.get("variant") == "tuned"
    ]
    expected = verdicts(StudyView(results._replace(summaries=alone, sensitivity=[])), "d")
    found = [m.tuned for m in movements(StudyView(results), "d")]
    assert [estimates(v) for v in found] == [estimates(v) for v in expected]


def test_a_multiple_is_the_verdict_of_all_losses_at_their_first_setting_times_that():
    results = varied_study(2)
    alone = [
        {**r, "loss": r["base"], "variant": "default"}
        for r in results.sensitivity
        if r["factor"] == 0.5 and r["setting"] != "scale"
    ]
    expected = verdicts(StudyView(results._replace(summaries=alone, sensitivity=[])), "d")
    found = movements(StudyView(results), "d")
    assert [factor for factor, _ in found[0].at_factors] == list(FACTORS)
    at_half = [dict(m.at_factors)[0.5] for m in found]
    assert [estimates(v) for v in at_half] == [estimates(v) for v in expected]


def test_of_several_settings_margin_comes_first_then_temperature_then_scale():
    results = varied_study()
    for r in results.sensitivity:
        r["setting"] = "scale" if r["setting"] == "margin" else "temperature"
    found = loss_variants(StudyView(results), "d", ["arcface"])
    assert [s.setting for s in found.by_loss["arcface"]] == [
        None,
        *["temperature"] * 4,
        *["scale"] * 4,
        None,
    ]
    assert found.by_loss["arcface"][-1].title == "arcface(tuned)"


def test_an_ordering_counts_default_each_multiple_and_tuned():
    found = moved(varied_study(4), "7a")
    assert found.combinations.total == 1 + len(FACTORS) + 1
    assert found.flips == ()


def test_the_order_of_rows_does_not_matter():
    results = varied_study(3)
    expected = movements(StudyView(results), "d")
    order = np.random.default_rng(0)
    shuffled = results._replace(
        summaries=[results.summaries[i] for i in order.permutation(len(results.summaries))],
        sensitivity=[results.sensitivity[i] for i in order.permutation(len(results.sensitivity))],
    )
    assert movements(StudyView(shuffled), "d") == expected


def test_a_study_without_tuned_or_varied_runs_has_no_movement():
    assert movements(StudyView(random_study()), "d") == []


def test_a_claim_that_the_split_does_not_allow_does_not_move():
    results = varied_study()
    for r in [*results.summaries, *results.sensitivity]:
        r["protocol"] = "official"
    assert [m.claim.key for m in movements(StudyView(results), "d")] == [
        "1",
        "2",
        "4",
        "5",
        "6",
        "7a",
        "8",
    ]


def test_a_loss_without_a_tuned_run_is_named():
    results = varied_study()
    rows = [r for r in results.summaries if r["loss"] != "scl(tuned)"]
    varied = [r for r in results.sensitivity if (r["base"], r["factor"]) != ("scl", 2.0)]
    found = moved(results._replace(summaries=rows, sensitivity=varied), "1")
    assert found.tuned is not None
    assert (found.tuned.status, found.tuned.reason) == (
        "not tested",
        "scl has no run with tuned settings",
    )
    assert dict(found.at_factors)[2.0].reason == "scl has no run at × 2"
    assert found.default.status != "not tested"


def lost_at(results: Results, gap: str) -> Results:
    """Every run of scl at × 2, and all its tuned ones, failed or still wait."""
    gone = [r for r in results.summaries if r["loss"] == "scl(tuned)"]
    gone += [r for r in results.sensitivity if (r["base"], r["factor"]) == ("scl", 2.0)]
    run_columns = ("run", "dataset", "loss", "base", "variant", "seed", "setting", "factor")
    lost = [{k: r[k] for k in run_columns if k in r} for r in gone]
    rows = [r for r in results.summaries if r not in gone]
    varied = [r for r in results.sensitivity if r not in gone]
    return results._replace(summaries=rows, sensitivity=varied, **{gap: lost})


@pytest.mark.parametrize(
    ("gap", "tuned", "at_two"),
    [
        (
            "failures",
            "every run of scl with tuned settings failed or is damaged",
            "every run of scl at × 2 failed or is damaged",
        ),
        (
            "waiting",
            "no run of scl with tuned settings has finished yet",
            "no run of scl at × 2 has finished yet",
        ),
    ],
)
def test_settings_whose_runs_failed_or_wait_are_open_pairs_and_say_so(gap, tuned, at_two):
    whole = varied_study()
    results = lost_at(whole, gap)
    found = moved(results, "1")
    assert found.tuned is not None
    assert found.tuned.reason == tuned
    assert dict(found.at_factors)[2.0].reason == at_two
    assert found.combinations.total == moved(whole, "1").combinations.total
    assert found.combinations.undecided > moved(whole, "1").combinations.undecided


def test_a_loss_that_failed_at_its_margin_is_not_stood_for_by_its_scale():
    results = varied_study()
    failed = [r for r in results.sensitivity if (r["base"], r["setting"]) == ("arcface", "margin")]
    varied = [r for r in results.sensitivity if r not in failed]
    found = moved(results._replace(sensitivity=varied, failures=failed), "6")
    assert dict(found.at_factors)[2.0].reason == "every run of arcface at × 2 failed or is damaged"


def test_the_clearest_turn_comes_first_and_shares_are_of_all_pairs():
    seen = 0
    for seed in range(6):
        found = moved(varied_study(seed), "5")
        clear = [abs(t.difference.mean) / t.difference.half_width for t in found.flips]
        assert clear == sorted(clear, reverse=True)
        seen += len(clear) > 1
    assert seen
    assert Shares(3, 2, 5).share(3) == 0.3
    assert Shares(0, 0, 0).share(0) == 0.0


def test_settings_of_the_same_runs_count_once():
    whole = varied_study()
    results = varied_study()
    for r in results.summaries:
        if r["loss"] == "scl(tuned)":  # its search chose the loss as it stands
            r["run"] = r["run"].removesuffix("_tuned")
    before, after = moved(whole, "1"), moved(results, "1")
    assert before.combinations.total == 4 * 6 * 6
    assert after.combinations.total == 2 * 6 * 6 + 2 * 5 * 6
    assert estimates(after.tuned) == estimates(before.tuned)


def test_only_varied_runs_give_no_tuned_verdict():
    results = varied_study()
    rows = [r for r in results.summaries if r.get("variant") != "tuned"]
    assert moved(results._replace(summaries=rows), "1").tuned is None

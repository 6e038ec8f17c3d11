"""The view of a made-up study, against loops over its rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from lossgauge.diagnostics.references import FROZEN
from lossgauge.errors import InputError
from lossgauge.results.view import BASELINE, Loss, StudyView, in_order
from lossgauge.types import Record, Results
from tests.support.slow_seeds import over_seeds

LOSSES = [
    {"name": "scl", "settings": {}},
    {"name": "triplet", "settings": {"margin": 0.1}},
    {"name": "a/my.py:Pull", "settings": {}},
]
TITLES = ("scl", "triplet(margin=0.1)", "a/my.py:Pull")
SCL, TRIPLET, OWN = (
    Loss("scl", "scl"),
    Loss("triplet(margin=0.1)", "triplet"),
    Loss("a/my.py:Pull", "a/my.py:Pull"),
)


def row(base: str, seed: int, *, variant: str = "default", **columns: object) -> Record:
    title = f"{base}, {variant}" if variant != "default" else base  # nothing may read the title
    named = {"run": f"{base}_{variant}_{seed}", "dataset": "d", "loss": title, "base": base}
    return {**named, "variant": variant, "seed": seed, **columns}


def made_up(seeds=(0, 1, 2)) -> Results:
    """Three losses and the baseline; scl is tuned too; a loss's value is drawn anew for each seed."""
    draw = np.random.default_rng(0)
    summaries = [
        row(base, seed, recall_at_1=float(draw.random()), test_intra=float(draw.random()))
        for seed in seeds
        for base in ("untrained", *TITLES)
    ]
    summaries += [row("scl", seed, variant="tuned", recall_at_1=0.9) for seed in seeds]
    epochs = [{**r, "epoch": epoch} for r in summaries for epoch in range(3)]
    results = Results({}, {}, summaries, epochs, [], [], [], {})
    return results._replace(plan={"datasets": ["e", "d"], "losses": LOSSES})


def test_losses_are_those_of_the_rows_by_base_and_variant():
    view = StudyView(made_up())
    assert view.losses == (TRIPLET, SCL, OWN)
    assert view.tuned == (Loss("scl", "scl", tuned=True),)
    assert view.losses_and_tuned == (TRIPLET, SCL, Loss("scl", "scl", tuned=True), OWN)
    assert BASELINE not in view.losses
    assert view.runs("d", BASELINE).keys() == {0, 1, 2}
    assert view.loss_of(row("triplet(margin=0.1)", 0)) == TRIPLET
    assert view.planned_loss(row("scl", 0, variant="trial", trial=3)) == SCL


def test_a_loss_of_which_every_run_failed_is_there_without_values():
    results = made_up()
    failed = [row("ccl", seed, error="NaN") for seed in (0, 1)]
    view = StudyView(results._replace(failures=failed))
    ccl = Loss("ccl", "ccl")
    assert ccl in view.losses
    assert (dict(view.runs("d", ccl)), view.epochs("d", ccl)) == ({}, ())
    assert view.interval("d", ccl, "recall_at_1") is None
    assert view.failures("d") == {ccl: failed}
    assert view.failures("e") == {}


def test_datasets_stand_in_the_order_of_the_plan():
    results = made_up()
    of_e = [{**r, "dataset": "e"} for r in results.summaries]
    of_f = [{**r, "dataset": "f"} for r in results.summaries]
    view = StudyView(results._replace(summaries=[*of_f, *results.summaries, *of_e]))
    assert view.datasets == ("e", "d", "f")
    assert StudyView(results).datasets == ("d",)


def test_values_intervals_and_differences_are_those_of_a_loop():
    results = made_up()
    view = StudyView(results)
    by_loss: dict[str, dict[int, float]] = {}
    for r in results.summaries:
        if r["variant"] == "default":
            by_loss.setdefault(r["base"], {})[r["seed"]] = r["recall_at_1"]
    for loss in (TRIPLET, SCL, OWN, BASELINE):
        numbers = list(by_loss[loss.base].values())
        assert view.values("d", loss, "recall_at_1") == by_loss[loss.base]
        over = view.interval("d", loss, "recall_at_1")
        assert over is not None
        low, high = stats.t.interval(0.95, 2, np.mean(numbers), stats.sem(numbers))
        assert (over.low, over.high) == pytest.approx((low, high))
    paired = view.difference("d", SCL, OWN, "recall_at_1")
    values = {title: list(of.values()) for title, of in by_loss.items()}
    slow = over_seeds([values["scl"]], [values["a/my.py:Pull"]], [values[t] for t in TITLES])
    assert paired is not None
    assert (paired.low, paired.high) == pytest.approx((slow.low, slow.high))


def test_a_difference_pairs_seeds_that_both_losses_know():
    results = made_up()
    for r in results.summaries:
        if (r["base"], r["seed"]) in (("scl", 1), ("a/my.py:Pull", 2)):
            r["recall_at_1"] = math.nan if r["base"] == "scl" else None
    view = StudyView(results)
    assert view.values("d", OWN, "recall_at_1")[2] is None
    assert view.values("d", SCL, "recall_at_1")[1] is None
    one = view.difference("d", SCL, OWN, "recall_at_1")
    assert one is not None
    assert one.size == 1
    assert view.difference("d", SCL, Loss("ccl", "ccl"), "recall_at_1") is None


def test_a_contrast_is_that_of_a_slow_loop_over_means_of_groups():
    view = StudyView(made_up(seeds=(0, 1, 2, 3)))
    value = {
        (r["base"], r["seed"]): r["test_intra"] for r in view.results.summaries if "test_intra" in r
    }
    values = {base: [value[base, seed] for seed in range(4)] for base in ("untrained", *TITLES)}
    slow = over_seeds(
        [values["scl"], values["untrained"]],
        [values["a/my.py:Pull"], values["triplet(margin=0.1)"]],
        [values[title] for title in TITLES],
    )
    groups = [[view.runs("d", loss) for loss in of] for of in ((SCL, BASELINE), (OWN, TRIPLET))]
    found = view.contrast(*groups, "test_intra")
    assert found is not None
    assert (found.low, found.high) == pytest.approx((slow.low, slow.high))
    exchanged = view.contrast(*groups[::-1], "test_intra")
    assert exchanged is not None
    assert (exchanged.mean, exchanged.half_width) == pytest.approx((-found.mean, found.half_width))
    turned = [group[::-1] for group in groups]
    assert view.contrast(*turned, "test_intra") == found
    assert view.contrast(groups[0], [{}], "test_intra") is None


def test_a_contrast_leaves_out_a_seed_that_one_loss_lacks():
    results = made_up(seeds=(0, 1, 2, 3))
    for r in results.summaries:
        if (r["base"], r["seed"]) == ("scl", 2):
            r["test_intra"] = None
    view = StudyView(results)
    groups = [view.runs("d", SCL), view.runs("d", BASELINE)], [view.runs("d", OWN)]
    found = view.contrast(*groups, "test_intra")
    assert found is not None
    assert found.size == 3


def test_a_reference_is_the_same_for_every_seed_of_a_loss():
    row = {"dataset": "d", "reference": FROZEN, "recall_at_1": 0.5}
    view = StudyView(made_up()._replace(references=[row]))
    assert view.reference_runs("d", SCL, FROZEN) == dict.fromkeys((0, 1, 2), row)
    assert view.reference_runs("d", SCL, "random unit vectors") == {}


def test_only_losses_with_a_value_in_every_settled_seed_are_complete():
    results = made_up(seeds=(0, 1, 2, 3))
    rows = [r for r in results.summaries if (r["base"], r["seed"]) != ("scl", 1)]
    # of seed 3 one loss in three has a run: the study is still at work
    rows = [r for r in rows if r["seed"] != 3 or r["base"] in ("untrained", "scl")]
    view = StudyView(results._replace(summaries=rows, waiting=[row("scl", 7)]))
    assert view.settled_seeds("d") == {0, 1, 2}
    assert view.complete("d", view.losses, "recall_at_1") == [TRIPLET, OWN]
    assert view.seeds("d") == {0, 1, 2, 3, 7}


def test_rows_of_two_splits_are_refused():
    results = made_up()
    for r in results.summaries:
        r["fingerprint"] = "a" * 64
    StudyView(results).check_one_split()
    results.summaries[4]["fingerprint"] = "b" * 64
    with pytest.raises(InputError, match="must use one split, but on 'd' run"):
        StudyView(results).check_one_split()


def test_the_order_is_that_of_the_paper_with_settings_and_tuned_behind_the_plain_loss():
    tuned = Loss("triplet", "triplet", tuned=True)
    plain, own = Loss("triplet", "triplet"), Loss("b.py:X", "b.py:X")
    losses = [BASELINE, own, SCL, TRIPLET, tuned, plain, OWN]
    assert in_order(losses) == [plain, tuned, TRIPLET, SCL, OWN, own, BASELINE]
    assert in_order(losses[::-1]) == in_order(losses)


def test_the_typed_plan_says_which_key_is_missing():
    with pytest.raises(
        InputError, match="the plan of these results is not valid: question is missing"
    ):
        _ = StudyView(made_up()).typed_plan

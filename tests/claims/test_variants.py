"""Which rows stand for a loss: what is there, what failed, what waits, and what is somebody else's."""

from __future__ import annotations

import pytest

from lossgauge.claims.sensitivity import movements
from lossgauge.claims.variants import LossVariants, loss_variants
from lossgauge.claims.verdicts import NO_PROTOCOL, verdicts
from lossgauge.results.view import StudyView
from lossgauge.types import Record, Results
from tests.claims.conftest import CLAIM, random_study, row, study


def of(results: Results, *losses: str) -> LossVariants:
    return loss_variants(StudyView(results), "d", losses or ("triplet", "scl"))


def lost(title: str, base: str, variant: str, **more: object) -> Record:
    """A run without a summary: failed or waiting."""
    run = f"{title}_{variant}_{more.get('seed', 0)}"
    columns = {"run": run, "dataset": "d", "loss": title, "base": base, "seed": 0}
    return {**columns, "variant": variant, "error": "NaN", **more}


def rows_of(title: str, seeds: tuple[int, ...] = (0, 1, 2), **columns: object) -> list[Record]:
    return [row(title, seed, base=title, **columns) for seed in seeds]


PLAIN, WITH_MARGIN = rows_of("triplet"), rows_of("triplet(margin=0.5)", test_intra=0.9)


@pytest.mark.parametrize("rows", [PLAIN + WITH_MARGIN, WITH_MARGIN + PLAIN])
def test_beside_the_plain_loss_one_with_settings_does_not_make_it_unclear(rows):
    found = of(study(rows))
    assert found.default() == {"triplet": {r["seed"]: r for r in PLAIN}}
    assert found.absent == {}


def test_a_loss_with_settings_stands_for_the_plain_one_where_it_is_alone():
    found = of(study(WITH_MARGIN))
    assert found.default() == {"triplet": {r["seed"]: r for r in WITH_MARGIN}}
    other = rows_of("triplet(margin=0.1)")
    both = of(study(WITH_MARGIN + other))
    assert both.default() == {}
    assert both.absent == {
        "triplet": "the study has triplet(margin=0.1) and triplet(margin=0.5): it is not clear which one is meant by triplet"
    }
    # asked for by its title, each is itself
    titles = ("triplet(margin=0.1)", "triplet(margin=0.5)")
    assert of(study(WITH_MARGIN + other), *titles).default().keys() == set(titles)


@pytest.mark.parametrize("part", ["failures", "waiting"])
def test_a_trial_that_failed_or_waits_stands_for_nothing(part):
    # a title before that of the plan, in the alphabet and so in a table
    trials = [lost("triplet(margin=0.1)", "triplet(margin=0.5)", "trial", trial=3)]
    found = of(study(WITH_MARGIN, **{part: trials}))
    assert found.default() == {"triplet": {r["seed"]: r for r in WITH_MARGIN}}
    assert found.absent == {}
    assert len(found.by_loss["triplet"]) == 1
    # with trials alone the loss is not there at all
    alone = of(study([], **{part: trials}))
    assert (alone.default(), alone.absent, alone.by_loss) == ({}, {}, {})


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("failures", "every run of triplet failed or is damaged"),
        ("waiting", "triplet has not finished yet"),
    ],
)
def test_a_loss_without_any_finished_run_is_absent_and_with_one_it_is_not(part, words):
    gone = [lost("triplet", "triplet", "default", seed=seed) for seed in (0, 1)]
    found = of(study([], **{part: gone}))
    assert (found.default(), found.absent) == ({}, {"triplet": words})
    with_one = of(study(rows_of("triplet", (2,)), **{part: gone}))
    assert list(with_one.default()["triplet"]) == [2]
    assert with_one.absent == {}


def test_rows_of_another_dataset_stand_for_nothing_here():
    elsewhere = [{**r, "dataset": "e"} for r in PLAIN]
    gone = [{**lost("scl", "scl", "default"), "dataset": "e"}]
    found = of(study(elsewhere, failures=gone, waiting=gone))
    assert (found.default(), found.absent) == ({}, {})


def varied(factor: float, seeds: tuple[int, ...] = (0, 1, 2), **columns: object) -> list[Record]:
    title = f"scl(temperature={0.1 * factor:g})"
    setting = {"base": "scl", "variant": "sensitivity", "setting": "temperature"}
    return [row(title, seed, factor=factor, **setting, **columns) for seed in seeds]


def test_a_multiple_is_listed_where_some_loss_has_a_run_of_it():
    results = random_study()
    gone = [{**r, "error": "NaN"} for r in varied(4.0)]
    results = results._replace(sensitivity=[*varied(2.0), *varied(0.5, (1,))], failures=gone)
    found = of(results)
    assert found.factors() == [0.5, 2.0]
    assert found.absent_at(4.0)["scl"] == "every run of scl at × 4 failed or is damaged"
    assert found.absent_at(8.0)["scl"] == "scl has no run at × 8"
    assert found.at_factor(4.0) == {}
    (movement,) = movements(StudyView(results), "d", [CLAIM["7a"]])
    assert [factor for factor, _ in movement.at_factors] == [0.5, 2.0]


def test_a_split_is_known_where_all_rows_say_the_same():
    results = random_study()
    assert of(results).protocol == "class-disjoint"
    assert verdicts(StudyView(results), "d", [CLAIM["3"]])[0].status != "not tested"
    results.summaries[5]["protocol"] = None  # a row that does not say it
    assert of(results).protocol == "class-disjoint"
    results.summaries[5]["protocol"] = "halves"
    assert of(results).protocol is None
    told = verdicts(StudyView(results), "d", [CLAIM["3"]])[0]
    assert (told.status, told.reason) == ("not tested", NO_PROTOCOL)
    # references say it too, and another dataset's rows say nothing of this one
    halves = {"dataset": "d", "reference": "frozen features", "protocol": "halves"}
    assert of(random_study()._replace(references=[halves])).protocol is None
    assert of(random_study()._replace(references=[{**halves, "dataset": "e"}])).protocol
    assert of(study([], references=[halves])).protocol == "halves"


def test_each_multiple_is_that_of_the_first_setting_a_loss_has():
    base = {"base": "ccl", "variant": "sensitivity", "factor": 2.0}
    moved = [
        row(f"ccl({setting}=2)", seed, setting=setting, **base)
        for seed in (0, 1)
        for setting in ("scale", "temperature", "margin", "another")
    ]
    for rows in (moved, moved[::-1]):
        (found,) = of(study([], sensitivity=rows), "ccl").at_factor(2.0).values()
        assert {r["setting"] for r in found.values()} == {"margin"}
    titles = [s.title for s in of(study([], sensitivity=moved), "ccl").by_loss["ccl"]]
    assert titles == ["ccl(margin=2)", "ccl(temperature=2)", "ccl(scale=2)", "ccl(another=2)"]

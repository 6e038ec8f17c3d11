"""One claim over several datasets: its verdicts counted."""

from __future__ import annotations

import pytest

from lossgauge.claims.over_datasets import over_datasets
from lossgauge.claims.sentences import amount
from lossgauge.claims.verdicts import STATUSES, Verdict, verdicts
from lossgauge.results.view import StudyView
from lossgauge.stats.datasets import summarize
from tests.claims.conftest import CLAIM, random_study


def on(*statuses: str) -> list[Verdict]:
    return [
        Verdict(CLAIM["1"], f"set {number}", status, "")  # type: ignore[arg-type]
        for number, status in enumerate(statuses)
    ]


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        (["supported", "supported"], "supported"),
        (["supported", "not tested"], "supported"),
        (["contradicted", "contradicted", "not tested"], "contradicted"),
        (["supported", "undecided"], "undecided"),
        (["contradicted", "undecided"], "undecided"),
        (["undecided"], "undecided"),
        (["supported", "contradicted"], "mixed"),
        (["supported", "mixed"], "mixed"),
        (["undecided", "mixed"], "mixed"),
        (["not tested", "not tested"], "not tested"),
    ],
)
def test_verdicts_on_datasets_make_one(statuses, status):
    assert over_datasets(on(*statuses)).status == status
    assert over_datasets(on(*statuses[::-1])).status == status
    assert status in STATUSES


def test_the_reason_counts_the_verdicts():
    over = over_datasets(on("supported", "undecided", "supported", "not tested"))
    assert over.reason.startswith(
        "supported on 2, undecided on 1, not tested on 1 of 4 datasets; 3 tested datasets cannot show"
    )


def test_the_mean_effect_is_that_of_the_random_effects_summary():
    studies = [random_study(seed) for seed in range(3)]
    told = [verdicts(StudyView(results), "d", [CLAIM["3"]])[0] for results in studies]
    over = over_datasets(told)
    summary = summarize([verdict.effect for verdict in told])
    assert over.effect == summary.interval
    assert f"mean effect {amount('recall_at_1', summary.interval)} over 3" in over.reason
    assert " points over 3 datasets, I² = " in over.reason
    assert over_datasets(told[:1]).effect is None
    # a dataset where it was not tested, and a claim of several parts, have no effect
    assert over_datasets([*told, *on("not tested")]).effect == summary.interval
    several = [verdicts(StudyView(results), "d", [CLAIM["8"]])[0] for results in studies]
    assert over_datasets(several).effect is None


def test_below_six_datasets_it_is_said_what_cannot_be_concluded():
    assert "cannot show what holds on other datasets" in over_datasets(on("supported")).reason
    assert "cannot show" in over_datasets(on(*["supported"] * 5)).reason
    assert "cannot show" not in over_datasets(on(*["supported"] * 6)).reason
    assert "cannot show" not in over_datasets(on("not tested")).reason

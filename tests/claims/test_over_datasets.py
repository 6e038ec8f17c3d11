"""One claim over several datasets: its verdicts counted."""

from __future__ import annotations

import pytest

from lossgauge.claims.over_datasets import over_datasets
from lossgauge.claims.verdicts import STATUSES, Verdict
from tests.claims.conftest import CLAIM


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


def test_below_six_datasets_it_is_said_what_cannot_be_concluded():
    assert "cannot show what holds on other datasets" in over_datasets(on("supported")).reason
    assert "cannot show" in over_datasets(on(*["supported"] * 5)).reason
    assert "cannot show" not in over_datasets(on(*["supported"] * 6)).reason
    assert "cannot show" not in over_datasets(on("not tested")).reason

"""95 % intervals over seeds and queries in simulated studies: how often they hold the truth, and how often they claim too much.

The whole table is `python -m benchmarks.calibration`; docs/statistics.md shows it. Here: cells at the edges of it.

    python -m pytest tests/batteries/test_calibration.py -m slow
"""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.calibration.__main__ import rows_of
from benchmarks.calibration.methods import contrasts, crossed_moderated
from benchmarks.calibration.studies import CLASSES, Condition, simulate
from benchmarks.calibration.tables import CHOSEN, TODAY
from lossgauge.stats.crossed import crossed, crossed_interval
from lossgauge.stats.seed_variance import Variance, moderated

pytestmark = pytest.mark.slow

STUDIES = 2_000


@pytest.fixture(scope="module", params=["equal", "unequal", "one at 5x"])
def rows(request):
    condition = Condition(2_000, 0.1, request.param, "70 %")
    return rows_of(condition, STUDIES, seed=1)


def cells(rows, method, **wanted):
    return [r for r in rows if r["method"] == method and all(r[k] == v for k, v in wanted.items())]


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("drawn", ["classes", "within"])
def test_intervals_cover_93_to_97_percent_from_three_seeds(rows, seeds, drawn):
    for row in cells(rows, CHOSEN, seeds=seeds, drawn=drawn):
        assert 93.0 - 1 <= row["coverage"] <= 97.0 + 1, row  # half a point is a standard error


@pytest.mark.parametrize(("seeds", "most"), [(3, 9.5), (5, 7.5), (10, 6.5)])
def test_equal_losses_are_called_different_as_rarely_as_docs_say(rows, seeds, most):
    for row in cells(rows, CHOSEN, seeds=seeds, drawn="classes"):
        assert row["false_claims"] <= most, (
            row
        )  # 5 on average; more with one loss at 5 times the spread


def test_two_seeds_are_approximate_and_no_disaster(rows):
    for row in cells(rows, CHOSEN, seeds=2, drawn="classes"):
        assert row["coverage"] >= 87.0, row


def test_one_seed_covers_the_difference_of_these_heads(rows):
    for row in cells(rows, "these heads", drawn="classes"):
        assert 93.0 - 1 <= row["coverage"] <= 97.0 + 1, row


def test_few_seeds_decide_more_than_students_t_over_seeds_does(rows):
    for losses in (3, 7):
        for seeds in (2, 3):
            (ours,) = cells(rows, CHOSEN, losses=losses, seeds=seeds, drawn="classes")
            (now,) = cells(rows, TODAY, losses=losses, seeds=seeds, drawn="classes")
            assert ours["half_width"] < now["half_width"]
            if seeds == 2:
                assert ours["power"] > now["power"]


def test_queries_as_units_claim_too_much_where_classes_are_alike():
    rows = rows_of(Condition(2_000, 0.4, "equal", "70 %"), STUDIES, seed=1)
    (row,) = cells(rows, CHOSEN, losses=7, seeds=5, drawn="queries")
    assert row["coverage"] < 90
    (row,) = cells(rows, CHOSEN, losses=7, seeds=5, drawn="classes")
    assert 94 <= row["coverage"] <= 97


def test_the_sums_of_the_simulation_give_the_same_intervals_as_single_answers():
    """The simulation keeps sums only. Answers with the same sums, of one study, go through the functions of the package."""
    losses, seeds = 3, 3
    condition = Condition(50, 0.1, "equal", "70 %")
    simulated = simulate(condition, 4, seed=2, kept=4)[seeds]
    size = condition.queries // CLASSES[condition.queries]
    classes = CLASSES[condition.queries]
    together = crossed_moderated(simulated, (0, 1, 2), "classes")
    of_seeds = moderated(simulated.means[:, :losses], contrasts((0, 1, 2)))
    for study in range(4):
        hits = simulated.sums[study, :losses]  # [losses, seeds, classes], each of `size` queries
        answers = (np.arange(size) < hits[..., None]).astype(float).reshape(losses, seeds, -1)
        for pair, (left, right) in enumerate([(0, 1), (0, 2), (1, 2)]):
            interval = crossed_interval(
                crossed(
                    answers[left] - answers[right],
                    drawn="classes",
                    classes=np.repeat(np.arange(classes), size),
                    seed_variance=Variance(
                        of_seeds.variance[study, pair], of_seeds.degrees[study, pair]
                    ),
                )
            )
            assert interval.mean == pytest.approx(together.difference[study, pair])
            assert interval.half_width == pytest.approx(together.half_width[study, pair])

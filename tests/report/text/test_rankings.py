"""Who leads, who is last, and what the seeds cannot tell."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from scipy import stats

from lossgauge.report.text.findings import variance
from lossgauge.report.text.rankings import Ranking, clearly_different, in_points, ranking
from lossgauge.results.view import Loss, StudyView
from lossgauge.stats.intervals import holm
from lossgauge.types import Results
from tests.support.made_up_study import columns_of
from tests.support.slow_seeds import over_seeds

ORDER = ("contrastive", "triplet", "n_pair", "arcface", "scl", "ccl")


def study(column: str = "test_intra", **values: tuple[float | None, ...]) -> StudyView:
    """Losses with a value a seed; a loss without one for a seed was not run with it."""
    rows = [
        {**columns_of("b", name, seed), column: value}
        for name, of_loss in values.items()
        for seed, value in enumerate(of_loss)
        if value is not None
    ]
    return StudyView(Results({}, {}, rows, [], [], [], [], {}))


def loss(name: str) -> Loss:
    return Loss(name, name)


def names(losses: Iterable[Loss]) -> tuple[str, ...]:
    return tuple(one.base for one in losses)


def by_intra(view: StudyView, *, highest_first: bool = True) -> Ranking:
    ranked = ranking(view, "b", "test_intra", highest_first=highest_first)
    assert ranked is not None
    return ranked


FAR = (0.9, 0.912, 0.927)
NEXT = (0.7, 0.717, 0.731)
LOW = (0.30, 0.31, 0.33)
ALSO_LOW = (0.31, 0.33, 0.30)


def test_the_last_is_not_told_from_its_neighbour_alone():
    view = study(triplet=FAR, scl=NEXT, ccl=LOW, arcface=ALSO_LOW)
    ranked = by_intra(view)
    assert names(ranked.losses) == ("triplet", "scl", "arcface", "ccl")
    assert (ranked.ties, names(ranked.last_ties)) == ((), ("arcface",))
    finding = variance(view, "b")
    assert finding is not None
    assert finding.sentence == (
        "triplet keeps the most variance inside classes; "
        "ccl keeps the least, without a clear difference from arcface."
    )


def test_the_first_is_not_told_from_its_neighbour_alone():
    ranked = by_intra(study(triplet=LOW, scl=ALSO_LOW, ccl=NEXT, arcface=FAR), highest_first=False)
    assert names(ranked.losses) == ("triplet", "scl", "ccl", "arcface")
    assert (names(ranked.ties), ranked.last_ties) == (("scl",), ())
    assert ranked.doubt() == ", but 3 seeds show no clear difference from scl"
    assert ranked.doubt_of_last() == ""


def test_every_order_is_that_of_the_means_and_every_tie_that_of_a_slow_loop():
    seen = 0
    for number in range(10):
        generator = np.random.default_rng(number)
        levels = generator.random(6)
        values = {
            loss: tuple(level + 0.1 * generator.random(4))
            for loss, level in zip(ORDER, levels, strict=True)
        }
        for highest_first in (True, False):
            ranked = by_intra(study(**values), highest_first=highest_first)
            means = {loss: np.mean(of_loss) for loss, of_loss in values.items()}
            ordered = sorted(ORDER, key=lambda loss: means[loss], reverse=highest_first)
            assert list(names(ranked.losses)) == ordered
            for one, ties, sign in (
                (ordered[0], ranked.ties, 1 if highest_first else -1),
                (ordered[-1], ranked.last_ties, -1 if highest_first else 1),
            ):
                # may be the first (or the last): no other is clearly before (or behind) it
                alike = {o for o in ORDER if o != one and not _beaten(o, values, sign)}
                assert set(names(ties)) == alike
                seen += len(alike)
    assert seen


def _beaten(loss: str, values: dict[str, tuple[float, ...]], sign: int) -> bool:
    others = [other for other in ORDER if other != loss]
    slow = [over_seeds([values[loss]], [values[o]], list(values.values())) for o in others]
    corrected = holm([of.p_value for of in slow])
    return any(p < 0.05 and sign * of.mean < 0 for of, p in zip(slow, corrected, strict=True))


def test_losses_without_a_shared_seed_are_not_clearly_different():
    view = study(triplet=(0.9, None), scl=(None, 0.1))
    pair = loss("triplet"), loss("scl")
    assert view.difference("b", *pair, "test_intra") is None
    assert not clearly_different(view, "b", *pair, "test_intra")
    assert names(by_intra(view).ties) == ("scl",)
    two_each = study(triplet=(0.9, 0.91, None, None), scl=(None, None, 0.1, 0.12))
    assert names(by_intra(two_each).ties) == ("scl",)
    assert by_intra(two_each).leading() == "all losses (no clear difference)"


@pytest.mark.parametrize(
    ("tied", "words"),
    [
        (1, "contrastive"),
        (2, "contrastive and triplet (no clear difference)"),
        (3, "contrastive, triplet and n_pair (no clear difference)"),
        (4, "one of contrastive, triplet, n_pair and arcface"),
        (6, "all losses (no clear difference)"),
    ],
)
def test_as_many_lead_as_cannot_be_clearly_different(tied, words):
    noise = 0.01 * np.random.default_rng(1).permuted(np.tile([-1.0, 0.0, 1.1], (6, 1)), axis=1)
    noise += np.diag([1e-4] * 6)[:, :3]  # no two losses differ by the same in every seed
    values = {
        loss: tuple((0.9 if place < tied else 0.2) - 1e-4 * place + noise[place])
        for place, loss in enumerate(ORDER)
    }
    assert by_intra(study(**values)).leading() == words


def test_with_one_seed_the_best_is_said_to_be_of_one_seed():
    ranked = by_intra(study(triplet=(0.9,), scl=(0.9,), ccl=(0.1,)))
    assert ranked.leading() == "triplet and scl, equal (one seed)"
    assert ranked.doubt() == " (one seed, so no interval)"
    assert by_intra(study(triplet=(0.9,), scl=(0.8,))).leading() == "triplet (one seed)"


def test_a_loss_that_lacks_a_seed_is_listed_and_neither_leads_nor_is_last():
    ranked = by_intra(study(triplet=(0.9, None, 0.95), scl=NEXT, ccl=LOW, n_pair=(0.1, 0.1, None)))
    assert names(ranked.losses) == ("scl", "ccl")
    assert names(ranked.partial) == ("triplet", "n_pair")
    assert ranked.values().startswith("scl 0.716 ± ")
    assert "triplet 0.925 ± 0.318 (2 of 3 seeds), n_pair 0.100 (2 of 3 seeds)" in ranked.values()


def test_the_last_seed_that_few_losses_have_finished_takes_nobody_the_lead():
    at_work = study(triplet=(*FAR, 0.9), scl=(*NEXT, None), ccl=(*LOW, None))
    assert names(by_intra(at_work).losses) == ("triplet", "scl", "ccl")
    most = study(triplet=(*FAR, 0.9), scl=(*NEXT, 0.7), ccl=(*LOW, None))
    assert names(by_intra(most).losses) == ("triplet", "scl")
    assert names(by_intra(most).partial) == ("ccl",)


def test_a_difference_is_told_in_points_with_its_sign():
    view = study("recall_at_1", triplet=(0.5, 0.52, 0.51), scl=(0.55, 0.561, 0.56))
    gap = view.difference("b", loss("triplet"), loss("scl"), "recall_at_1")
    assert gap is not None
    half = 100 * stats.t.ppf(0.975, 2) * stats.sem([0.05, 0.041, 0.05])
    assert in_points(gap) == f"−4.7 ± {half:.1f}"
    back = view.difference("b", loss("scl"), loss("triplet"), "recall_at_1")
    assert back is not None
    assert in_points(back) == f"+4.7 ± {half:.1f}"

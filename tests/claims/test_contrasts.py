"""On which side of a comparison or an ordering the seeds are, and what is open."""

from __future__ import annotations

import pytest

from lossgauge.claims.contrasts import ContrastResult, OrderingResult, Runs, compare, order
from lossgauge.claims.statements import Contrast, Ordering
from lossgauge.results.view import StudyView
from lossgauge.stats.intervals import holm
from lossgauge.types import Record
from tests.support.made_up_study import no_results

ORDERING = Ordering("compaction_epochs", "test_intra", ("a", "b", "c", "d", "e", "f", "g"))


def runs_of(**values: list[tuple[float | None, float | None]]) -> dict[str, dict[int, Record]]:
    """Loss → (compaction, intra) a seed."""
    return {
        loss: {seed: {"compaction_epochs": x, "test_intra": y} for seed, (x, y) in enumerate(pairs)}
        for loss, pairs in values.items()
    }


def seven() -> dict[str, dict[int, Record]]:
    """Later compaction goes with more intra, but for one loss."""
    heights = {"a": 1, "b": 2, "c": 3, "d": 4, "e": 6, "f": 5, "g": 7}
    return runs_of(
        **{
            loss: [(place + 0.1 * seed, height - 0.1 * seed) for seed in range(3)]
            for place, (loss, height) in enumerate(heights.items())
        }
    )


def test_an_ordering_of_seven_is_on_the_side_of_its_sign():
    found = order(ORDERING, seven())
    assert (found.side, found.losses) == ("for", ORDERING.losses)
    falling = {
        loss: {seed: {**r, "test_intra": -r["test_intra"]} for seed, r in rows.items()}
        for loss, rows in seven().items()
    }
    assert order(ORDERING, falling).side == "against"


@pytest.mark.parametrize("column", ["compaction_epochs", "test_intra"])
@pytest.mark.parametrize("seeds", [(0,), (2,), (0, 1), (0, 1, 2)])
def test_a_loss_that_knows_a_number_in_some_seeds_only_is_no_point(column, seeds):
    runs = seven()
    for seed in seeds:
        runs["c"][seed][column] = None
    found = order(ORDERING, runs)
    without = {loss: rows for loss, rows in runs.items() if loss != "c"}
    assert "c" not in found.losses
    assert found == order(ORDERING, without)


def test_a_loss_with_one_number_and_one_with_the_other_are_no_points():
    runs = runs_of(a=[(1, None)] * 2, b=[(None, 2)] * 2, c=[(3, 3)] * 2)
    found = order(ORDERING, runs)
    assert found.losses == ("c",)
    assert (found.side, found.correlation) == ("open", None)
    assert "1 loss with both numbers; a rank correlation needs three that differ" in found.reason


def open_because(found: OrderingResult) -> str:
    assert found.side == "open"
    return found.reason


def test_what_an_ordering_is_open_for():
    assert open_because(order(ORDERING, {k: {0: v[0]} for k, v in seven().items()})) == (
        "one seed shows no spread"
    )
    apart = {loss: {9 + n: rows[0]} for n, (loss, rows) in enumerate(seven().items())}
    assert open_because(order(ORDERING, apart)) == "the losses share no seed"
    four = {loss: rows for loss, rows in seven().items() if loss in "abcd"}  # p = 2/24
    assert open_because(order(ORDERING, four)) == "not distinguishable from chance"


VIEW = StudyView(no_results())
"""Contrasts of given runs need no rows."""


def runs_in(column: str, **values: list[float | None]) -> Runs:
    return {
        loss: {seed: {"dataset": "d", column: value} for seed, value in enumerate(of_loss)}
        for loss, of_loss in values.items()
    }


def alone(contrast: Contrast, runs: Runs) -> ContrastResult:
    return compare([contrast], runs, VIEW)[contrast]


def side_of(direction: str, left: list[float | None], right: list[float | None]) -> str:
    column = "decay_epochs"
    contrast = Contrast(("a",), ("b",), column, direction)  # type: ignore[arg-type]
    return alone(contrast, runs_in(column, a=left, b=right)).side


def test_it_is_told_of_each_side_in_how_many_seeds_its_number_is_not_known():
    runs = runs_in("decay_epochs", a=[None, 2.0, 3.0, 4.0], b=[1.0, None, None, 4.0])
    found = alone(Contrast(("a",), ("b",), "decay_epochs", "higher"), runs)
    assert (found.side, found.difference) == ("open", None)
    assert found.reason == (
        "decay of a was not reached or not measured in 1 of 4 seeds; "
        "decay of b was not reached or not measured in 2 of 4 seeds"
    )


INTRA = "test_intra"


def test_a_contrast_without_all_its_losses_is_left_out():
    contrasts = [
        Contrast(("a", "b"), ("c",), INTRA, "higher"),
        Contrast(("a",), ("c",), INTRA, "lower"),
    ]
    runs = runs_in(INTRA, a=[0.1, 0.2], c=[0.3, 0.5])
    assert list(compare(contrasts, runs, VIEW)) == contrasts[1:]


def test_the_family_is_every_comparison_of_one_quantity_once():
    runs = runs_in(INTRA, a=[0.1, 0.22, 0.3], b=[0.4, 0.45, 0.6], c=[0.3, 0.5, 0.41])
    for of_loss in runs.values():
        for r in of_loss.values():
            r["test_inter"] = r[INTRA] ** 2
    groups = Contrast(("a", "b"), ("c",), INTRA, "higher")
    again = Contrast(("c",), ("a",), INTRA, "lower")  # a member of it, with its groups exchanged
    other = Contrast(("a",), ("b",), "test_inter", "higher")
    found = compare([groups, *groups.members, again, other], runs, VIEW)
    assert {found[c].decision.family for c in (groups, *groups.members, again)} == {3}
    assert found[other].decision.family == 1
    p_values = [found[c].difference.p_value for c in (groups, *groups.members)]  # type: ignore[union-attr]
    corrected = [found[c].decision.p_value for c in (groups, *groups.members)]
    assert corrected == holm(p_values)  # type: ignore[arg-type]
    member = found[groups.members[0]]
    assert found[again].decision.p_value == member.decision.p_value
    assert (found[again].side, member.side) in (
        ("open", "open"),
        ("for", "for"),
        ("against", "against"),
    )


def test_exchanged_groups_exchange_the_sides():
    runs = runs_in(INTRA, a=[0.1, 0.12, 0.14], b=[0.6, 0.61, 0.65], c=[0.5, 0.52, 0.51])
    one = Contrast(("a",), ("b", "c"), INTRA, "higher")
    back = Contrast(("c", "b"), ("a",), INTRA, "higher")
    assert (alone(one, runs).side, alone(back, runs).side) == ("against", "for")
    together = compare([one, back], runs, VIEW)
    assert (together[one].side, together[back].side) == ("against", "for")
    assert together[one].decision.family == 1


def test_a_difference_inside_the_margin_is_equivalent_whatever_is_claimed():
    runs = runs_in(INTRA, a=[0.5, 0.51, 0.52], b=[0.501, 0.5105, 0.521])
    for direction in ("higher", "lower"):
        found = alone(Contrast(("a",), ("b",), INTRA, direction), runs)  # type: ignore[arg-type]
        assert (found.side, found.reason) == ("equivalent", "")


@pytest.mark.parametrize(("direction", "side"), [("higher", "for"), ("lower", "against")])
def test_a_comparison_is_on_the_side_of_its_direction(direction, side):
    other = "against" if side == "for" else "for"
    assert side_of(direction, [5.0, 6.1, 7.0], [1.0, 2.0, 3.0]) == side
    assert side_of(direction, [1.0, 2.0, 3.0], [5.0, 6.1, 7.0]) == other
    assert side_of(direction, [5.0, 6.1, 7.0], [1.0, 2.0, None]) == "open"
    assert side_of(direction, [5.0, None, 7.0], [1.0, 2.0, 3.0]) == "open"
    assert side_of(direction, [5.0], [1.0]) == "open"
    assert side_of(direction, [5.0, 6.0, 7.0], [1.0, 2.0, 3.0]) == "open"  # no spread
    assert side_of(direction, [5.0, 6.0, 7.0], [1.0, 9.0, 3.0]) == "open"

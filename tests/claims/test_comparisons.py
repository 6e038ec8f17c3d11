"""On which side of a comparison or an ordering the seeds are, and what is open."""

from __future__ import annotations

import pytest

from lossgauge.claims.comparisons import OrderingResult, Runs, compare, order
from lossgauge.claims.statements import Comparison, Ordering
from lossgauge.types import Record

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


def side_of(direction: str, left: list[float | None], right: list[float | None]) -> str:
    column = "decay_epochs"
    runs: Runs = {
        "a": {seed: {column: value} for seed, value in enumerate(left)},
        "b": {seed: {column: value} for seed, value in enumerate(right)},
    }
    return compare(Comparison("a", "b", column, direction), runs).side  # type: ignore[arg-type]


def test_it_is_told_of_each_side_in_how_many_seeds_its_number_is_not_known():
    values = {"a": [None, 2.0, 3.0, 4.0], "b": [1.0, None, None, 4.0]}
    runs = {
        loss: {seed: {"decay_epochs": value} for seed, value in enumerate(of_loss)}
        for loss, of_loss in values.items()
    }
    assert compare(Comparison("a", "b", "decay_epochs", "higher"), runs).reason == (
        "decay of a was not reached or not measured in 1 of 4 seeds; "
        "decay of b was not reached or not measured in 2 of 4 seeds"
    )


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

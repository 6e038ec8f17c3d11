"""Differences of losses, paired by seed and query."""

from __future__ import annotations

import numpy as np
import pytest

from lossgauge.errors import InputError
from lossgauge.stats.answers import Answers, differences, group_mean


def answers(values: list[list[float]], seeds: tuple[int, ...], queries: str) -> Answers:
    return Answers(np.array(values), seeds, np.array(list(queries)))


LEFT = answers([[1.0, 0.0], [1.0, 1.0]], (0, 2), "ab")


def test_differences_are_paired_by_seed_and_query():
    right = answers([[0.0, 0.0], [0.5, 0.25], [9.0, 9.0]], (2, 0, 5), "ab")
    assert differences(LEFT, right).tolist() == [[0.5, -0.25], [1.0, 1.0]]


def test_what_has_no_seed_is_compared_with_every_seed():
    frozen = answers([[0.5, 0.5]], (), "ab")
    assert differences(LEFT, frozen).tolist() == [[0.5, -0.5], [0.5, 0.5]]
    assert differences(frozen, LEFT).tolist() == [[-0.5, 0.5], [-0.5, -0.5]]
    assert differences(frozen, frozen).tolist() == [[0.0, 0.0]]


def test_the_mean_of_a_group_is_over_its_losses_in_the_seeds_that_all_have():
    other = answers([[0.0, 0.0], [0.0, 1.0]], (5, 2), "ab")
    mean = group_mean([LEFT, other])
    assert mean.values.tolist() == [[0.5, 1.0]]
    assert mean.seeds == (2,)
    assert differences(mean, LEFT).tolist() == [[-0.5, 0.0]]


@pytest.mark.parametrize(
    ("seeds", "queries", "message"),
    [
        ((0,), "ac", "2 queries are on one side only"),
        ((0,), "ba", "their order differs"),
        ((1,), "ab", r"must share a seed, got seeds \(0, 2\) and \(1,\)"),
    ],
)
def test_different_queries_or_no_shared_seed_are_errors(seeds, queries, message):
    right = answers([[0.0, 0.0]], seeds, queries)
    with pytest.raises(InputError, match=message):
        differences(LEFT, right)
    with pytest.raises(InputError, match=message):
        group_mean([LEFT, right])


def test_a_side_with_more_queries_is_an_error():
    with pytest.raises(InputError, match="1 queries are on one side only"):
        differences(LEFT, answers([[0.0, 0.0, 0.0]], (0,), "abc"))

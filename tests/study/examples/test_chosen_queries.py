"""Which queries a page shows, against planted answers and an obvious loop."""

from __future__ import annotations

import numpy as np
import pytest

from lossgauge.results.examples import DISAGREEMENT, HARDEST, ORDINARY
from lossgauge.study.examples.chosen_queries import (
    Answers,
    chosen_queries,
    disagreements,
    evenly_spaced,
    hardest,
)


def answers(ap, share, hit=None, query=None) -> Answers:
    ap, share = np.asarray(ap, dtype=float), np.asarray(share, dtype=float)
    hit = share >= 0.5 if hit is None else np.asarray(hit, dtype=bool)
    return Answers(np.arange(ap.shape[1]) * 10 if query is None else query, ap, share, hit)


def random_answers(seed: int, *, losses: int = 4, queries: int = 40) -> Answers:
    generator = np.random.default_rng(seed)
    share = generator.integers(0, 4, (losses, queries)) / 3  # of three seeds: many ties
    ap = np.round(generator.random((losses, queries)), 1)
    hit = (share == 1) | ((share > 0) & (generator.random(share.shape) < 0.5))
    return answers(ap, share, hit)


def test_the_planted_hardest_query_is_the_first():
    ap, share = np.full((3, 12), 0.9), np.ones((3, 12))
    ap[:, 7], share[:, 7] = 0.1, 0
    ap[1, 4], share[1, 4] = 0.2, 0  # hard for one loss only
    assert hardest(answers(ap, share))[:2] == [7, 4]


@pytest.mark.parametrize("seed", range(3))
def test_the_hardest_queries_are_those_of_a_loop(seed):
    of = random_answers(seed)
    keys = []
    for at in range(len(of.query)):
        ap = sum(of.ap_at_r[loss, at] for loss in range(4)) / 4
        hits = sum(of.hit_share[loss, at] for loss in range(4)) / 4
        keys.append((round(ap, 12), round(hits, 12), of.query[at], at))
    assert hardest(of) == [key[-1] for key in sorted(keys)][:8]


def test_queries_that_every_run_answers_perfectly_are_not_hard():
    assert hardest(answers(np.ones((2, 5)), np.ones((2, 5)))) == []


def test_the_planted_disagreement_names_who_is_right():
    ap, share = np.full((3, 9), 0.8), np.ones((3, 9))
    share[:, 2] = [0, 1, 2 / 3]
    ap[:, 2] = [0.1, 0.7, 0.6]
    share[:, 5] = [1, 1 / 3, 1]
    of = answers(ap, share)
    assert disagreements(of) == [(2, 1, 0), (5, 0, 1)]
    chosen = chosen_queries(of)
    pairs = [one for one in chosen if one.kind == DISAGREEMENT]
    assert [(one.query, one.right, one.wrong) for one in pairs] == [(20, 1, 0), (50, 0, 1)]
    assert all(one.right is None for one in chosen if one.kind in (HARDEST, ORDINARY))


@pytest.mark.parametrize("seed", range(3))
def test_disagreements_are_those_of_a_loop_and_of_the_shown_runs(seed):
    of = random_answers(seed)
    found = []
    for at in range(len(of.query)):
        best = worst = None
        for loss in range(4):
            key = of.hit_share[loss, at], of.ap_at_r[loss, at]
            if of.hit[loss, at] and (best is None or key > best[0]):
                best = key, loss
            if not of.hit[loss, at] and (worst is None or key < worst[0]):
                worst = key, loss
        if best and worst:
            shares, aps = best[0][0] - worst[0][0], best[0][1] - worst[0][1]
            found.append((-shares, -aps, at, best[1], worst[1]))
    assert len(found) > 8
    assert disagreements(of) == [line[2:] for line in sorted(found)[:8]]


def test_losses_that_agree_give_no_disagreement():
    assert disagreements(answers(np.ones((2, 4)), [[1, 0, 1, 0]] * 2)) == []


@pytest.mark.parametrize(
    ("count", "places"),
    [(0, []), (1, [0]), (3, [0, 1, 2]), (8, [1, 3, 5, 7]), (100, [12, 37, 62, 87])],
)
def test_ordinary_queries_are_the_middles_of_equal_parts(count, places):
    assert evenly_spaced(count) == places

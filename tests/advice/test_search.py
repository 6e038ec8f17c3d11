"""The search as a ledger, with planted results in place of trials."""

import random

import pytest

from lossgauge.advice.candidates import Batching, all_candidates
from lossgauge.advice.phases import BestSoFar
from lossgauge.advice.preparation import Prepared
from lossgauge.advice.question import Fit, Question, base_plan, slice_labels
from lossgauge.advice.schedule import Schedule
from lossgauge.advice.search import HalvingSearch
from lossgauge.study.progress import Progress
from tests.support.studies import fake_features

PLAN = base_plan(Question("digits"), epochs=9, fit=Fit())
CANDIDATES = all_candidates(PLAN, [Batching("random", 8)], 3)


def planted(seed, *, failing=()):
    """The score of each candidate after so many epochs: it rises to its end at its own speed."""
    chance = random.Random(seed)
    shapes = [(chance.random(), chance.uniform(1, 9)) for _ in CANDIDATES]
    return lambda number, epochs: (
        {}
        if number in failing
        else {"map_at_r": shapes[number][0] * (1 - 2 ** (-epochs / shapes[number][1]))}
    )


def number_of(run):
    return next(n for n, one in enumerate(CANDIDATES) if one.title == run.loss.title)


def finish(search, score, chance):
    """Do all that the search asks for, each rung in a random order."""
    while runs := search.next_runs():
        chance.shuffle(runs)
        for place, run in enumerate(runs):
            if place < len(runs) - 1:
                search.ended(run.name, score(number_of(run), run.config.epochs))
                assert search.next_runs() == []  # a rung waits for its last trial
            else:
                search.ended(run.name, score(number_of(run), run.config.epochs))


def made():
    return HalvingSearch(PLAN, fake_features(classes=4), CANDIDATES, (1, 3, 9))


def slow(score):
    """The candidates of each rung, by sorting."""
    rungs = [list(range(len(CANDIDATES)))]
    for epochs in (1, 3):
        ranked = sorted(rungs[-1], key=lambda n: -score(n, epochs).get("map_at_r", -1.0))
        count = -(-len(rungs[-1]) // 3)
        if epochs == 1:
            first = [
                next(n for n in ranked if CANDIDATES[n].name == loss.name) for loss in PLAN.losses
            ]
            kept = first + [n for n in ranked if n not in first][: max(0, count - len(first))]
        else:
            kept = ranked[:count]
        rungs.append(sorted(kept))
    return rungs


@pytest.mark.parametrize("seed", range(5))
def test_each_rung_has_the_best_of_the_one_before_and_order_does_not_matter(seed):
    score, search = planted(seed), made()
    assert search.expected == 21 + 7 + 3
    finish(search, score, random.Random(seed))
    expected = slow(score)
    for rung, numbers in enumerate(expected):
        assert sorted(one.candidate for one in search.scores(rung)) == numbers
        assert {
            run.config.epochs
            for run in search.runs[sum(map(len, expected[:rung])) :][: len(numbers)]
        } == {(1, 3, 9)[rung]}
    last = max(expected[2], key=lambda n: score(n, 9)["map_at_r"])
    assert search.standing()[0].candidate == last
    assert len(search.standing()) == 7
    assert len({run.name for run in search.runs}) == len(search.runs) == search.expected


def test_every_trial_is_measured_on_the_slice_with_a_seed_of_its_own():
    for run in made().given:
        assert run.config.measured_on == "validation"
        assert run.config.seed >= 1_000_000
        assert run.config.retrieval_every == 1
        assert run.config.selects_by == "map_at_r"


def test_failed_trials_do_not_stop_the_search_and_go_no_further():
    failing = {n for n in range(21) if CANDIDATES[n].name in ("triplet", "scl")}
    search = made()
    finish(search, planted(0, failing=failing), random.Random(0))
    assert {one.loss for one in search.standing()} == {loss.name for loss in PLAN.losses} - {
        "triplet",
        "scl",
    }
    nothing = made()
    finish(nothing, planted(0, failing=set(range(21))), random.Random(0))
    assert nothing.standing() == []


def test_a_search_that_is_stopped_in_a_rung_counts_what_has_ended():
    score, search = planted(1), made()
    for run in search.next_runs():
        search.ended(run.name, score(number_of(run), 1))
    ahead = search.next_runs()
    search.ended(ahead[3].name, score(number_of(ahead[3]), 3))
    assert search.standing()[0].candidate == number_of(ahead[3])
    assert len(search.standing()) == 7


def test_the_best_so_far_starts_from_what_an_earlier_call_left():
    search = made()
    prepared = Prepared(fake_features(classes=4), PLAN, [], Schedule(3, (1, 3, 9), 1.0), 0, [], 0.0)
    rows = len(slice_labels(prepared.features, PLAN.validation_share))
    said = []
    watch = BestSoFar(search, prepared, Progress(), said.append)
    watch.look()
    assert said == []
    runs = search.next_runs()
    search.ended(runs[0].name, {"map_at_r": 0.7})  # reused: no end is reported
    watch.start(runs[1])
    search.ended(runs[1].name, {"map_at_r": 0.6})
    watch.end(runs[1], {"map_at_r": 0.6})
    assert [words.partition(" ")[0] for words in said] == [runs[0].loss.name]
    assert said[0].endswith(f"MAP@R 70.0\N{NO-BREAK SPACE}% on the validation slice of {rows} rows")
    search.ended(runs[2].name, {"map_at_r": 0.8})
    watch.end(runs[2], {"map_at_r": 0.8})
    assert said[1].startswith(runs[2].loss.name)

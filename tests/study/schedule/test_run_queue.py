"""What a study comes to is known before it begins, and holds at its end."""

import pytest

from lossgauge.study.schedule.run_queue import RunQueue, passes
from tests.study.schedule.test_search import plan
from tests.support.studies import fake_features

TUNED = ("losses=[triplet, ccl]", "seeds=3", "epochs=4", "sensitivity=[2]")


def do_all(ledger, objective):
    """End every run with an objective in the place of training; after each, what is expected in all."""
    expected = [(ledger.expected, ledger.work)]
    while runs := ledger.next_runs():
        for run in runs:
            ledger.ended(run.name, {"map_at_r": objective(run)})
        expected.append((ledger.expected, ledger.work))
    return expected


@pytest.mark.parametrize("tune", ["{trials: 12, epochs: 1}", "{trials: 12}", "{trials: 3}"])
def test_runs_and_work_in_all_are_known_before_the_first_run(tune):
    features = [fake_features(), fake_features(dataset="other", rows=24)]
    ledger = RunQueue(plan(*TUNED, f"tune={tune}"), features)
    before = ledger.expected, ledger.work
    expected = do_all(ledger, lambda run: len(run.name) % 7 / 7)
    assert before == expected[0] == expected[-1]
    assert before == (len(ledger.runs), sum(passes(run) for run in ledger.runs))
    assert set(expected) == {before}
    trials = int(tune.split()[1].rstrip(",}"))
    # untrained, two losses and three further settings with three seeds; two searches, and tuned with three seeds
    assert before[0] == 2 * ((1 + 2 + 3) * 3 + 2 * (trials + 3))
    assert sum(run.variant == "tuned" for run in ledger.runs) == 2 * 2 * 3


def test_a_search_whose_every_trial_fails_opens_no_further_run():
    ledger = RunQueue(plan(*TUNED, "tune={trials: 6}"), [fake_features()])
    before = ledger.expected
    expected = do_all(ledger, lambda run: None if run.base == "ccl" else 0.5)
    assert expected[-1][0] == before - 3
    assert expected[-1] == (len(ledger.runs), sum(passes(run) for run in ledger.runs))
    assert [row["error"] for row in ledger.tuned()] == [None, "all 6 trials failed"]
    assert not [run for run in ledger.runs if run.base == "ccl" and run.variant == "tuned"]


def test_tuned_runs_have_what_the_best_trial_had_and_the_seeds_of_the_study():
    ledger = RunQueue(plan("seeds=[4, 9]", "tune={trials: 7}"), [fake_features()])
    do_all(ledger, lambda run: float(run.extra_columns.get("trial") == 5))
    tuned = [run for run in ledger.runs if run.variant == "tuned"]
    best = next(run for run in ledger.runs if run.extra_columns.get("trial") == 5)
    assert [run.seed for run in tuned] == [4, 9]
    for run in tuned:
        assert run.config.settings == best.config.settings
        assert run.config.learning_rate == best.config.learning_rate
        assert (run.config.measured_on, run.config.epochs) == ("test", 4)

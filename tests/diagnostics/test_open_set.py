import numpy as np
import pytest

from lossgauge.diagnostics.open_set import open_set
from lossgauge.errors import InputError


def test_open_set_equals_a_loop_over_thresholds():
    generator = np.random.default_rng(0)
    for share in (0.01, 0.05, 0.3):
        right, wrong = generator.normal(1, 1, 157), generator.normal(0, 1, 157).round(1)
        of = open_set(right, wrong, false_alarm=share)
        allowed = [
            t
            for t in np.unique(np.concatenate([right, wrong, [9]]))
            if np.mean(wrong >= t) <= share
        ]
        passing = [r >= min(allowed) and r > w for r, w in zip(right, wrong, strict=True)]
        # the threshold is just above the highest score that must not pass: nothing is between
        assert of.threshold <= min(allowed)
        assert not ((wrong >= of.threshold) & (wrong < min(allowed))).any()
        assert of.identified.mean == pytest.approx(np.mean(passing))
        assert of.false_alarm == np.mean(wrong >= min(allowed)) <= share
        assert of.closed_set == np.mean(right > wrong)


def test_ties_with_the_first_that_must_not_pass_do_not_pass():
    of = open_set(np.array([2.0] * 4), np.array([1.0, 1.0, 1.0, 0.0]), false_alarm=0.25)
    assert of.false_alarm == 0
    assert of.identified.mean == 1


@pytest.mark.parametrize(
    ("right", "wrong", "share", "words"),
    [
        ([1.0], [0.0], 0, "between 0 and 1, got 0"),
        ([], [], 0.1, "needs both similarities"),
        ([np.nan], [0.0], 0.1, "must not be NaN"),
    ],
)
def test_wrong_input_is_refused(right, wrong, share, words):
    with pytest.raises(InputError, match=words):
        open_set(np.array(right), np.array(wrong), false_alarm=share)

import numpy as np
import pytest

from lossgauge.diagnostics.error_rates import Pairs
from lossgauge.diagnostics.pair_thresholds import pair_thresholds
from lossgauge.errors import InputError


def pairs(seed, *, queries=40, documents=50, shift=2.0, own=1.0):
    """Scores of one right and 49 other documents of each query, with a level of each query."""
    generator = np.random.default_rng(seed)
    level = own * generator.normal(size=queries)
    scores = level[:, None] + generator.normal(size=(queries, documents))
    query, document = np.indices(scores.shape).reshape(2, -1)
    right = document == query % documents
    flat = scores.ravel() + shift * right
    return (
        Pairs(query[right], document[right], flat[right]),
        Pairs(query[~right], document[~right], flat[~right]),
    )


def test_rates_equal_a_loop_over_thresholds():
    genuine, impostor = pairs(0)
    of = pair_thresholds(genuine, impostor, resamples=3)
    scores = np.concatenate([genuine.score, impostor.score])
    rates = [((impostor.score >= t).mean(), (genuine.score >= t).mean(), t) for t in scores]
    for point in of.at_far:
        far, tpr, threshold = min(
            (rate for rate in rates if rate[0] <= point.far), key=lambda rate: rate[2]
        )
        assert (point.threshold, point.tpr.mean) == (threshold, pytest.approx(tpr))
        assert far <= point.far
    best = max((tpr + 1 - far) / 2 for far, tpr, _ in rates)
    assert of.best_accuracy.mean == pytest.approx(best)
    far, tpr, _ = min(rates, key=lambda rate: abs(rate[0] - (1 - rate[1])))
    assert of.eer.mean == pytest.approx((far + 1 - tpr) / 2, abs=0.02)
    assert (of.genuine_count, of.impostor_count, of.query_count) == (40, 1960, 40)
    assert of.eer.over == "new queries"


def test_the_interval_is_that_of_queries_that_are_drawn_again():
    found = [pair_thresholds(*pairs(seed), resamples=60) for seed in range(40)]
    spread = np.std([of.eer.mean for of in found], ddof=1)
    error = np.mean([of.eer.standard_error for of in found])
    assert 0.75 < error / spread < 1.35
    independent = np.mean(
        [pair_thresholds(*pairs(seed, own=0.0)).eer.half_width for seed in (0, 1)]
    )
    assert independent < np.mean([of.eer.half_width for of in found])


def test_a_resample_has_all_pairs_of_a_drawn_query_as_often_as_the_query():
    genuine, impostor = pairs(0, own=3.0)
    of = pair_thresholds(genuine, impostor, resamples=6, seed=5)
    generator, again = np.random.default_rng(5), []
    for _ in range(6):
        count = generator.multinomial(40, np.full(40, 1 / 40))
        often = [
            kind.some(np.repeat(np.arange(len(kind.first)), count[kind.first]))
            for kind in (genuine, impostor)
        ]
        found = pair_thresholds(*often, resamples=2)
        again.append([found.eer.mean, found.at_far[0].tpr.mean])
    errors = np.std(again, axis=0, ddof=1)
    assert of.eer.standard_error == pytest.approx(errors[0], rel=1e-6)
    assert of.at_far[0].tpr.standard_error == pytest.approx(errors[1], rel=1e-6)


def test_separated_pairs_have_no_error_and_one_kind_is_refused():
    genuine, impostor = pairs(0, shift=50, own=0)
    of = pair_thresholds(genuine, impostor, resamples=2)
    assert (of.eer.mean, of.best_accuracy.mean, of.eer.half_width) == (0, 1, None)
    with pytest.raises(InputError, match="got 0 and"):
        pair_thresholds(genuine.some(slice(0)), impostor)


def test_without_a_threshold_it_is_said_why():
    genuine, impostor = pairs(0)
    equal = impostor._replace(score=np.full(len(impostor.score), genuine.score.max()))
    point = pair_thresholds(genuine, equal, resamples=2).at_far[0]
    assert np.isinf(point.threshold)
    assert (
        point.tpr.missing
        == "1,960 of 1,960 pairs with another document have the highest similarity"
    )

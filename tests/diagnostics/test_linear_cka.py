import math

import numpy as np
import pytest

import lossgauge as lg
from lossgauge.errors import InputError


def rows_of(seed, rows=30, width=4):
    return np.random.default_rng(seed).normal(size=(rows, width))


def by_loops(x, y):
    """HSIC of the two centred Gram matrices, entry by entry (Gretton et al. 2005)."""
    n = len(x)
    center = np.eye(n) - 1 / n

    def hsic(a, b):
        first, second = center @ a @ a.T @ center, center @ b @ b.T @ center
        return sum(first[i, j] * second[i, j] for i in range(n) for j in range(n))

    return hsic(x, y) / math.sqrt(hsic(x, x) * hsic(y, y))


@pytest.mark.parametrize(("rows", "width"), [(30, 4), (6, 11)])
def test_cka_equals_loops_over_the_gram_matrices(rows, width):
    x, y = rows_of(0, rows, width), rows_of(1, rows, 3)
    x[:, :3] += 0.7 * y
    assert lg.linear_cka(x, y) == pytest.approx(by_loops(x, y), rel=1e-12)
    assert lg.linear_cka(x, y) == pytest.approx(lg.linear_cka(y, x), rel=1e-12)


def test_rotation_shift_scale_and_order_do_not_matter_but_a_stretch_does():
    x, y = rows_of(0), rows_of(1)
    turn = np.linalg.qr(rows_of(2, 4))[0]
    cka = lg.linear_cka(x, y)
    assert lg.linear_cka(x, 1e-170 * x @ turn) == pytest.approx(1, rel=1e-12)
    assert lg.linear_cka(1e200 * x @ turn + 3e200, y) == pytest.approx(cka, rel=1e-9)
    order = np.random.default_rng(3).permutation(30)
    assert lg.linear_cka(x[order], y[order]) == pytest.approx(cka, rel=1e-12)
    assert lg.linear_cka(x[order], y) != pytest.approx(cka, rel=1e-3)
    assert lg.linear_cka(x, x * [9, 1, 1, 1]) < 0.9


def test_random_spaces_have_width_over_rows_plus_width():
    values = [lg.linear_cka(rows_of(s, 200, 20), rows_of(s + 100, 200, 20)) for s in range(20)]
    assert np.mean(values) == pytest.approx(20 / 220, rel=0.05)


def test_a_side_that_does_not_vary_has_no_similarity():
    assert math.isnan(lg.linear_cka(rows_of(0), np.full((30, 2), 0.1)))


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (rows_of(0), rows_of(0, 29), "same rows, got 30 and 29"),
        (rows_of(0, 1), rows_of(1, 1), "at least two rows"),
        (rows_of(0), rows_of(0)[:, 0], r"second: embeddings must be a \(rows, width\)"),
        ([[math.nan, 1.0]], [[0.0]], "first: embeddings must be finite"),
    ],
)
def test_bad_input_is_one_clear_error(first, second, words):
    with pytest.raises(InputError, match=words):
        lg.linear_cka(first, second)

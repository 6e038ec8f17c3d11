"""The kernels against the torch forms, which the loops of `tests/losses` vouch for."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numba import njit

from lossgauge.kernels import threads, triplet, vector_math
from lossgauge.kernels.pair_gradient import symmetrize
from lossgauge.losses.registry import load_loss
from tests.losses.cases import without_kernel

PAIR_LOSSES = {
    "contrastive": {"margin": 1.2},
    "triplet": {"margin": 0.3},
    "triplet unsquared": {"margin": 0.3, "power": 1},
    "info_nce": {"temperature": 0.05},
    "scl": {"temperature": 0.05},
    "multi_similarity": {"alpha": 5.0, "beta": 20.0, "base": 0.2},
    "circle": {"scale": 16.0},
    "dcl": {"temperature": 0.05},
    "relaxed": {"threshold": -0.5},
    "siglip": {},
    "smooth_ap": {"temperature": 0.1},
    "smooth_ap with itself": {"temperature": 0.1, "include_self": True},
}


def make_batch(*, batch=200, classes=7, width=16, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(batch, width, dtype=dtype, generator=generator)
    return torch.nn.functional.normalize(rows), torch.randint(
        0, classes, (batch,), generator=generator
    )


def assert_same_outcome(found, wanted, *, rtol, ties=0):
    """`ties`: triplets of an anchor whose side of the margin the rounding of a root decides."""
    for name in ("value", "weight"):
        a, b = getattr(found, name), getattr(wanted, name)
        slack = rtol * float(b.abs().max()) + ties * (name == "weight")
        torch.testing.assert_close(a, b, rtol=rtol, atol=slack)
    assert torch.equal(found.counts, wanted.counts)
    assert (found.active - wanted.active).abs().max() <= ties
    # a push far smaller than the pull keeps the digits of the whole
    largest = float(wanted.forces.gradient.abs().max())
    for a, b in zip(found.forces, wanted.forces, strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=rtol * largest + 2 * ties)
    assert found.skipped_anchors == wanted.skipped_anchors
    assert found.effective_share == pytest.approx(
        wanted.effective_share, rel=10 * rtol, nan_ok=True
    )
    assert dict(found.columns) == pytest.approx(dict(wanted.columns), rel=rtol, nan_ok=True)
    for a, b in zip(found.parameter_gradients, wanted.parameter_gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=rtol * float(b.abs().max()))


@pytest.mark.parametrize(
    ("dtype", "rtol"), [(torch.float64, 1e-12), (torch.float32, 2e-5)], ids=str
)
@pytest.mark.parametrize(("batch", "classes"), [(200, 7), (200, 3), (97, 60), (33, 1)])
@pytest.mark.parametrize("name", PAIR_LOSSES)
@torch.no_grad()
def test_a_kernel_gives_what_the_torch_form_gives(name, batch, classes, dtype, rtol):
    loss = load_loss(name.split()[0], **PAIR_LOSSES[name])
    embeddings, labels = make_batch(batch=batch, classes=classes, dtype=dtype)
    found, wanted = loss.outcome(embeddings, labels), without_kernel(loss, embeddings, labels)
    ties = int(name == "triplet unsquared" and dtype == torch.float32)
    assert_same_outcome(found, wanted, rtol=rtol, ties=ties)


@pytest.mark.parametrize(
    ("dtype", "rtol"), [(torch.float64, 1e-12), (torch.float32, 2e-5)], ids=str
)
@pytest.mark.parametrize("classes", [1, 2, 7, 5000])
@pytest.mark.parametrize("name", ["arcface", "ccl"])
@torch.no_grad()
def test_a_class_kernel_gives_what_the_torch_form_gives(name, classes, dtype, rtol):
    torch.manual_seed(0)
    loss = load_loss(name, class_count=classes, embedding_size=16).to(dtype)
    embeddings, labels = make_batch(classes=classes, dtype=dtype)
    found, wanted = loss.outcome(embeddings, labels), without_kernel(loss, embeddings, labels)
    assert_same_outcome(found, wanted, rtol=rtol)
    (at_proxies,), (wanted_at,) = found.parameter_gradients, wanted.parameter_gradients
    torch.testing.assert_close(at_proxies, wanted_at, rtol=rtol, atol=rtol * float(wanted_at.max()))


@pytest.mark.parametrize("name", PAIR_LOSSES)
@torch.no_grad()
def test_the_number_of_threads_does_not_move_a_bit(name):
    before = torch.get_num_threads()
    loss = load_loss(name.split()[0], **PAIR_LOSSES[name])
    embeddings, labels = make_batch()
    outcomes = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            outcomes.append(loss.outcome(embeddings, labels))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(outcomes[0].value, outcomes[1].value)
    assert torch.equal(outcomes[0].forces.gradient, outcomes[1].forces.gradient)


@pytest.mark.parametrize("name", PAIR_LOSSES)
@torch.no_grad()
def test_without_gnu_openmp_a_pool_of_threads_gives_the_same(name, monkeypatch):
    loss = load_loss(name.split()[0], **PAIR_LOSSES[name])
    embeddings, labels = make_batch()
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        wanted = loss.outcome(embeddings, labels)
        monkeypatch.setattr(threads, "_torch_openmp", lambda: None)
        found = loss.outcome(embeddings, labels)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found.forces.gradient, wanted.forces.gradient)
    assert torch.equal(found.value, wanted.value)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("name", "exact", "low", "units"), [("exp", np.exp, -100, 3), ("log1p", np.log1p, 0, 3)]
)
def test_functions_of_our_own_are_right_to_three_units_in_the_last_place(
    name, exact, low, units, dtype
):
    function = getattr(vector_math, name)

    @njit
    def each(x, y):
        for i in range(len(x)):
            y[i] = function(x[i])

    x = np.linspace(low, low + 100 if low else 1, 200_001).astype(dtype)
    if name == "log1p":
        x = np.concatenate([x, np.geomspace(1e-30, 1e-3, 1000).astype(dtype)])
    found = np.empty_like(x)
    each(x, found)
    expected = exact(x.astype(np.float64))
    alive = x > -87 if dtype == np.float32 and name == "exp" else np.ones(len(x), bool)
    error = np.abs(found - expected)[alive] / np.maximum(expected[alive], 1e-300)
    assert error.max() < units * np.finfo(dtype).eps
    assert (found[~alive] == 0).all()


@pytest.mark.parametrize("side", [1, 31, 32, 33, 100])
def test_symmetrizing_is_adding_the_transpose(side):
    matrix = np.random.default_rng(0).normal(size=(side, side)).astype(np.float32)
    expected = matrix + matrix.T
    task = SimpleNamespace(matrix=matrix)
    for first in range(0, side, threads.ROWS_A_PIECE):
        symmetrize(task, first, min(side, first + threads.ROWS_A_PIECE))
    assert np.array_equal(matrix, expected)


@pytest.mark.parametrize("margin", [0.0, 0.2, 3.0])
@pytest.mark.parametrize("kind", ["spread", "ties", "equal"])
def test_triplets_compared_by_rank_are_those_compared_each_with_each(kind, margin):
    generator = np.random.default_rng(0)
    limits, negatives = generator.uniform(0, 2, size=(2, 300)).astype(np.float32)
    negatives = negatives[:211]
    if kind == "ties":
        limits, negatives = np.round(limits, 1), np.round(negatives, 1)
    elif kind == "equal":
        limits[:], negatives[:] = 0, 0
    limits = limits + np.float32(margin)
    results = []
    for compare in (triplet._compare_each, triplet._compare_sorted):
        below, times = np.empty_like(limits), np.empty_like(negatives)
        active = compare(limits, negatives, np.float32(0.1), below, times)
        results.append((active, below, times))
    violated = negatives < limits[:, None]
    for active, below, times in results:
        assert active == (negatives < (limits - np.float32(0.1))[:, None]).sum()
        assert np.array_equal(below, violated.sum(1))
        assert np.array_equal(times, violated.sum(0))

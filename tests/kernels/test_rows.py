"""The kernels against the torch forms, which the loops of `tests/losses` vouch for."""

import numba
import numpy as np
import pytest
import torch
from numba import njit

from lossgauge.kernels import rows as kernels
from lossgauge.losses import load_loss
from tests.losses.cases import without_kernel

PAIR_LOSSES = {
    "contrastive": {"margin": 1.2},
    "triplet": {"margin": 0.3},
    "info_nce": {"temperature": 0.05},
    "scl": {"temperature": 0.05},
}


def make_batch(*, batch=200, classes=7, width=16, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(batch, width, dtype=dtype, generator=generator)
    return torch.nn.functional.normalize(rows), torch.randint(
        0, classes, (batch,), generator=generator
    )


def assert_same_outcome(found, wanted, *, rtol):
    for name in ("value", "weight"):
        a, b = getattr(found, name), getattr(wanted, name)
        torch.testing.assert_close(a, b, rtol=rtol, atol=rtol * float(b.abs().max()))
    assert torch.equal(found.counts, wanted.counts)
    assert torch.equal(found.active, wanted.active)
    for a, b in zip(found.forces, wanted.forces, strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=rtol * float(b.abs().max()))
    assert found.skipped_anchors == wanted.skipped_anchors
    assert found.effective_share == pytest.approx(wanted.effective_share, rel=10 * rtol)


@pytest.mark.parametrize(
    ("dtype", "rtol"), [(torch.float64, 1e-12), (torch.float32, 2e-5)], ids=str
)
@pytest.mark.parametrize(("batch", "classes"), [(200, 7), (200, 3), (97, 60), (33, 1)])
@pytest.mark.parametrize("name", PAIR_LOSSES)
@torch.no_grad()
def test_a_kernel_gives_what_the_torch_form_gives(name, batch, classes, dtype, rtol):
    loss = load_loss(name, **PAIR_LOSSES[name])
    embeddings, labels = make_batch(batch=batch, classes=classes, dtype=dtype)
    found, wanted = loss.outcome(embeddings, labels), without_kernel(loss, embeddings, labels)
    if wanted.effective_share != wanted.effective_share:
        assert found.effective_share != found.effective_share
        found, wanted = found._replace(effective_share=0), wanted._replace(effective_share=0)
    assert_same_outcome(found, wanted, rtol=rtol)


@pytest.mark.parametrize("name", PAIR_LOSSES)
@torch.no_grad()
def test_the_number_of_threads_does_not_move_a_bit(name):
    before = torch.get_num_threads()
    loss = load_loss(name, **PAIR_LOSSES[name])
    embeddings, labels = make_batch()
    outcomes = []
    try:
        for threads in (1, numba.config.NUMBA_NUM_THREADS):
            torch.set_num_threads(threads)
            outcomes.append(loss.outcome(embeddings, labels))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(outcomes[0].value, outcomes[1].value)
    assert torch.equal(outcomes[0].forces.gradient, outcomes[1].forces.gradient)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_exponential_is_right_to_three_units_in_the_last_place(dtype):
    @njit
    def exponentials(x, y):
        for i in range(len(x)):
            y[i] = kernels._exp(x[i])

    x = np.linspace(-100, 0, 200_001).astype(dtype)
    found = np.empty_like(x)
    exponentials(x, found)
    expected = np.exp(x.astype(np.float64))
    alive = x > (-87 if dtype == np.float32 else -100)
    error = np.abs(found - expected)[alive] / expected[alive]
    assert error.max() < 3 * np.finfo(dtype).eps
    assert found[-1] == 1
    if dtype == np.float32:
        assert (found[~alive] == 0).all()


@pytest.mark.parametrize("side", [1, 31, 32, 33, 100])
def test_symmetrizing_is_adding_the_transpose(side):
    matrix = np.random.default_rng(0).normal(size=(side, side)).astype(np.float32)
    expected = matrix + matrix.T
    kernels.symmetrize(matrix)
    assert np.array_equal(matrix, expected)

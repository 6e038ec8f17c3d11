"""The norms of the rows of a gradient, against a loop over each number and against the form in torch."""

from __future__ import annotations

import math

import pytest
import torch

from lossgauge.kernels.gradient_rows import gradient_rows
from lossgauge.loop import recorder


def by_loop(gradient: torch.Tensor, embeddings: torch.Tensor) -> list[list[float]]:
    norms = []
    for at, row in zip(gradient.tolist(), embeddings.tolist(), strict=True):
        length = math.sqrt(math.fsum(z * z for z in row))
        along = math.fsum(g * z for g, z in zip(at, row, strict=True))
        share = along / length**2 if length else 0.0
        across = [g - share * z for g, z in zip(at, row, strict=True)]
        norms.append([math.hypot(*at), math.hypot(*across), length])
    return norms


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (40, 128), (7, 33)])
def test_equals_a_loop_over_each_number(shape: tuple[int, int], dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    gradient, embeddings = (torch.randn(shape, generator=generator, dtype=dtype) for _ in range(2))
    embeddings[0] = 0  # no direction: the whole gradient is across
    if len(gradient) > 2:
        gradient[1] = 3 * embeddings[1] + 1e-4 * gradient[1]  # nearly along the embedding
        gradient[2] = 0
    found = gradient_rows(gradient, embeddings)
    expected = torch.tensor(by_loop(gradient, embeddings), dtype=torch.float64).T
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_takes_columns_of_a_larger_matrix_and_a_broadcast_gradient() -> None:
    wide = torch.randn(6, 20, dtype=torch.float64)
    gradient = torch.randn(1, 8, dtype=torch.float64).expand(6, 8)
    found = gradient_rows(gradient, wide[:, 2:10])
    expected = torch.tensor(by_loop(gradient, wide[:, 2:10]), dtype=torch.float64).T
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_number_that_is_not_finite_makes_its_own_row_not_finite_and_no_other(bad: float) -> None:
    gradient, embeddings = torch.randn(4, 8), torch.randn(4, 8)
    gradient[2, 3] = bad
    found = gradient_rows(gradient, embeddings)
    assert not found[:2, 2].isfinite().any()
    assert found[:, [0, 1, 3]].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_the_probe_reads_the_same_with_the_kernel_and_with_operations_of_torch(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradient, embeddings = torch.randn(30, 16).to(dtype), torch.randn(30, 16).to(dtype)
    compiled = recorder.arrival_of(gradient, embeddings).numbers
    monkeypatch.setattr(recorder, "_ON_ONE_THREAD", 0)
    plain = recorder.arrival_of(gradient, embeddings).numbers
    rtol = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(compiled, plain.double(), rtol=rtol, atol=rtol)

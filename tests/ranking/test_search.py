from concurrent.futures import ThreadPoolExecutor

import faiss
import numpy as np
import pytest
import torch

from lossgauge.errors import InputError
from lossgauge.ranking import search
from lossgauge.ranking.query_set import against_each_other
from lossgauge.ranking.search import _Leading, _leading_packed, neighbor_blocks


def nearest(rows, *, counts, block_rows=None, queries=None, similarity="dot"):
    queries = torch.arange(len(rows)) if queries is None else queries
    counts = torch.full((len(queries),), counts) if isinstance(counts, int) else counts
    blocks = neighbor_blocks(
        against_each_other(rows),
        queries,
        counts=counts,
        block_rows=block_rows,
        similarity=similarity,
    )
    return [row for block in blocks for row in block.columns.tolist()]


def slow(rows, k):
    """By similarity descending, then index; small integers, so that every product is exact."""
    similarity = (rows.double() @ rows.double().T).tolist()
    return [
        sorted((j for j in range(len(rows)) if j != i), key=lambda j: (-similarity[i][j], j))[:k]
        for i in range(len(rows))
    ]


def integers(*, rows=80, width=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-2, 3, (rows, width), generator=generator)


@pytest.fixture(params=["all of a row sorted", "what a sample leaves sorted"])
def both_ways(request, monkeypatch):
    """Rows of few columns and rows of many are ranked in two ways: here each of them ranks all."""
    monkeypatch.setattr(search, "_FEW_COLUMNS", 10**6 if request.param.startswith("all") else 0)


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("k", [1, 2, 17, 78, 79])
def test_equal_similarities_are_ranked_by_index_wherever_the_cut_falls(dtype, k):
    rows = (
        integers()
    )  # 80 rows of 125 possible ones: duplicates and ties everywhere, zeros of both signs
    assert nearest(rows.to(dtype), counts=k, block_rows=13) == slow(rows, k)


def leading_topk(similarity, width, pool):
    """As on other devices."""
    return _Leading(*reversed(similarity.topk(width, dim=1)))


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("k", [1, 5, 79])
def test_the_two_ways_to_find_the_largest_scores_give_one_order(monkeypatch, k):
    rows = integers(seed=1).float()
    expected = nearest(rows, counts=k)
    monkeypatch.setattr(search, "_leading_packed", leading_topk)
    assert nearest(rows, counts=k) == expected == slow(rows, k)
    assert nearest(torch.ones(80, 3), counts=k) == slow(torch.ones(80, 3), k)


def packed(similarity, width):
    with ThreadPoolExecutor(1) as pool:
        return _leading_packed(similarity, width, pool)


@pytest.mark.usefixtures("both_ways")
def test_a_negative_zero_equals_a_positive_one():
    similarity = torch.tensor([[-torch.inf, -0.0, 0.0, -0.0, -1.0, 1.0]])
    found = packed(similarity, 5)
    assert found.columns.tolist() == [[5, 1, 2, 3, 4]]
    assert found.scores.tolist() == [[1, 0, 0, 0, -1]]


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("width", [1, 7, 300, 1500, 2999, 3000])
@pytest.mark.parametrize("kind", ["random", "few values", "sample above", "sample below", "equal"])
def test_the_largest_scores_are_found_whatever_a_sample_of_them_looks_like(kind, width):
    generator = torch.Generator().manual_seed(width)
    similarity = torch.randn(5, 3000, generator=generator)
    if kind == "few values":
        similarity = (similarity * 2).round()
    elif kind == "equal":
        similarity[:] = 3
    elif kind.startswith("sample"):
        similarity[:, :: 3000 // 512] += 10 if kind == "sample above" else -10
    values, columns = similarity.sort(dim=1, descending=True, stable=True)
    found = packed(similarity, width)
    assert torch.equal(found.columns, columns[:, :width])
    assert torch.equal(found.scores, values[:, :width])


def test_a_long_ranking_is_the_stable_sort():
    generator = torch.Generator().manual_seed(2)
    rows = torch.randn(4000, 8, generator=generator)
    queries = torch.arange(0, 4000, 100)
    similarity = rows[queries].double() @ rows.double().T
    similarity[torch.arange(len(queries)), queries] = -torch.inf
    expected = similarity.argsort(dim=1, descending=True, stable=True)[:, :1500]
    assert nearest(rows, counts=1500, queries=queries) == expected.tolist()


def test_neighbours_are_those_of_faiss():
    generator = torch.Generator().manual_seed(3)
    rows = torch.nn.functional.normalize(torch.randn(500, 24, generator=generator))
    index = faiss.IndexFlatIP(24)
    index.add(rows.numpy())
    _, found = index.search(rows.numpy(), 21)
    assert (found[:, 0] == np.arange(500)).all()
    assert nearest(rows, counts=20, block_rows=64) == found[:, 1:].tolist()


def test_a_block_is_as_wide_as_its_largest_count_and_never_wider_than_the_others():
    rows = integers(rows=6)
    queries = torch.tensor([5, 0, 3])
    found = nearest(rows.float(), counts=torch.tensor([1, 2, 99]), queries=queries, block_rows=2)
    assert [len(row) for row in found] == [2, 2, 5]
    whole = slow(rows, 5)
    assert found == [whole[5][:2], whole[0][:2], whole[3]]


@pytest.mark.parametrize(("value", "word"), [(torch.nan, "NaN"), (torch.inf, "Inf")])
def test_a_row_that_is_not_finite_is_named(value, word):
    rows = integers().float()
    rows[7, 1] = value
    with pytest.raises(InputError, match=f"got {word} in row 7"):
        nearest(rows, counts=1)


def test_a_lower_precision_of_the_process_is_neither_used_nor_lost(monkeypatch):
    seen = []
    product = torch.addmm

    def watch(*tensors):
        seen.append((torch.backends.cuda.matmul.fp32_precision, torch.is_autocast_enabled("cpu")))
        return product(*tensors)

    monkeypatch.setattr(torch, "addmm", watch)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with torch.autocast("cpu"):
            found = nearest(integers().float(), counts=2)
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
    assert set(seen) == {("ieee", False)}
    assert found == slow(integers(), 2)


def cone(*, rows=200, width=12, offset, noise=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    around = offset * torch.randn(width, dtype=torch.float64, generator=generator)
    return around + noise * torch.randn(rows, width, dtype=torch.float64, generator=generator)


def assert_in_order_of_float64(found, rows, similarity, *, queries=slice(None)):
    """No neighbour comes after one that is less similar, by more than 1e-12 of the scale."""
    rows = rows.double()
    if similarity == "cosine":
        rows = rows / rows.norm(dim=1, keepdim=True)
    product = (rows[:, None] * rows).sum(2).fill_diagonal_(-torch.inf)[queries]
    found = torch.tensor(found)
    best = product.sort(dim=1, descending=True).values[:, : found.shape[1]]
    norms = rows.norm(dim=1)
    gap = (best - product.gather(1, found)).abs() / (norms[queries, None] * norms[found])
    assert gap.max() < 1e-12


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("offset", "noise"), [(0, 1), (1, 1e-3), (1, 1e-5), (1e3, 1), (1e6, 1)])
def test_in_a_narrow_cone_the_order_is_that_of_float64(similarity, dtype, offset, noise):
    rows = cone(offset=offset, noise=noise).to(dtype)
    for k in (1, 30):
        found = nearest(rows, counts=k, similarity=similarity)
        assert_in_order_of_float64(found, rows, similarity)
        assert nearest(rows, counts=k, similarity=similarity, block_rows=7) == found


def test_in_a_cone_too_narrow_for_cosines_the_nearest_directions_come_first():
    """Directions 1e-9 apart: their cosines are 1 less 1e-18, the same number in float64."""
    rows = torch.ones(60, 4, dtype=torch.float64)
    rows[:, 0] += 1e-9 * torch.randperm(60, generator=torch.Generator().manual_seed(0))
    found = nearest(rows, counts=1, similarity="cosine")
    steps = (rows[:, 0] - rows[torch.tensor(found).flatten(), 0]).abs() / 1e-9
    assert steps.round().tolist() == [1] * 60


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_scale_of_rows_moves_no_rank(dtype, similarity):
    rows = cone(offset=0.2).to(dtype)
    expected = nearest(rows, counts=20, similarity=similarity)
    exponents = (-120, -86, -20, 30, 86, 120) + ((-1060, 990) if dtype == torch.float64 else ())
    for exponent in exponents:
        scaled = torch.from_numpy(np.ldexp(rows.numpy(), exponent))
        if exponent > -1000:
            assert nearest(scaled, counts=20, similarity=similarity) == expected
        else:  # subnormal numbers have few digits: other rows, but an order all the same
            assert nearest(scaled, counts=1, similarity=similarity)


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_rows_of_very_different_lengths_are_in_order_of_float64(similarity):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(90, 6, generator=generator)
    rows *= 10 ** torch.randint(-18, 18, (90, 1), generator=generator).double()
    found = nearest(rows.float(), counts=40, similarity=similarity)
    assert_in_order_of_float64(found, rows.float(), similarity)


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_equal_rows_are_ranked_by_index_and_copies_too(similarity):
    row = torch.tensor([[0.1, 0.7, -0.3]])
    assert nearest(row.expand(5, 3), counts=4, similarity=similarity) == [
        [j for j in range(5) if j != i] for i in range(5)
    ]
    rows = cone(rows=40, width=3, offset=1, noise=0.5).float()
    many = rows.repeat(6, 1)
    found = nearest(many, counts=5, similarity="cosine")
    assert found == [[j for j in range(i % 40, 240, 40) if j != i] for i in range(240)]


def test_a_cosine_of_a_row_of_zeros_is_refused():
    rows = integers(rows=9).float()
    rows[4] = 0
    with pytest.raises(InputError, match="row 4 is all zeros"):
        nearest(rows, counts=1, similarity="cosine")


def test_rows_whose_products_leave_float32_are_in_order_of_float64():
    """Rows of 1e-42 about a mean of exactly 0: in float32 their products have hardly a digit."""
    generator = torch.Generator().manual_seed(0)
    large = torch.randint(-99, 100, (300, 4), generator=generator).double()
    tiny = 1e-42 * torch.randn(8, 4, dtype=torch.float64, generator=generator)
    rows = torch.cat([large, -large, tiny])
    found = nearest(rows, counts=30)
    assert_in_order_of_float64(found[600:], rows, "dot", queries=slice(600, 608))

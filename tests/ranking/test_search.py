from concurrent.futures import ThreadPoolExecutor

import faiss
import numpy as np
import pytest
import torch

from lossgauge.errors import InputError
from lossgauge.ranking.search import (
    _nearest_mended,
    _nearest_packed,
    _similarities,
    neighbor_blocks,
)


def nearest(rows, *, counts, block_rows=None, queries=None):
    queries = torch.arange(len(rows)) if queries is None else queries
    counts = torch.full((len(queries),), counts) if isinstance(counts, int) else counts
    blocks = neighbor_blocks(rows, queries, counts=counts, block_rows=block_rows)
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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("k", [1, 2, 17, 78, 79])
def test_equal_similarities_are_ranked_by_index_wherever_the_cut_falls(dtype, k):
    rows = (
        integers()
    )  # 80 rows of 125 possible ones: duplicates and ties everywhere, zeros of both signs
    assert nearest(rows.to(dtype), counts=k, block_rows=13) == slow(rows, k)


@pytest.mark.parametrize("k", [1, 5, 79])
def test_the_two_ways_to_rank_agree_on_float32(k):
    rows = integers(seed=1).float()
    similarity = (rows @ rows.T).fill_diagonal_(-torch.inf)
    assert _nearest_mended(similarity, k).tolist() == nearest(rows, counts=k)


def test_a_negative_zero_equals_a_positive_one():
    similarity = torch.tensor([[-torch.inf, -0.0, 0.0, -0.0, -1.0, 1.0]])
    with ThreadPoolExecutor(1) as pool:
        assert _nearest_packed(similarity, 5, pool).tolist() == [[5, 1, 2, 3, 4]]


def test_a_long_ranking_is_the_stable_sort():
    generator = torch.Generator().manual_seed(2)
    rows = torch.randn(4000, 8, generator=generator)
    queries = torch.arange(0, 4000, 100)
    similarity = rows[queries] @ rows.T
    similarity[torch.arange(len(queries)), queries] = -torch.inf
    expected = similarity.argsort(dim=1, descending=True, stable=True)[:, :1500]
    assert nearest(rows, counts=1500, queries=queries) == expected.tolist()


def test_a_similarity_has_the_same_bits_in_a_block_of_any_size():
    generator = torch.Generator().manual_seed(4)
    rows = torch.randn(300, 128, generator=generator)
    whole = _similarities(rows, torch.arange(300))
    for size in (1, 3, 31, 40):
        assert torch.equal(_similarities(rows, torch.arange(size)), whole[:size])


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
    product = torch.Tensor.__matmul__

    def watch(a, b):
        seen.append((torch.backends.cuda.matmul.fp32_precision, torch.is_autocast_enabled("cpu")))
        return product(a, b)

    monkeypatch.setattr(torch.Tensor, "__matmul__", watch)
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

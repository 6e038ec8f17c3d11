import numpy as np
import pytest

from lossgauge.diagnosis.source import from_arrays
from lossgauge.diagnosis.two_tables import nearest
from lossgauge.diagnosis.two_tables.nearest import nearest_documents


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("numbers", [64, 2**20])
def test_equal_documents_are_in_the_order_of_their_numbers_across_blocks(
    similarity, numbers, monkeypatch
):
    monkeypatch.setattr(nearest, "BLOCK_NUMBERS", numbers)  # 8 documents
    monkeypatch.setattr(nearest, "QUERY_NUMBERS", numbers)
    generator = np.random.default_rng(0)
    kind = generator.integers(0, 8, 300)  # each document is an axis, so ties are exact
    queries = generator.normal(size=(20, 8))
    known, rows = np.flatnonzero(generator.random(300) < 0.9), np.arange(1, 20, 2)
    found = nearest_documents(
        from_arrays(queries),
        rows,
        from_arrays(4 * np.eye(8)[kind]),
        known,
        similarity=similarity,
    )
    for place, row in enumerate(rows.tolist()):
        order = sorted(known.tolist(), key=lambda d, of=queries[row]: (-of[kind[d]], d))
        assert found.documents[place].tolist() == order[:100]
    assert found.searched == len(known)


def test_rows_in_a_narrow_cone_are_ranked_exactly_in_blocks(monkeypatch):
    monkeypatch.setattr(nearest, "BLOCK_NUMBERS", 160)
    generator = np.random.default_rng(0)
    queries, documents = (1e4 + generator.normal(size=(n, 16)) for n in (5, 130))
    every = np.arange(130)
    found = nearest_documents(from_arrays(queries), np.arange(5), from_arrays(documents), every)
    one, other = (
        rows.astype(np.longdouble) / np.linalg.norm(rows.astype(np.longdouble), axis=1)[:, None]
        for rows in (queries, documents)
    )
    distances = ((one[:, None] - other[None]) ** 2).sum(axis=2)
    first = [np.argsort(row)[:3].tolist() for row in distances]
    assert [row[:3].tolist() for row in found.documents] == first

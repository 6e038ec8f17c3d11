import numpy as np
import pytest
import torch

from lossgauge.diagnostics.found_documents import found_documents
from lossgauge.errors import InputError


def test_numbers_equal_counts_in_a_loop():
    generator = np.random.default_rng(0)
    neighbors = np.array([generator.permutation(30)[:4] for _ in range(25)])
    right = generator.random((25, 4)) < 0.3
    of = found_documents(torch.from_numpy(neighbors), 40, torch.from_numpy(right))
    counts, unneeded = np.zeros(40), np.zeros(40)
    for row, is_right in zip(neighbors.tolist(), right.tolist(), strict=True):
        for document, hit in zip(row, is_right, strict=True):
            counts[document] += 1
            unneeded[document] += not hit
    away = counts - counts.mean()
    assert of.skew == pytest.approx(np.mean(away**3) / np.mean(away**2) ** 1.5)
    assert of.never_found == np.mean(counts == 0) >= 0.25
    assert (of.most_found, of.most_found_row) == (unneeded.max(), unneeded.argmax())
    assert of.share == unneeded.max() / 25
    assert of.excess == (of.most_found - of.most_by_chance) / 25


def test_chance_is_that_of_random_neighbours():
    generator = np.random.default_rng(0)
    shares, beyond = [], 0
    for _ in range(50):
        neighbors = np.argsort(generator.random((20, 60)), axis=1)[:, :5]
        of = found_documents(torch.from_numpy(neighbors), 60)
        shares.append(of.never_found)
        beyond += of.most_found > of.most_by_chance
    error = np.std(shares) / 50**0.5
    assert abs(np.mean(shares) - of.never_found_by_chance) < 4 * error
    assert beyond <= 3
    assert of.most_by_chance < 9  # of 20 queries; the mean is 1.7


def test_equal_counts_have_no_skew_and_bad_neighbours_are_refused():
    assert np.isnan(found_documents(torch.arange(6).reshape(3, 2), 6).skew)
    for neighbors, words in ((torch.tensor([[6]]), "got 6"), (torch.tensor([[-1]]), "got -1")):
        with pytest.raises(InputError, match=words):
            found_documents(neighbors, 6)
    with pytest.raises(InputError, match="shape"):
        found_documents(torch.zeros(0, 2, dtype=torch.int64), 6)

"""The programs behind docs/related-studies.md, against loops."""

import math

import numpy as np
import pytest
import torch

from benchmarks import clusters, weights_or_directions


@pytest.mark.parametrize("exponent", [1.0, 10.0])
def test_the_dec_loss_is_that_of_the_loop(exponent):
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(7, 4, dtype=torch.float64, generator=generator)
    centers = torch.randn(3, 4, dtype=torch.float64, generator=generator)
    q = [
        [
            (1 + clusters.SHARPNESS * float((row - center).square().sum())) ** -exponent
            for center in centers
        ]
        for row in z
    ]
    q = [[one / sum(row) for one in row] for row in q]
    sizes = [sum(row[k] for row in q) for k in range(3)]
    value = 0.0
    for row in q:
        p = [one**2 / sizes[k] for k, one in enumerate(row)]
        value += sum(a / sum(p) * math.log(a / sum(p) / b) for a, b in zip(p, row, strict=True))
    assert float(clusters.cluster_loss(z, centers, exponent)) == pytest.approx(value / 7, rel=1e-10)
    torch.testing.assert_close(clusters.memberships(z, centers, exponent), torch.tensor(q).double())


def test_a_copy_of_a_text_keeps_the_order_of_its_words_and_at_least_one():
    text = "a small animal with a long tail that lives in trees"
    generator = np.random.default_rng(0)
    lengths = []
    for _ in range(500):
        copy = clusters.without_words(text, generator).split()
        remaining = iter(text.split())
        assert all(word in remaining for word in copy)
        lengths.append(len(copy))
        assert clusters.without_words("word", generator) == "word"
    assert min(lengths) >= 1
    # of 11 words 8.8 stay, and the one that is always kept adds at most a fifth
    assert 8.6 < np.mean(lengths) < 9.2


def test_effects_are_those_of_a_table_that_is_a_sum_of_its_effects():
    weight, direction, interaction = 1.5, -0.25, 0.75
    cell = {
        (i, j): {
            seed: 10 * seed + i * weight / 2 + j * direction / 2 + i * j * interaction / 2
            for seed in (3, 5)
        }
        for i in (1, -1)
        for j in (1, -1)
    }
    cell[1, 1][9] = 1.0  # a seed that the other runs do not have
    found = weights_or_directions.effects(cell[1, 1], cell[1, -1], cell[-1, 1], cell[-1, -1])
    assert found == {
        "weight": pytest.approx([weight] * 2),
        "direction": pytest.approx([direction] * 2),
        "interaction": pytest.approx([interaction] * 2),
    }

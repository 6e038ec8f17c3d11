import math

import pytest
import torch

from lossgauge.diagnostics import spacing as module
from lossgauge.diagnostics.spacing import spacing


def make_means(count=40, width=8, *, seed=0, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(count, width, dtype=torch.float64, generator=generator) + shift
    return means, torch.rand(count, dtype=torch.float64, generator=generator)


def slow(means, intra):
    """All pairs one by one, each from its difference."""
    count = len(means)
    gaps = [[float((a - b).norm()) for b in means] for a in means]
    pairs = [gaps[i][j] for i in range(count) for j in range(i)]
    others = [[gaps[i][j] for j in range(count) if j != i] for i in range(count)]
    mean = math.fsum(pairs) / len(pairs)
    known = [i for i in range(count) if not math.isnan(intra[i])]
    cdnv = [
        float(intra[i] + intra[j]) / (2 * gaps[i][j] ** 2) if gaps[i][j] else math.inf
        for i in known
        for j in known
        if i < j
    ]
    return {
        "inter": math.fsum(gap**2 for gap in pairs) / len(pairs),
        "mean": mean,
        "deviation": math.sqrt(math.fsum((gap - mean) ** 2 for gap in pairs) / len(pairs)),
        "distance": [min(row) for row in others],
        "of_class": [math.fsum(row) / (count - 1) for row in others],
        "cdnv": math.fsum(cdnv) / len(cdnv) if cdnv else math.nan,
    }


def assert_as_slow(means, intra, *, rel=1e-10):
    found = spacing(means, intra)._asdict()
    for name, value in slow(means, intra).items():
        here = found[name].tolist() if isinstance(value, list) else found[name]
        assert here == pytest.approx(value, rel=rel, abs=1e-300, nan_ok=True), name
    for place, nearest in enumerate(found["nearest"].tolist()):
        gap = float((means[place] - means[nearest]).norm())
        assert nearest != place
        assert gap == pytest.approx(float(found["distance"][place]), rel=rel, abs=0)


@pytest.mark.parametrize("block", [1, 3 * 40, 40 * 40])
@pytest.mark.parametrize("count", [2, 3, 40])
def test_spacing_is_that_of_all_pairs_whatever_the_block(monkeypatch, block, count):
    monkeypatch.setattr(module, "BLOCK_DISTANCES", block)
    assert_as_slow(*make_means(count))


@pytest.mark.parametrize("block", [1, 3 * 40, 40 * 40])
def test_equal_means_are_at_distance_exactly_0(monkeypatch, block):
    monkeypatch.setattr(module, "BLOCK_DISTANCES", block)
    means, intra = make_means(shift=0.7)
    means[31] = means[5]
    found = spacing(means, intra)
    assert found.distance[5] == found.distance[31] == 0
    assert (found.nearest[5], found.nearest[31]) == (31, 5)
    assert (found.distance > 0).sum() == 38
    assert found.cdnv == math.inf
    assert_as_slow(means, intra)


def test_two_classes_of_no_variance_in_one_place_have_no_cdnv_and_singles_do_not_count():
    means, intra = make_means()
    means[31] = means[5]
    intra[[5, 31]] = 0
    assert math.isnan(spacing(means, intra).cdnv)
    intra[31] = math.nan
    assert_as_slow(means, intra)
    intra[:] = math.nan
    assert math.isnan(spacing(means, intra).cdnv)


@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-9, 1e-12])
def test_means_that_lie_close_keep_the_digits_of_their_distance(gap):
    """Of two at 1e-9 from each other, a product of means 1 apart knows nothing."""
    means, intra = make_means()
    means[7] = means[3] + gap * means[4]
    # rounding the means themselves costs 1e-16 / gap
    assert_as_slow(means, intra, rel=1e-10 + 1e-15 / gap)


def test_two_tight_groups_far_apart_keep_the_distances_inside_them():
    means, intra = make_means()
    means *= 1e-4
    means[20:] += 3
    assert_as_slow(means, intra)


def test_equal_distances_have_hardly_any_deviation():
    """A simplex: from squares less the square of the mean, 1e-8 would be left."""
    found = spacing(torch.eye(300, dtype=torch.float64), torch.ones(300, dtype=torch.float64))
    assert found.deviation < 1e-13
    assert found.mean == pytest.approx(math.sqrt(2), rel=1e-14)


@pytest.mark.parametrize("block", [1, 3 * 30, 30 * 30])
def test_means_in_one_place_are_at_no_distance_and_the_first_is_the_nearest(monkeypatch, block):
    monkeypatch.setattr(module, "BLOCK_DISTANCES", block)
    means = make_means(1)[0].expand(30, 8)
    found = spacing(means, torch.zeros(30, dtype=torch.float64))
    assert (found.inter, found.mean, found.deviation) == (0, 0, 0)
    assert math.isnan(found.cdnv)
    assert found.nearest.tolist() == [1] + [0] * 29

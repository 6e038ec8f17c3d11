import itertools
import math

import numpy as np
import pytest
import torch

from lossgauge.diagnostics.references import full_collapse, random_unit_vectors
from lossgauge.diagnostics.variance import geometry
from lossgauge.errors import InputError


def make_batch(*, sizes=(9, 4, 6, 2), width=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)) * 10
    labels = labels[torch.randperm(len(labels), generator=generator)]
    rows = torch.randn(len(labels), width, dtype=torch.float64, generator=generator)
    return torch.nn.functional.normalize(rows + labels[:, None] * 0.02), labels


def slow(rows, labels):
    classes = sorted(set(labels.tolist()))
    members = {c: [r for r, y in zip(rows, labels, strict=True) if y == c] for c in classes}
    mean = {c: sum(m) / len(m) for c, m in members.items()}
    intra = {
        c: sum(float((r - mean[c]).square().sum()) for r in m) / len(m) for c, m in members.items()
    }
    gap = {(a, b): float((mean[a] - mean[b]).norm()) for a, b in itertools.permutations(classes, 2)}
    margins = {
        c: min(gap[c, b] for b in classes if b != c) - 2 * math.sqrt(intra[c]) for c in classes
    }
    count = len(classes)
    gaps = list(gap.values())
    spectrum = np.linalg.eigvalsh(np.cov(rows.numpy().T, bias=True))
    share = spectrum / spectrum.sum()
    alignments = [
        np.mean([float((a - b).square().sum()) for a, b in itertools.permutations(m, 2)])
        for m in members.values()
    ]
    pairs = [float((a - b).square().sum()) for a, b in itertools.combinations(rows, 2)]
    return (
        {
            "intra": sum(intra.values()) / count,
            "inter": sum(g**2 for g in gaps) / (count * (count - 1)),
            "offset": float((sum(mean.values()) / count).square().sum()),
            "spacing_mean": np.mean(gaps),
            "spacing_cv": np.std(gaps) / np.mean(gaps),
            "spacing_min_ratio": min(gaps) / np.mean(gaps),
            "margin": sum(margins.values()) / count,
            "cdnv": np.mean([(intra[a] + intra[b]) / (2 * gap[a, b] ** 2) for a, b in gap]),
            "effective_rank": math.exp(-(share * np.log(share)).sum()),
            "alignment": np.mean(alignments),
            "uniformity": math.log(np.mean([math.exp(-2 * p) for p in pairs])),
        },
        intra,
        margins,
    )


@pytest.mark.parametrize("seed", range(3))
def test_geometry_is_that_of_the_loop(seed):
    rows, labels = make_batch(seed=seed)
    found = geometry(rows, labels)
    averages, intra, margins = slow(rows, labels)
    for name, value in averages.items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-9), name
    for row in found.per_class:
        assert row.intra == pytest.approx(intra[row.label])
        assert row.margin == pytest.approx(margins[row.label])
    assert found.per_class["label"].tolist() == [0, 10, 20, 30]
    assert found.per_class[20].size == 6


def test_on_the_sphere_intra_inter_and_offset_are_tied():
    rows, labels = make_batch()
    g = geometry(rows, labels)
    classes = g.class_count
    means = torch.stack([rows[labels == c].mean(0) for c in labels.unique()])
    assert g.intra == pytest.approx(1 - float(means.square().sum(1).mean()))
    assert g.inter == pytest.approx(2 * classes / (classes - 1) * (1 - g.intra - g.offset))


def test_alignment_is_the_mean_pairwise_distance_inside_a_class():
    rows, labels = make_batch(sizes=(5, 8))
    cosine_distances = [
        np.mean([1 - float(a @ b) for a, b in itertools.permutations(rows[labels == c], 2)])
        for c in (0, 10)
    ]
    assert geometry(rows, labels).alignment / 2 == pytest.approx(np.mean(cosine_distances))


def test_order_of_rows_and_names_of_classes_do_not_matter():
    rows, labels = make_batch()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(2))
    names = {0: 2**62, 10: -5, 20: 3, 30: 0}
    renamed = torch.tensor([names[y] for y in labels[order].tolist()])
    one, two = geometry(rows, labels), geometry(rows[order], renamed)
    for name in (
        "intra",
        "inter",
        "offset",
        "spacing_cv",
        "margin",
        "cdnv",
        "effective_rank",
        "uniformity",
    ):
        assert getattr(one, name) == pytest.approx(getattr(two, name), rel=1e-10)


def test_one_collapsed_class_stays_visible():
    rows, labels = make_batch()
    rows[labels == 20] = rows[labels == 20][0]
    found = geometry(rows, labels)
    assert found.per_class[20].intra == 0
    assert found.per_class[0].intra > 0.1


def test_a_collapsed_space_has_no_variance_and_no_invented_ratio():
    labels = torch.arange(40) % 4
    found = geometry(full_collapse(labels, width=8), labels)
    assert (found.intra, found.inter, found.offset) == (0, 0, 1)
    for name in ("spacing_cv", "intra_inter_ratio", "cdnv", "effective_rank"):
        assert math.isnan(getattr(found, name)), name


def test_random_unit_vectors_have_the_variance_that_chance_gives():
    labels = torch.arange(4000) % 40
    found = geometry(random_unit_vectors(labels, width=64), labels)
    assert found.intra == pytest.approx(1 - 1 / 100, abs=0.001)
    assert found.inter == pytest.approx(2 / 100, rel=0.1)
    assert found.effective_rank == pytest.approx(64, rel=0.02)


def test_a_class_of_one_sample_shows_no_variance_and_is_counted():
    rows, labels = make_batch(sizes=(6, 5, 1))
    found = geometry(rows, labels)
    assert math.isnan(found.per_class[20].intra)
    assert found.singleton_count == 1
    keep = labels != 20
    assert found.intra == pytest.approx(geometry(rows[keep], labels[keep]).intra)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([4, 4, 4], "at least two, got only label 4"),
        ([1, 2, 3], "each of the 3 classes has only one sample"),
    ],
)
def test_labels_without_two_classes_or_without_a_pair_are_refused(labels, message):
    with pytest.raises(InputError, match=message):
        geometry(torch.eye(3), torch.tensor(labels))


def test_arrays_of_half_precision_are_computed_in_float64():
    rows, labels = make_batch()
    half = rows.half()
    assert geometry(half.numpy(), labels.numpy()).intra == geometry(half.double(), labels).intra


def unit_rows(count, width, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(count, width, dtype=torch.float64, generator=generator)
    return torch.nn.functional.normalize(rows)


def rank_by_svd(rows):
    share = torch.linalg.svdvals(rows - rows.mean(0)).square()
    share = share[share > 1e-20] / share.sum()
    return math.exp(-(share * share.log()).sum())


@pytest.mark.parametrize(("count", "width"), [(12, 64), (64, 64), (65, 64), (300, 64)])
@pytest.mark.parametrize("dead", [0, 3])
def test_the_effective_rank_is_that_of_the_singular_values(count, width, dead):
    """Fewer rows than the width, or a dead direction: eigenvalues of 0 come out on both sides of it."""
    rows = unit_rows(count, width)
    rows[:, :dead] = 0.5
    rows = rows @ torch.linalg.qr(unit_rows(width, width, seed=1)).Q
    found = geometry(rows, torch.arange(count) % 3)
    assert found.effective_rank == pytest.approx(rank_by_svd(rows), rel=1e-9)


def test_equal_rows_in_any_direction_have_no_effective_rank():
    """Their mean is rounded, and what is left of it is no direction in use."""
    for seed in range(20):
        row = unit_rows(1, 48, seed=seed)
        for rows in (row.expand(997, 48), row.expand(30, 48)):
            found = geometry(rows, torch.arange(len(rows)) % 7)
            assert math.isnan(found.effective_rank)


def test_the_spacing_of_a_class_is_its_mean_distance_to_the_others():
    rows, labels = make_batch()
    means = {c: rows[labels == c].mean(0) for c in (0, 10, 20, 30)}
    for row in geometry(rows, labels).per_class:
        others = [float((means[row.label] - m).norm()) for c, m in means.items() if c != row.label]
        assert row.spacing == pytest.approx(sum(others) / 3)
        assert row.size == int((labels == row.label).sum())


def test_the_distance_to_the_nearest_mean_is_known_of_a_class_of_one_sample():
    rows, labels = make_batch(sizes=(6, 5, 1))
    found = geometry(rows, labels).per_class
    means = [rows[labels == c].mean(0) for c in (0, 10, 20)]
    nearest = [min(float((m - o).norm()) for o in means if o is not m) for m in means]
    assert found.distance.tolist() == pytest.approx(nearest)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("exponent", [-30, -26, -20, -10, 10, 18, 30])
def test_geometry_of_scaled_rows_is_scaled(dtype, exponent):
    """Ratios do not depend on the scale, distances grow with it, and no constant decides what is nothing."""
    rows, labels = make_batch(width=6)
    scaled = (rows.to(dtype) * 10.0**exponent).to(dtype)
    assert_scaled(geometry(scaled, labels), geometry(rows, labels), 10.0**exponent, rel=1e-5)


@pytest.mark.parametrize("exponent", [-152, -150, 150])
def test_geometry_of_rows_near_the_ends_of_float64_is_scaled(exponent):
    rows, labels = make_batch(width=6)
    found, wanted = geometry(rows * 10.0**exponent, labels), geometry(rows, labels)
    assert_scaled(found, wanted, 10.0**exponent, rel=1e-9)


def assert_scaled(found, wanted, scale, *, rel):
    for name in ("spacing_cv", "spacing_min_ratio", "intra_inter_ratio", "cdnv", "effective_rank"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name), rel=rel), name
    for name in ("spacing_mean", "margin"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name) * scale, rel=rel, abs=0)
    for name in ("intra", "inter", "offset", "alignment"):
        expected = getattr(wanted, name) * scale * scale
        assert getattr(found, name) == pytest.approx(expected, rel=rel, abs=0), name


def test_squared_distances_that_no_float64_holds_are_refused():
    rows, labels = make_batch()
    with pytest.raises(InputError, match=r"squared distances must fit float64.* is about 2e\+200"):
        geometry(rows * 1e200, labels)


@pytest.mark.parametrize("scale", [1e-155, 1e-160, 1e-200, 1e-310])
def test_squared_distances_that_lose_digits_in_float64_are_refused(scale):
    rows, labels = make_batch()
    with pytest.raises(InputError, match=r"must fit float64, .* only about .*: scale them up"):
        geometry(rows * scale, labels)


def test_a_class_whose_small_variance_loses_digits_is_refused():
    """Its mean over the classes is large enough."""
    rows = torch.tensor([[1e-10], [-1e-10], [1.0], [0.0]], dtype=torch.float64) * 1e-145
    with pytest.raises(InputError, match="scale them up"):
        geometry(rows, [0, 0, 1, 1])


def test_rows_of_zeros_have_no_variance():
    found = geometry(torch.zeros(4, 2, dtype=torch.float64), [0, 0, 1, 1])
    assert (found.intra, found.inter, found.offset) == (0, 0, 0)

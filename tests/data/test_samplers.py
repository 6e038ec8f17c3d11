import sys
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from scipy.stats import hypergeom
from sklearn.decomposition import PCA

from lossgauge.data.samplers import (
    dirichlet_batches,
    drawn_batches,
    kmeans_cells,
    m_per_class_batches,
    m_per_class_notes,
    positions_along_strata,
    random_batches,
    share_without_positive,
    stratified_batches,
    warning_of_anchors_without_positive,
)
from lossgauge.errors import InputError, MissingExtra

ROWS = torch.arange(100, 123)


def test_batches_are_a_function_of_seed_and_epoch():
    def flat(seed, epoch):
        return torch.cat(random_batches(ROWS, batch_size=5, seed=seed, epoch=epoch)).tolist()

    assert flat(1, 2) == flat(1, 2)
    assert flat(1, 2) != flat(1, 3)
    assert flat(1, 2) != flat(2, 2)


def test_batches_are_full_and_no_row_comes_twice():
    batches = random_batches(ROWS, batch_size=5, seed=0, epoch=1)
    assert [len(batch) for batch in batches] == [5, 5, 5, 5]
    taken = torch.cat(batches).tolist()
    assert len(set(taken)) == 20
    assert set(taken) <= set(ROWS.tolist())


def test_fewer_rows_than_a_batch_make_one_batch():
    (batch,) = random_batches(ROWS, batch_size=64, seed=0, epoch=1)
    assert sorted(batch.tolist()) == ROWS.tolist()


def test_a_batch_of_one_is_refused():
    with pytest.raises(InputError, match="at least two samples"):
        random_batches(ROWS, batch_size=1, seed=0, epoch=1)


def labels_of(*sizes: int) -> torch.Tensor:
    """So many rows of each class, shuffled."""
    labels = torch.repeat_interleave(torch.arange(len(sizes)) * 10, torch.tensor(sizes))
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]


def rows_of(labels: torch.Tensor) -> torch.Tensor:
    """Row numbers that are not places: 1000, 1003, …"""
    return 1000 + 3 * torch.arange(len(labels))


def classes_of(batches, labels):
    return [labels[(batch - 1000) // 3] for batch in batches]


SAMPLERS = {
    "m_per_class": partial(m_per_class_batches, batch_size=12, samples_per_class=3),
    "stratified": partial(stratified_batches, batch_size=12),
    "antithetic": partial(stratified_batches, batch_size=12, positions=torch.arange(60.0).sin()),
}


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_every_sampler_is_a_function_of_seed_and_epoch(sampler):
    labels = labels_of(*[10] * 6)

    def flat(seed, epoch):
        return torch.cat(sampler(rows_of(labels), labels, seed=seed, epoch=epoch)).tolist()

    assert flat(1, 2) == flat(1, 2)
    assert flat(1, 2) != flat(1, 3)
    assert flat(1, 2) != flat(2, 2)


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_no_sampler_takes_a_row_twice_or_makes_a_batch_that_is_not_full(sampler):
    labels = labels_of(*[10] * 6)
    batches = sampler(rows_of(labels), labels, seed=0, epoch=1)
    taken = torch.cat(batches).tolist()
    assert len(set(taken)) == len(taken)
    assert set(taken) <= set(rows_of(labels).tolist())
    assert {len(batch) for batch in batches} == {12}


sizes = st.lists(st.integers(3, 20), min_size=4, max_size=9)


@given(sizes, st.integers(0, 9))
def test_m_per_class_gives_each_batch_m_rows_of_its_classes_and_goes_on_while_it_can(sizes, epoch):
    labels = labels_of(*sizes)
    batches = m_per_class_batches(
        rows_of(labels), labels, batch_size=12, samples_per_class=3, seed=0, epoch=epoch
    )
    used = torch.zeros(len(sizes), dtype=torch.int64)
    for batch in classes_of(batches, labels):
        found, counts = batch.unique(return_counts=True)
        assert counts.tolist() == [3] * 4
        used[found // 10] += 1
    groups = torch.tensor(sizes) // 3
    assert (used <= groups).all()
    # the most batches that can be: each class gives at most one group to each
    most = max(n for n in range(100) if int(groups.clamp(max=n).sum()) >= 4 * n)
    assert len(batches) == most


def test_m_per_class_mixes_the_classes_differently_in_each_epoch():
    labels = labels_of(*[10] * 6)
    first = {
        tuple(classes_of(m_per_class_batches(rows_of(labels), labels, batch_size=9, samples_per_class=3, seed=0, epoch=epoch), labels)[0].unique().tolist())
        for epoch in range(20)
    }  # fmt: skip
    assert len(first) > 5


@pytest.mark.parametrize(
    ("sizes", "batch_size", "m", "words"),
    [
        (
            (5, 5),
            4,
            1,
            "samples_per_class must be at least 2, because an anchor needs a positive, got 1",
        ),
        ((5, 5), 3, 4, "at least samples_per_class, got 3 and 4: use 8 or more"),
        ((5, 3, 2), 8, 4, "needs 2 classes per batch, but there are 1 of at least 4 rows"),
        (
            (3, 3, 2),
            8,
            4,
            "are 0 of at least 4 rows: use another samples_per_class, or small_classes: repeat",
        ),
        (
            (5, 5, 5),
            16,
            4,
            "needs 4 classes per batch, but there are 3 of at least 4 rows: use batch_size 12 or less",
        ),
        ((5, 5), 0, 2, "at least two samples"),
    ],
)
def test_m_per_class_says_which_rule_a_setting_breaks(sizes, batch_size, m, words):
    labels = labels_of(*sizes)
    with pytest.raises(InputError, match=words):
        m_per_class_batches(
            rows_of(labels), labels, batch_size=batch_size, samples_per_class=m, seed=0, epoch=1
        )


@given(st.lists(st.integers(1, 12), min_size=6, max_size=9), st.integers(0, 9))
def test_small_classes_are_left_out_of_m_per_class_or_their_rows_are_drawn_again(sizes, epoch):
    sizes = [*sizes, 4, 4]
    labels = labels_of(*sizes)
    settings = {"batch_size": 8, "samples_per_class": 4, "seed": 0, "epoch": epoch}
    large = torch.isin(labels, torch.tensor([10 * n for n, size in enumerate(sizes) if size >= 4]))
    alone = m_per_class_batches(rows_of(labels)[large], labels[large], **settings)
    left_out = m_per_class_batches(rows_of(labels), labels, **settings)
    assert [batch.tolist() for batch in left_out] == [batch.tolist() for batch in alone]
    repeated = m_per_class_batches(rows_of(labels), labels, small_classes="repeat", **settings)
    groups = torch.tensor([max(size // 4, 1) for size in sizes])
    assert len(repeated) == max(n for n in range(99) if int(groups.clamp(max=n).sum()) >= 2 * n)
    seen = torch.cat(repeated).tolist()
    for batch in repeated:
        for number, count in zip(
            *labels[(batch - 1000) // 3].unique(return_counts=True), strict=True
        ):
            size = sizes[int(number) // 10]
            rows = batch[labels[(batch - 1000) // 3] == number].tolist()
            assert int(count) == 4
            # a small class gives each of its rows, and some again; a large one none twice, in the whole epoch
            assert len(set(rows)) == min(size, 4)
            assert size < 4 or all(seen.count(row) == 1 for row in rows)


def test_a_batch_size_that_is_no_multiple_is_rounded_and_small_classes_are_named():
    labels = labels_of(5, 3, 5, 1, 2, 2)
    settings = {"batch_size": 11, "samples_per_class": 4}
    (batch,) = m_per_class_batches(rows_of(labels), labels, seed=0, epoch=1, **settings)
    assert len(batch) == 8
    names = {10: "ant", 30: "bee", 40: "cat"}
    assert m_per_class_notes(labels, class_names=names, **settings) == [
        "batch_size 11 is not a multiple of samples_per_class 4: batches have 8 rows",
        "4 classes with fewer than 4 training rows (8 of 18 rows) are left out of the training batches "
        "(small_classes: repeat would repeat their rows): ant, bee, cat and 1 more",
    ]
    (_, words) = m_per_class_notes(labels, class_names=names, small_classes="repeat", **settings)
    assert words.endswith("appear once per epoch, with repeated rows: ant, bee, cat and 1 more")
    assert not m_per_class_notes(
        labels_of(5, 4), batch_size=8, samples_per_class=4, class_names=names
    )
    with pytest.raises(
        InputError, match=r"unknown small_classes 'leave' \(did you mean 'leave-out'"
    ):
        m_per_class_batches(
            rows_of(labels), labels, seed=0, epoch=1, small_classes="leave", **settings
        )


def test_either_of_an_antithetic_pair_may_come_first():
    """Where a pair lies across two batches, the first holds the one as often as the other."""
    rows, strata = torch.arange(4), torch.zeros(4, dtype=torch.int64)
    alone = []
    for seed in range(200):
        (batch,) = stratified_batches(
            rows, strata, batch_size=3, seed=seed, epoch=1, positions=rows.float()
        )
        (dropped,) = set(range(4)) - set(batch.tolist())
        alone.append(3 - dropped)  # its mirror came first
    counts = np.bincount(alone, minlength=4)
    # four outcomes of 50 each: a standard deviation is about 6
    assert (np.abs(counts - 50) < 30).all()


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.integers(2, 20), st.integers(0, 9))
def test_a_stratified_batch_holds_each_share_of_what_is_left_rounded(sizes, batch_size, epoch):
    strata = labels_of(*sizes)
    batches = stratified_batches(
        rows_of(strata), strata, batch_size=batch_size, seed=0, epoch=epoch
    )
    size = min(batch_size, len(strata))
    assert [len(batch) for batch in batches] == [size] * (len(strata) // size)
    left = torch.tensor(sizes)
    for batch in classes_of(batches, strata):
        counts = torch.bincount(batch // 10, minlength=len(sizes))
        exact = left.double() * size / left.sum()
        assert (counts >= (exact - 1e-9).floor()).all()
        assert (counts <= (exact + 1e-9).ceil()).all()
        left -= counts


def test_shares_of_a_stratified_batch_are_right_on_average():
    strata = labels_of(7, 20, 33)
    counts = sum(
        torch.bincount(classes_of(stratified_batches(rows_of(strata), strata, batch_size=7, seed=seed, epoch=1), strata)[0] // 10, minlength=3).double()
        for seed in range(500)
    )  # fmt: skip
    # a standard error of a rounded share is at most 0.5/√500 = 0.022
    torch.testing.assert_close(
        counts / 500, torch.tensor([7, 20, 33]).double() * 7 / 60, atol=0.1, rtol=0
    )


@pytest.mark.parametrize("count", [2, 7, 10])
def test_antithetic_rows_are_drawn_next_to_their_mirror(count):
    strata, positions = torch.zeros(count, dtype=torch.int64), torch.randperm(count).float()
    rows = torch.arange(count)
    orders = set()
    for seed in range(20):
        (batch,) = stratified_batches(
            rows, strata, batch_size=count, seed=seed, epoch=1, positions=positions
        )
        assert sorted(batch.tolist()) == rows.tolist()
    for seed in range(20):
        batches = stratified_batches(
            rows, strata, batch_size=2, seed=seed, epoch=1, positions=positions
        )
        drawn = [tuple(positions[batch].sort().values.tolist()) for batch in batches]
        orders.add(tuple(drawn))
        if count % 2 == 0:
            assert sorted(drawn) == [(n, count - 1 - n) for n in range(count // 2)]
    assert len(orders) > 1 or count == 2


def test_antithetic_pairs_make_the_mean_of_a_batch_steadier():
    generator = torch.Generator().manual_seed(0)
    strata = torch.arange(400) % 4
    features = torch.randn(400, 3, generator=generator) * torch.tensor([5.0, 1, 1])
    rows = torch.arange(400)

    def spread(**settings):
        batches = [
            batch
            for epoch in range(20)
            for batch in stratified_batches(
                rows, strata, batch_size=16, seed=0, epoch=epoch, **settings
            )
        ]
        return float(torch.stack([features[batch, 0].mean() for batch in batches]).std())

    assert spread(positions=positions_along_strata(features, strata)) < 0.3 * spread()


def test_positions_are_the_scores_on_the_first_principal_component():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(60, 4, generator=generator, dtype=torch.float64) * torch.tensor(
        [4.0, 2, 1, 1]
    )
    strata = torch.arange(60) % 3
    found = positions_along_strata(features.float(), strata)
    for stratum in range(3):
        some = features[strata == stratum]
        expected = PCA(1).fit_transform(some.numpy()).ravel()
        correlation = np.corrcoef(found[strata == stratum].numpy(), expected)[0, 1]
        assert abs(correlation) > 0.9999


def test_equal_rows_and_lone_rows_lie_at_the_mean():
    positions = positions_along_strata(torch.ones(5, 3), torch.tensor([0, 0, 0, 0, 1]))
    assert positions.tolist() == [0] * 5


def test_cells_are_groups_of_near_rows_and_a_function_of_the_seed():
    features = torch.eye(4).repeat_interleave(10, dim=0) * 9 + torch.rand(
        40, 4, generator=torch.Generator().manual_seed(0)
    )
    cells = kmeans_cells(features, 4, 0)
    assert torch.equal(cells, kmeans_cells(features, 4, 0))
    assert [len(part.unique()) for part in cells.split(10)] == [1] * 4
    assert cells.unique().tolist() == [0, 1, 2, 3]
    with pytest.raises(InputError, match="k must be between 2 and the number of rows, 40, got 41"):
        kmeans_cells(features, 41, 0)


def test_without_scikit_learn_the_way_to_get_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(MissingExtra, match=r"pip install 'lossgauge\[demo\]'"):
        kmeans_cells(torch.ones(4, 2), 2, 0)


def test_labels_of_another_length_are_refused():
    for sampler in SAMPLERS.values():
        with pytest.raises((InputError, TypeCheckError)):
            sampler(torch.arange(10), torch.zeros(12, dtype=torch.int64), seed=0, epoch=1)


def test_the_share_without_a_positive_counts_those_who_are_alone():
    batches = [torch.tensor([1, 1, 2]), torch.tensor([3, 4, 5])]
    assert share_without_positive(batches) == 4 / 6
    with pytest.raises(InputError, match="at least one batch"):
        share_without_positive([])


def test_the_share_of_random_batches_is_what_chance_says():
    labels = labels_of(*[50] * 200)
    batches = [
        batch
        for epoch in range(5)
        for batch in random_batches(rows_of(labels), batch_size=512, seed=0, epoch=epoch)
    ]
    # none of the 49 others among the 511 drawn from 9,999
    expected = float(hypergeom(9999, 49, 511).pmf(0))
    assert share_without_positive(classes_of(batches, labels)) == pytest.approx(expected, abs=0.01)
    balanced = m_per_class_batches(
        rows_of(labels), labels, batch_size=512, samples_per_class=4, seed=0, epoch=1
    )
    assert share_without_positive(classes_of(balanced, labels)) == 0


def test_many_anchors_without_a_positive_are_worth_a_warning_with_a_remedy():
    assert warning_of_anchors_without_positive(0.05) is None
    words = warning_of_anchors_without_positive(0.0774)
    assert words is not None
    assert words.startswith("8% of the samples have no other")
    assert words.endswith("Try: sampler: m_per_class with samples_per_class: 4")
    with pytest.raises(InputError, match="share must be in"):
        warning_of_anchors_without_positive(float("nan"))


@pytest.mark.parametrize("terms", ["pair", "triplet"])
def test_drawn_terms_are_a_function_of_seed_and_epoch(terms):
    labels = labels_of(9, 8, 6)

    def drawn(seed, epoch):
        batches = drawn_batches(ROWS, labels, terms=terms, batch_size=5, seed=seed, epoch=epoch)
        return torch.cat(batches, dim=1).tolist()

    assert drawn(1, 2) == drawn(1, 2)
    assert drawn(1, 2) != drawn(1, 3)
    assert drawn(1, 2) != drawn(2, 2)


def test_each_row_is_an_anchor_once_with_partners_of_the_right_classes_from_all_rows():
    labels = labels_of(9, 8, 5, 1)
    label_of = dict(zip(ROWS.tolist(), labels.tolist(), strict=True))
    lone = next(row for row, label in label_of.items() if label == 30)
    partners = set()
    for epoch in range(1, 60):
        how = {"batch_size": 5, "seed": 0, "epoch": epoch}
        triplets = drawn_batches(ROWS, labels, terms="triplet", **how)
        pairs = drawn_batches(ROWS, labels, terms="pair", **how)
        assert [tuple(batch.shape) for batch in triplets] == [(3, 5)] * 4
        assert [tuple(batch.shape) for batch in pairs] == [(2, 5)] * 4
        anchors, positives, negatives = torch.cat(triplets, dim=1).tolist()
        assert len(set(anchors)) == 20
        assert lone not in anchors + positives
        for anchor, positive, negative in zip(anchors, positives, negatives, strict=True):
            assert anchor != positive
            assert label_of[anchor] == label_of[positive] != label_of[negative]
        same, others = torch.cat(pairs, dim=1).tolist()
        assert same == anchors
        assert all(
            other in (positive, negative)
            for other, positive, negative in zip(others, positives, negatives, strict=True)
        )
        partners |= {*positives, *negatives}
    assert partners == set(ROWS.tolist())


def test_partners_are_drawn_uniformly_and_half_of_the_pairs_are_positive():
    labels = labels_of(5, 12, 3)
    rows = torch.arange(20)
    positive, negative = torch.zeros(20, 20), torch.zeros(20, 20)
    same = total = 0
    for epoch in range(3000):
        how = {"batch_size": 20, "seed": 3, "epoch": epoch}
        (batch,) = drawn_batches(rows, labels, terms="triplet", **how)
        positive[batch[0], batch[1]] += 1
        negative[batch[0], batch[2]] += 1
        (batch,) = drawn_batches(rows, labels, terms="pair", **how)
        same += int((labels[batch[0]] == labels[batch[1]]).sum())
        total += 20
    of_class = labels[:, None] == labels
    of_class.fill_diagonal_(False)
    for counts, allowed in ((positive, of_class), (negative, labels[:, None] != labels)):
        expected = 3000 * allowed / allowed.sum(dim=1, keepdim=True)
        assert (counts[~allowed] == 0).all()
        # a count has a standard deviation of at most √expected: no count of 300 is five of them away
        assert ((counts - expected).abs() <= 5 * expected.sqrt()).all()
    assert abs(same / total - 0.5) < 5 * 0.5 / total**0.5


def test_fewer_anchors_than_a_batch_make_one_batch_of_terms():
    (batch,) = drawn_batches(
        ROWS, labels_of(20, 2, 1), terms="pair", batch_size=64, seed=0, epoch=1
    )
    assert batch.shape == (2, 22)


@pytest.mark.parametrize("sizes", [(23,), (1,) * 23])
def test_terms_without_a_positive_or_a_negative_are_refused(sizes):
    words = rf"two classes, one of them with two rows, got 23 rows of {len(sizes)} classes"
    with pytest.raises(InputError, match=words):
        drawn_batches(ROWS, labels_of(*sizes), terms="pair", batch_size=4, seed=0, epoch=1)


def test_unknown_terms_are_refused_with_the_nearest_ones():
    with pytest.raises(InputError, match=r"unknown terms 'triplets' \(did you mean 'triplet'"):
        drawn_batches(ROWS, labels_of(20, 3), terms="triplets", batch_size=4, seed=0, epoch=1)


def test_dirichlet_batches_are_full_seeded_and_no_row_comes_twice():
    labels = labels_of(3, 40, 11, 7)
    rows = torch.arange(500, 561)
    for alpha in (1e-4, 0.3, 100.0):
        draw = partial(dirichlet_batches, rows, labels, batch_size=8, alpha=alpha)
        batches = draw(seed=0, epoch=1)
        assert [len(batch) for batch in batches] == [8] * 7
        assert len({*torch.cat(batches).tolist()} & {*rows.tolist()}) == 56
        assert torch.cat(batches).equal(torch.cat(draw(seed=0, epoch=1)))
        assert not torch.cat(batches).equal(torch.cat(draw(seed=0, epoch=2)))
    (batch,) = dirichlet_batches(rows, labels, batch_size=99, alpha=1.0, seed=0, epoch=1)
    assert sorted(batch.tolist()) == rows.tolist()


@pytest.mark.parametrize("alpha", [0.1, 20.0])
def test_the_classes_of_a_dirichlet_batch_have_the_moments_of_its_distribution(alpha):
    # the first batch of an epoch, from queues that cannot run empty: Dirichlet-multinomial counts
    size, classes, draws = 16, 3, 500
    labels = labels_of(*[size] * classes)
    rows = torch.arange(len(labels))
    counts = np.array(
        [
            torch.bincount(
                labels[
                    dirichlet_batches(rows, labels, batch_size=size, alpha=alpha, seed=s, epoch=1)[
                        0
                    ]
                ]
                // 10,
                minlength=classes,
            ).numpy()
            for s in range(draws)
        ]
    )
    mean = size / classes
    variance = mean * (1 - 1 / classes) * (size + classes * alpha) / (1 + classes * alpha)
    assert np.allclose(counts.mean(axis=0), mean, atol=4 * np.sqrt(variance / draws))
    assert np.allclose(counts.var(axis=0), variance, rtol=0.25)


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("inf"), float("nan")])
def test_an_alpha_that_is_no_number_above_zero_is_refused(alpha):
    with pytest.raises(InputError, match="alpha must be a finite number above 0"):
        dirichlet_batches(ROWS, ROWS % 3, batch_size=4, alpha=alpha, seed=0, epoch=1)

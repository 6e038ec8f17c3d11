import pytest
import torch

from lossgauge.diagnostics.moments import merge, merge_all, moments, overall_mean
from lossgauge.errors import InputError


def make_batch(*, rows=60, classes=5, width=4, shift=0.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(rows, width, dtype=torch.float64, generator=generator) + shift
    return values, torch.randint(0, classes, (rows,), generator=generator) * 7 - 3


def assert_same(found, wanted, *, rtol=1e-11):
    assert torch.equal(found.labels, wanted.labels)
    assert torch.equal(found.sizes, wanted.sizes)
    for a, b in (
        (found.mean, wanted.mean),
        (found.scatter, wanted.scatter),
        (found.spread, wanted.spread),
    ):
        torch.testing.assert_close(a, b, rtol=rtol, atol=1e-11)


def test_moments_are_those_of_the_definition():
    rows, labels = make_batch()
    found = moments(rows, labels)
    for place, label in enumerate(found.labels):
        members = rows[labels == label]
        torch.testing.assert_close(found.mean[place], members.mean(0))
        torch.testing.assert_close(found.scatter[place], (members - members.mean(0)).square().sum())
        assert found.sizes[place] == len(members)
    torch.testing.assert_close(found.spread, torch.cov(rows.T, correction=0) * len(rows))
    torch.testing.assert_close(overall_mean(found), rows.mean(0))


@pytest.mark.parametrize("chunk", [1, 7, 59])
def test_merging_chunks_equals_seeing_all_rows(chunk):
    rows, labels = make_batch(shift=1e6)
    parts = [moments(r, y) for r, y in zip(rows.split(chunk), labels.split(chunk), strict=True)]
    # 1e6² · 2⁻⁵² is 2e-4 of a unit: the one-pass formula would have lost the fourth digit
    assert_same(merge_all(parts), moments(rows, labels), rtol=1e-8)


def test_merging_is_the_same_from_both_sides_and_takes_classes_that_one_side_lacks():
    rows, labels = make_batch()
    order = labels.argsort()
    first, second = order[:20], order[20:]
    one, two = moments(rows[first], labels[first]), moments(rows[second], labels[second])
    assert_same(merge(one, two), moments(rows, labels))
    assert_same(merge(two, one), moments(rows, labels))


def test_rows_far_from_the_origin_keep_their_variance():
    """NIST's NumAcc4: deviations of ±0.1 at 10 000 000.2; one pass over squares gives NaN or 0."""
    values = [10000000.2] + [10000000.1, 10000000.3] * 500
    found = moments(
        torch.tensor(values, dtype=torch.float64)[:, None], torch.zeros(1001, dtype=torch.int64)
    )
    assert (found.scatter[0] / 1000).sqrt().item() == pytest.approx(0.1, rel=1e-8)


def test_equal_rows_have_exactly_no_scatter():
    found = moments(torch.full((7, 3), 0.1), torch.zeros(7, dtype=torch.int64))
    assert found.scatter[0] == 0


def test_other_widths_are_refused():
    with pytest.raises(InputError, match="widths 2 and 3"):
        merge(
            moments(torch.ones(2, 2), torch.arange(2)), moments(torch.ones(2, 3), torch.arange(2))
        )


def test_chunks_of_fewer_rows_than_the_width_merge_into_the_same_spread():
    """First as rows, then, when they are many, as their matrix."""
    rows, labels = make_batch(rows=50, width=20, shift=3.0)
    parts = [moments(r, y) for r, y in zip(rows.split(7), labels.split(7), strict=True)]
    few = merge_all(parts[:2])
    assert few.spread.shape == (14, 20)
    torch.testing.assert_close(few.spread, rows[:14] - rows[:14].mean(0))
    assert_same(merge_all(parts), moments(rows, labels))


@pytest.mark.parametrize("size", [1e-160, 1e160])
def test_rows_whose_squares_leave_float64_are_refused(size):
    rows, labels = make_batch()
    with pytest.raises(InputError, match="between 1e-140 and 1e\\+140, got"):
        moments(rows * size, labels)
    assert moments(rows * 0, labels).scatter.sum() == 0

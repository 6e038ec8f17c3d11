import pytest
import torch

from lossgauge.diagnostics.health import signs
from lossgauge.diagnostics.variance import geometry


def make_space(*, classes=6, samples=10, width=16, spread=0.3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centers = torch.eye(width)[:classes].repeat_interleave(samples, 0)
    rows = centers + spread * torch.randn(len(centers), width, generator=generator) / width**0.5
    return torch.nn.functional.normalize(rows), torch.arange(classes).repeat_interleave(samples)


def words_of(rows, labels):
    return [sign.words for sign in signs(geometry(rows, labels))]


def test_a_good_space_has_no_bad_sign():
    assert words_of(*make_space()) == []


def test_a_space_in_one_point_has_collapsed_and_nothing_else_is_said():
    rows, labels = make_space()
    assert words_of(torch.ones_like(rows), labels) == ["the whole space has collapsed to one point"]


def one_class_in_a_point(rows, labels):
    rows[labels == 3] = rows[labels == 3][0]
    return rows


def two_classes_in_one_place(rows, labels):
    rows[labels == 1] = rows[labels == 0] + 1e-5
    return rows


def one_direction(rows, labels):
    return torch.nn.functional.normalize(
        torch.stack([torch.cos(labels + rows[:, 0]), torch.zeros(len(rows)) + 0.01], 1)
    )


def all_the_same_way(rows, labels):
    return torch.nn.functional.normalize(rows + 5 * torch.ones_like(rows))


def noise(rows, labels):
    return torch.nn.functional.normalize(
        torch.randn(rows.shape, generator=torch.Generator().manual_seed(1))
    )


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (one_class_in_a_point, "1 of 6 classes have collapsed"),
        (two_classes_in_one_place, "two classes lie in one place"),
        (one_direction, "hardly more than one direction"),
        (all_the_same_way, "any two look alike"),
    ],
)
def test_each_bad_sign_is_named(spoil, words):
    rows, labels = make_space()
    assert any(words in said for said in words_of(spoil(rows, labels), labels))


def test_labels_that_have_nothing_to_do_with_the_rows_are_noticed():
    rows, labels = make_space(samples=40)
    assert "classes are not told apart" in words_of(noise(rows, labels), labels)

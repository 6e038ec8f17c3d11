import pytest
import torch

from lossgauge.diagnostics.health import known_problems
from lossgauge.diagnostics.variance import geometry


def make_space(*, classes=6, samples=10, width=16, spread=0.3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centers = torch.eye(width)[:classes].repeat_interleave(samples, 0)
    rows = centers + spread * torch.randn(len(centers), width, generator=generator) / width**0.5
    return torch.nn.functional.normalize(rows), torch.arange(classes).repeat_interleave(samples)


def words_of(rows, labels):
    return [sign.words for sign in known_problems(geometry(rows, labels))]


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
        (two_classes_in_one_place, "two classes have almost the same mean"),
        (one_direction, "little more than one direction"),
        (all_the_same_way, "any two are similar"),
    ],
)
def test_each_bad_sign_is_named(spoil, words):
    rows, labels = make_space()
    assert any(words in said for said in words_of(spoil(rows, labels), labels))


def test_labels_that_have_nothing_to_do_with_the_rows_are_noticed():
    rows, labels = make_space(samples=40)
    assert "classes are not separated" in words_of(noise(rows, labels), labels)


def places(*centers, spread=0.0, samples=2):
    """`samples` unit vectors in each class, in the plane at these angles and `spread` on either side."""
    angles = torch.tensor(
        [center + side * spread for center in centers for side in torch.linspace(-1, 1, samples)],
        dtype=torch.float64,
    )
    labels = torch.arange(len(centers)).repeat_interleave(samples)
    return torch.stack([angles.cos(), angles.sin()], 1), labels


def evidence_of(words, rows, labels):
    (said,) = [sign for sign in known_problems(geometry(rows, labels)) if words in sign.words]
    return said.evidence


def test_the_two_classes_in_one_place_are_named_beside_wide_ones():
    rows, labels = places(0.0, 0.001, 2.0, 4.0, spread=0.0002)
    wide, _ = places(0.0, 0.001, 2.0, 4.0, spread=1.0)
    rows[labels >= 2] = wide[labels >= 2]
    found = evidence_of("two classes have almost the same mean", rows, labels * 5)
    assert found == "classes 0 and 5: their means are nearer than 1 % of the usual distance"


def test_the_two_classes_in_one_place_are_named_beside_classes_of_one_sample():
    """Those have no margin, and NaN wins a minimum."""
    rows, labels = places(0.0, 2.0, 2.001, spread=0.1)
    found = evidence_of("two classes have almost the same mean", rows[1:], labels[1:])
    assert found.startswith("classes 1 and 2:")


def test_a_class_of_one_sample_in_the_place_of_another_is_named():
    rows, labels = places(0.0, 2.0, 4.0, spread=0.1)
    rows[-1] = rows[labels == 1].mean(0)
    found = evidence_of(
        "two classes have almost the same mean",
        rows[[0, 1, 2, 3, 5]],
        torch.tensor([0, 0, 1, 1, 2]),
    )
    assert found.startswith("classes 1 and 2:")


@pytest.mark.parametrize(("gap", "seen"), [(0.008, True), (0.0125, False)])
def test_one_place_is_nearer_than_a_hundredth_of_the_mean_distance(gap, seen):
    # three means at about 0, 0 and 1: their mean distance is 2/3
    rows = torch.tensor(
        [[0.0, 0.1], [0.0, -0.1], [gap * 2 / 3, 0.1], [gap * 2 / 3, -0.1], [1, 0.1], [1, -0.1]]
    )
    said = words_of(rows.double(), torch.tensor([0, 0, 1, 1, 2, 2]))
    assert ("two classes have almost the same mean" in said) == seen


@pytest.mark.parametrize(("intra", "seen"), [(0.5e-6, True), (2e-6, False)])
def test_a_class_has_collapsed_below_a_millionth(intra, seen):
    rows, labels = places(0.0, 2.0, 4.0, spread=0.1)
    tight, _ = places(0.0, 2.0, 4.0, spread=intra**0.5)
    rows[labels == 1] = tight[labels == 1]
    said = words_of(rows, labels)
    assert any("collapsed, each to one point" in words for words in said) == seen
    if seen:
        assert (
            evidence_of("collapsed, each to one point", rows, labels + 3)
            == "intra below 1e-06 in classes 4"
        )


@pytest.mark.parametrize(("ratio", "seen"), [(9.0, False), (11.0, True)])
def test_classes_are_not_told_apart_above_ten_times_the_variance(ratio, seen):
    # two means 1 apart: inter is 1, and intra the square of half the width
    width = ratio**0.5
    rows = torch.tensor([[0, width], [0, -width], [1, width], [1, -width]], dtype=torch.float64)
    said = words_of(rows, torch.tensor([0, 0, 1, 1]))
    assert ("classes are not separated" in said) == seen


@pytest.mark.parametrize(
    ("intra", "inter", "seen"),
    [(0.5e-4, 0.5e-4, True), (2e-4, 0.5e-4, False), (0.5e-4, 2e-4, False)],
)
def test_a_space_has_collapsed_below_a_ten_thousandth_in_both(intra, inter, seen):
    width, gap = intra**0.5, inter**0.5
    rows = torch.tensor([[0, width], [0, -width], [gap, width], [gap, -width]], dtype=torch.float64)
    said = words_of(rows, torch.tensor([0, 0, 1, 1]))
    assert ("the whole space has collapsed to one point" in said) == seen


@pytest.mark.parametrize(("half_angle", "seen"), [(0.35, False), (0.28, True)])
def test_embeddings_point_the_same_way_above_nine_tenths(half_angle, seen):
    # cos² of the half angle between two class means is the offset
    rows, labels = places(-half_angle, half_angle, spread=0.01)
    said = words_of(rows, labels)
    assert any("any two are similar" in words for words in said) == seen


def test_a_long_list_of_collapsed_classes_is_cut():
    rows, labels = places(*torch.linspace(0, 6, 8).tolist())
    found = evidence_of("8 of 8 classes have collapsed", rows, labels)
    assert found == "intra below 1e-06 in classes 0, 1, 2, 3, 4 …"


def test_classes_are_named_where_names_are_given():
    rows, labels = places(*torch.linspace(0, 6, 3).tolist())
    (sign,) = [
        sign
        for sign in known_problems(geometry(rows, labels), {0: "cup", 2: "a [red] mug"})
        if "collapsed, each to one point" in sign.words
    ]
    assert sign.evidence == "intra below 1e-06 in classes cup, 1, a [red] mug"

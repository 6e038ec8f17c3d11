"""Rules about a space: each threshold from both sides, on rows with a known geometry."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lossgauge.diagnostics.hubness import Hubness
from lossgauge.diagnostics.variance import geometry
from lossgauge.health.finding import LEVELS
from lossgauge.health.space import chance_ratio, norm_findings, space_findings
from lossgauge.stats.intervals import Interval


def make_space(*, classes=6, samples=15, width=16, spread=0.3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centers = torch.eye(width)[:classes].repeat_interleave(samples, 0)
    rows = centers + spread * torch.randn(len(centers), width, generator=generator) / width**0.5
    return torch.nn.functional.normalize(rows), torch.arange(classes).repeat_interleave(samples)


def by_name(of, **given):
    return {found.name: found for found in space_findings(of, **given)}


def found(name, rows, labels, **given):
    return by_name(geometry(rows, labels), **given)[name]


def levels(rows, labels, **given):
    return {
        n: f.level for n, f in by_name(geometry(rows, labels), **given).items() if f.level != "ok"
    }


def test_a_good_space_has_only_records_that_say_ok():
    rows, labels = make_space()
    records = space_findings(geometry(rows, labels), width=16)
    assert {record.level for record in records} == {"ok"}
    assert {record.name for record in records} == {
        *("collapse", "cone", "few-directions", "class-collapse"),
        *("neural-collapse", "not-separated", "same-place"),
    }
    assert all(not record.advice and record.evidence and record.reference for record in records)


def test_records_come_worst_first_and_bad_ones_have_reasons_and_advice():
    rows, labels = make_space()
    rows = torch.nn.functional.normalize(rows + 3 * torch.ones_like(rows) / 4)
    rows[labels == 2] = rows[labels == 2][:1]
    records = space_findings(geometry(rows, labels))
    assert [LEVELS.index(record.level) for record in records] == sorted(
        (LEVELS.index(record.level) for record in records), reverse=True
    )
    bad = [record for record in records if record.level != "ok"]
    assert {"cone", "class-collapse"} <= {record.name for record in bad}
    assert all(record.why and record.advice for record in bad)


@pytest.mark.parametrize(
    ("intra", "inter", "seen"),
    [(0.5e-4, 0.5e-4, True), (2e-4, 0.5e-4, False), (0.5e-4, 2e-4, False)],
)
def test_a_space_has_collapsed_below_a_ten_thousandth_in_both(intra, inter, seen):
    width, gap = intra**0.5, inter**0.5
    rows = torch.tensor([[0, width], [0, -width], [gap, width], [gap, -width]], dtype=torch.float64)
    records = space_findings(geometry(rows, torch.tensor([0, 0, 1, 1])))
    # nothing else is said of a space in one point
    assert ([(r.name, r.level) for r in records] == [("collapse", "act")]) == seen


@pytest.mark.parametrize(
    ("intra", "inter", "seen"),
    [(1e-6, 2.1e-6, False), (1e-6, 1.9e-6, True), (1e-12, 2.1e-10, False), (1e-12, 0.9e-10, True)],
)
def test_classes_that_are_apart_in_a_narrow_cone_have_not_collapsed(intra, inter, seen):
    width, gap = intra**0.5, inter**0.5
    rows = torch.tensor([[0, width], [0, -width], [gap, width], [gap, -width]], dtype=torch.float64)
    record = found("collapse", rows, torch.tensor([0, 0, 1, 1]))
    assert record.level == ("act" if seen else "ok")
    assert ("narrow cone" in record.reference) != seen


def test_a_common_offset_is_called_a_cone():
    rows, labels = make_space()
    rows = torch.nn.functional.normalize(rows.double() + 100)
    assert levels(rows, labels)["cone"] == "act"
    assert "collapse" not in levels(rows, labels)


def test_without_classes_directions_are_not_judged_and_classes_not_spoken_of():
    of = replace(geometry(*make_space()), effective_rank=1.0, offset=0.95, class_count=0)
    records = by_name(of, width=64)
    assert "few-directions" not in records
    assert records["cone"].evidence == "two samples have a similarity of about 0.95 on average"


def in_plane(*centers, spread=0.0, samples=15):
    """`samples` unit vectors in each class, in the plane at these angles and `spread` on either side."""
    angles = torch.tensor(
        [center + side * spread for center in centers for side in torch.linspace(-1, 1, samples)],
        dtype=torch.float64,
    )
    return torch.stack([angles.cos(), angles.sin()], 1), torch.arange(
        len(centers)
    ).repeat_interleave(samples)


@pytest.mark.parametrize(
    ("half_angle", "level"), [(0.7, "ok"), (0.67, "watch"), (0.35, "watch"), (0.28, "act")]
)
def test_a_cone_begins_at_six_tenths_and_is_bad_from_nine_tenths(half_angle, level):
    # cos² of the half angle between two class means is the offset
    record = found("cone", *in_plane(-half_angle, half_angle, spread=0.01))
    assert record.level == level
    assert ("no threshold" in record.why) == (level == "act")


@pytest.mark.parametrize(
    ("rank", "classes", "width", "level"),
    [
        (5.1, 11, 64, "ok"),
        (4.9, 11, 64, "watch"),
        (2.9, 11, 64, "act"),
        (2.9, 11, None, "act"),
        (4.1, 100, 8, "ok"),  # the width is less than the classes need
        (3.9, 100, 8, "watch"),
        (19.0, 100, 64, "act"),
        (1.9, 3, 64, "ok"),
    ],
)
def test_few_directions_are_counted_against_classes_and_width(rank, classes, width, level):
    of = replace(geometry(*make_space()), effective_rank=rank, class_count=classes)
    record = by_name(of, width=width)["few-directions"]
    assert record.level == level
    assert f"{rank:.1f}" in record.evidence


@pytest.mark.parametrize(("classes", "width"), [(100, None), (2, 64), (2, None)])
def test_directions_are_not_judged_where_few_are_normal_or_the_width_is_not_known(classes, width):
    of = replace(geometry(*make_space()), effective_rank=1.0, class_count=classes)
    assert "few-directions" not in by_name(of, width=width)


@pytest.mark.parametrize(
    ("part", "samples", "level"),
    [(0.0, 15, "act"), (0.03, 15, "act"), (0.04, 15, "ok"), (0.0, 14, "watch")],
)
def test_a_class_at_one_point_is_named_beside_wide_ones(part, samples, level):
    # intra falls with the square of the spread: a thousandth at 0.0316
    rows, labels = in_plane(0.0, 2.0, 4.0, spread=0.1, samples=samples)
    tight, _ = in_plane(0.0, 2.0, 4.0, spread=0.1 * part, samples=samples)
    rows[labels == 1] = tight[labels == 1]
    record = found("class-collapse", rows, labels + 3, names={4: "a [red] mug"})
    assert record.level == level
    if level != "ok":
        assert record.subject == "class a [red] mug"
        assert "1 of 3 classes is at one point" in record.evidence


def test_classes_that_are_all_points_are_neural_collapse_and_not_single_ones():
    rows, labels = in_plane(0.0, 2.0, 4.0)
    assert levels(rows, labels) == {"neural-collapse": "watch"}


def test_a_long_list_of_classes_is_cut():
    rows, labels = in_plane(*torch.linspace(0, 6, 20).tolist(), spread=0.01)
    tight, _ = in_plane(*torch.linspace(0, 6, 20).tolist())
    rows[labels < 8] = tight[labels < 8]
    record = found("class-collapse", rows, labels)
    assert record.subject == "classes 0, 1, 2, 3, 4 and 3 more"


@pytest.mark.parametrize(("ratio", "level"), [(0.0099, "watch"), (0.0101, "ok")])
def test_neural_collapse_is_a_hundredth_and_only_watched(ratio, level):
    width = ratio**0.5
    rows = torch.tensor([[0, width], [0, -width], [1, width], [1, -width]], dtype=torch.float64)
    assert found("neural-collapse", rows, torch.tensor([0, 0, 1, 1])).level == level


def test_the_chance_ratio_is_about_one_for_labels_dealt_at_random():
    generator = np.random.default_rng(0)
    rows = torch.from_numpy(generator.normal(size=(400, 6)))
    ratios = []
    for seed in range(40):
        sizes = np.repeat(np.arange(8), [5, 10, 20, 40, 60, 80, 90, 95])
        labels = torch.from_numpy(np.random.default_rng(seed).permutation(sizes))
        ratios.append(chance_ratio(geometry(rows, labels)))
    assert np.mean(ratios) == pytest.approx(1, abs=4 * np.std(ratios) / 40**0.5)


@pytest.mark.parametrize(
    ("wanted", "level"), [(1.4, "act"), (1.6, "watch"), (2.9, "watch"), (3.1, "ok")]
)
def test_classes_are_not_separated_near_chance(wanted, level):
    assert found("not-separated", *apart(wanted, samples=10)).level == level


def apart(ratio, *, samples):
    """Two classes: chance is 2·intra/(N − 1), and the means are 1 apart."""
    width = ((samples - 1) / (2 * ratio)) ** 0.5
    sides = torch.tensor([width, -width], dtype=torch.float64).repeat(samples // 2)
    rows = torch.stack([torch.zeros(samples, dtype=torch.float64), sides], 1)
    moved = rows + torch.tensor([1.0, 0.0])
    return torch.cat([rows, moved]), torch.arange(2).repeat_interleave(samples)


def test_fewer_than_twenty_rows_are_not_judged_as_a_whole():
    judged = {"cone", "few-directions", "not-separated"}
    rows, labels = in_plane(0.0, 0.1, 0.2, spread=0.5, samples=6)
    for more in (0, 2):
        given = torch.cat([rows, rows[:more]]), torch.cat([labels, labels[:more]])
        records = by_name(geometry(*given), width=64)
        assert set(records) & judged == (judged if more else set())
    assert "not-separated" not in by_name(geometry(*apart(1.0, samples=4)))


@pytest.mark.parametrize(("gap", "seen"), [(0.008, True), (0.0125, False)])
def test_one_place_is_nearer_than_a_hundredth_of_the_mean_distance(gap, seen):
    # three means at about 0, 0 and 1: their mean distance is 2/3; the spread is too small to matter
    near = gap * 2 / 3
    rows = torch.tensor([[x, y] for x in (0.0, near, 1.0) for y in (1e-6, -1e-6)]).double()
    record = found("same-place", rows, torch.tensor([0, 0, 5, 5, 9, 9]), names={0: "cup"})
    assert (record.level == "act") == seen
    assert record.subject == "classes cup and 5"


@pytest.mark.parametrize(
    ("wanted", "samples", "level"), [(1.9, 16, "act"), (2.1, 16, "ok"), (1.9, 14, "watch")]
)
def test_one_class_with_two_labels_is_as_near_as_chance_makes_it(wanted, samples, level):
    # the squared distance of two halves of a class is 2·intra/(N − 1) on average
    spread = 0.1
    gap = (wanted * 2 * spread**2 / (samples - 1)) ** 0.5
    sides = spread * torch.tensor([1.0, -1.0]).repeat(samples // 2)
    means = [torch.tensor([x, 0.0]) for x in (0.0, gap, 3.0, 6.0)]
    rows = torch.cat([mean + torch.stack([0 * sides, sides], 1) for mean in means]).double()
    labels = torch.arange(4).repeat_interleave(samples)
    record = found("same-place", rows, labels)
    assert record.level == level
    assert record.subject == "classes 0 and 1"


def test_a_class_of_one_sample_in_the_place_of_another_is_named():
    rows, labels = in_plane(0.0, 2.0, 4.0, spread=0.1, samples=2)
    rows[-1] = rows[labels == 1].mean(0)
    record = found("same-place", rows[[0, 1, 2, 3, 5]], torch.tensor([0, 0, 1, 1, 2]))
    assert (record.level, record.subject) == ("act", "classes 1 and 2")


def test_labels_at_random_are_noticed_and_not_called_one_place():
    rows, labels = make_space(samples=40)
    random = torch.nn.functional.normalize(
        torch.randn(rows.shape, generator=torch.Generator().manual_seed(1))
    )
    assert levels(random, labels) == {"not-separated": "act"}


@pytest.mark.parametrize(("skew", "level"), [(1.9, "ok"), (2.1, "watch"), (5.1, "act")])
def test_hubs_are_named_by_their_row(skew, level):
    of = Hubness(
        k=10, skew=skew, never_found=0.25, hub_share=0.5, most_found=310, most_found_row=17, row_count=2000
    )  # fmt: skip
    record = by_name(geometry(*make_space()), hubness=of)["hubs"]
    assert record.level == level
    assert "row 17 is among the 10 nearest of 310 of 2,000 rows, and 25.0%" in record.evidence
    every = by_name(geometry(*make_space()), hubness=of._replace(never_found=0.0))["hubs"]
    assert every.evidence.endswith(f"of 310 of 2,000 rows (skew {skew:.2f})")
    assert "never" not in every.why
    named = by_name(geometry(*make_space()), hubness=of, row_name="photo {}".format)["hubs"]
    assert "row photo 17 is among" in named.evidence
    alike = of._replace(skew=float("nan"))
    assert "hubs" not in by_name(geometry(*make_space()), hubness=alike)


@pytest.mark.parametrize(
    ("cosine", "dot", "level", "advice"),
    [
        (0.905, 0.9, "ok", ""),
        (0.915, 0.9, "watch", "normalise"),
        (0.99, 0.72, "act", "normalise"),
        (0.72, 0.99, "act", "search by dot product"),
    ],
)
def test_norms_matter_where_cosine_and_dot_product_rank_otherwise(cosine, dot, level, advice):
    (record,) = norm_findings((1.0, 9.0), cosine_recall=cosine, dot_recall=dot)
    assert record.level == level
    assert record.advice.startswith(advice)
    assert norm_findings((1.0, 1.0009), cosine_recall=cosine, dot_recall=dot) == []


@pytest.mark.parametrize(
    ("half_width", "level"), [(0.021, "ok"), (0.019, "watch"), (None, "watch")]
)
def test_a_difference_by_norms_that_may_be_chance_is_ok(half_width, level):
    (record,) = norm_findings(
        (113.02, 113.49),
        cosine_recall=0.94,
        dot_recall=0.92,
        difference=Interval(0.02, half_width, 300),
    )
    assert record.level == level
    assert ("difference 2.0 ± " in record.evidence) == (half_width is not None)


def test_norms_are_shown_with_the_digits_that_differ():
    (record,) = norm_findings((113.02, 113.47), cosine_recall=0.9, dot_recall=0.1, sample=5000)
    assert record.evidence.startswith("R@1 among a sample of 5,000 rows is 90.0% by cosine")
    assert record.evidence.endswith("row norms are between 113 and 113.5")

"""Room for every label, at every width of the page."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from lossgauge.report.figures.labels import CHARACTER, HEIGHT, Fixed, Spot, label_box, place_labels
from lossgauge.report.naming import COLORS

WIDE = (290.0, 1000.0)


def overlap(a, b):
    return min(a[2], b[2]) - max(a[0], b[0]) > 1e-6 and min(a[3], b[3]) - max(a[1], b[1]) > 1e-6


@pytest.mark.parametrize(("across", "up"), [(0.5, 170), (0.97, 170), (0.13, 40), (0.6, 335)])
def test_labels_keep_clear_of_labels_discs_and_edges_at_all_widths(across, up):
    generator = np.random.default_rng(3)
    spots = [
        Spot(
            float(np.clip(across + 0.08 * generator.standard_normal(), 0, 1)),
            float(np.clip(up + 25 * generator.standard_normal(), 0, 340)),
            7.0,
            name,
        )
        for name in COLORS
    ]
    fixed = [Fixed(True, 250.0, "untrained"), Fixed(False, 252.0, "frozen features")]
    offsets = place_labels(spots, widths=WIDE, height=340.0, fixed=fixed)
    assert sum(offset is not None for offset in offsets) >= 4
    for width in WIDE:
        labels = [label_box(s, o, width) for s, o in zip(spots, offsets, strict=True) if o]
        assert not any(overlap(a, b) for a, b in combinations(labels, 2))
        untrained = (0, 250, 9 * CHARACTER, 250 + HEIGHT)
        frozen = (width - 15 * CHARACTER, 252, width, 252 + HEIGHT)
        assert not any(overlap(label, text) for label in labels for text in (untrained, frozen))
        for left, bottom, right, top in labels:
            assert min(left, bottom) > -1  # a pixel
            assert right < width + 1
            assert top < 341


def test_a_label_keeps_off_its_neighbours_disc_at_all_widths():
    spots = [Spot(0.80, 100.0, 14.0, "ccl"), Spot(0.85, 100.0, 14.0, "arcface")]
    offsets = place_labels(spots, widths=WIDE, height=340.0)
    for width in WIDE:
        for spot, offset in zip(spots, offsets, strict=True):
            for other in spots:
                x = other.across * width
                disc = (x - 14, other.y - 14, x + 14, other.y + 14)
                assert not overlap(label_box(spot, offset, width), disc)


def away(box, spot, width) -> float:
    """From a label to the edge of a disc, by its definition: over a grid of points of the label."""
    left, bottom, right, top = box
    x, y = np.meshgrid(np.linspace(left, right, 60), np.linspace(bottom, top, 20))
    return float(np.hypot(x - spot.across * width, y - spot.y).min()) - spot.radius


@pytest.mark.parametrize("seed", range(4))
def test_no_label_is_nearer_to_the_disc_of_another_loss(seed):
    generator = np.random.default_rng(seed)
    spots = [
        Spot(
            0.5 + 0.06 * generator.standard_normal(), 170 + 25 * generator.standard_normal(), 9.0, n
        )
        for n in COLORS
    ]
    offsets = place_labels(spots, widths=WIDE, height=340.0)
    assert any(offsets)
    for width in WIDE:
        for spot, offset in zip(spots, offsets, strict=True):
            if offset is not None:
                box = label_box(spot, offset, width)
                others = [away(box, other, width) for other in spots if other is not spot]
                assert away(box, spot, width) < min(others)


def test_a_disc_below_another_has_no_label():
    spots = [Spot(0.5, 100.0, 9.0, "below"), Spot(0.5, 100.0, 12.0, "above")]
    assert place_labels(spots, widths=WIDE, height=340.0)[0] is None

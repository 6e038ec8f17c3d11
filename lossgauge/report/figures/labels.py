"""Places for the labels of a scatter, so that none lies on another: greedy, in pixels, deterministic.

Rings of candidates around each point, the cheapest wins; Imhof 1975 made simple.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

CHARACTER = 6.6
HEIGHT = 15.0
"""Pixels of a letter's width and of a line, at the figures' font size."""
_ANGLES = (90, 270, 0, 180, 45, 135, 315, 225, 20, 160, 340, 200, 65, 115, 295, 245)
_SWEEPS = 3
"""Each label is placed anew once all others stand: the first ones could not know of the last."""
_RINGS = (0.0, 12.0, 26.0, 42.0, 60.0, 85.0)


class Spot(NamedTuple):
    """A disc that wants a label: its place across as a share of the width, up in pixels."""

    across: float
    y: float
    radius: float
    text: str


class Fixed(NamedTuple):
    """A text that already stands at the left or the right edge."""

    at_left: bool
    y: float
    text: str


class Offset(NamedTuple):
    """From a point to the middle of its label, in pixels to the right and upwards."""

    x: float
    y: float


Box = tuple[float, float, float, float]


def place_labels(
    spots: Sequence[Spot], *, widths: Sequence[float], height: float, fixed: Sequence[Fixed] = ()
) -> list[Offset]:
    """An offset a spot, good for a plot of each of `widths`: one figure serves a phone and a laptop.

    Labels keep clear of each other, of all discs, of `fixed` and of the edges, while there is room.
    Cost grows as spots².
    """
    fixed_boxes = {width: [_fixed_box(text, width) for text in fixed] for width in widths}
    discs = {width: [_disc(spot, width) for spot in spots] for width in widths}
    offsets: dict[int, Offset] = {}
    for _ in range(_SWEEPS):
        for index, spot in enumerate(spots):
            others = [(spots[n], offset) for n, offset in offsets.items() if n != index]
            taken = {
                width: fixed_boxes[width] + [label_box(*other, width) for other in others]
                for width in widths
            }
            costs = {
                offset: math.hypot(*offset)
                + sum(
                    _cost(label_box(spot, offset, width), taken[width], discs[width], width, height)
                    for width in widths
                )
                for offset in _candidates(spot)
            }
            offsets[index] = min(costs, key=lambda offset: costs[offset])
    return [offsets[index] for index in range(len(spots))]


def label_box(spot: Spot, offset: Offset, width: float) -> Box:
    """Left, bottom, right and top of a label in a plot of that width."""
    x, y = spot.across * width + offset.x, spot.y + offset.y
    half = CHARACTER * len(spot.text) / 2
    return x - half, y - HEIGHT / 2, x + half, y + HEIGHT / 2


def gap(spot: Spot, offset: Offset) -> float:
    """Pixels between a disc's edge and its label."""
    across = max(0.0, abs(offset.x) - CHARACTER * len(spot.text) / 2)
    return math.hypot(across, max(0.0, abs(offset.y) - HEIGHT / 2)) - spot.radius


def _candidates(spot: Spot) -> list[Offset]:
    half_width, half_height = CHARACTER * len(spot.text) / 2, HEIGHT / 2
    found = []
    for ring in _RINGS:
        for angle in _ANGLES:
            across, up = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            reach = spot.radius + 3 + ring
            found.append(Offset(across * (reach + half_width), up * (reach + half_height)))
    return found


def _disc(spot: Spot, width: float) -> Box:
    x, r = spot.across * width, spot.radius
    return x - r, spot.y - r, x + r, spot.y + r


def _fixed_box(text: Fixed, width: float) -> Box:
    length = CHARACTER * len(text.text)
    left = 0.0 if text.at_left else width - length
    return left, text.y, left + length, text.y + HEIGHT


def _cost(
    box: Box, taken: Sequence[Box], discs: Sequence[Box], width: float, height: float
) -> float:
    outside = max(0, -box[0]) + max(0, -box[1]) + max(0, box[2] - width) + max(0, box[3] - height)
    on_labels = sum(_overlap(box, other) for other in taken)
    on_discs = sum(_overlap(box, other) for other in discs)
    return 50 * outside + 10 * on_labels + 4 * on_discs


def _overlap(a: Box, b: Box) -> float:
    across = min(a[2], b[2]) - max(a[0], b[0])
    up = min(a[3], b[3]) - max(a[1], b[1])
    # even a sliver must cost more than a longer way
    return across * up + 30.0 if across > 0 and up > 0 else 0.0

"""Positions for the labels of a scatter plot, so that no label covers another: greedy, in pixels, deterministic.

The candidates lie on rings around each point, and the one with the lowest cost is chosen: a simple form of Imhof 1975.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

CHARACTER = 6.6
HEIGHT = 15.0
"""Width of a letter and height of a line in pixels, at the figures' font size."""
_ANGLES = (90, 270, 0, 180, 45, 135, 315, 225, 20, 160, 340, 200, 65, 115, 295, 245)
_SWEEPS = 3
"""Rounds over all labels: in the first round, the first labels are placed before the others are known."""
_RINGS = (0.0, 12.0, 26.0, 42.0, 60.0, 85.0)


class Spot(NamedTuple):
    """A disc that needs a label: its horizontal position as a share of the width, its vertical position in pixels."""

    across: float
    y: float
    radius: float
    text: str


class Fixed(NamedTuple):
    """A text that is already at the left or the right edge."""

    at_left: bool
    y: float
    text: str


class Offset(NamedTuple):
    """From a point to the middle of its label, in pixels: to the right and up."""

    x: float
    y: float


Box = tuple[float, float, float, float]
"""Left, bottom, right, top."""
Boxes = Float[np.ndarray, "boxes 4"]


def place_labels(
    spots: Sequence[Spot], *, widths: Sequence[float], height: float, fixed: Sequence[Fixed] = ()
) -> list[Offset]:
    """An offset for each spot that works at each of `widths`: the same figure is shown on a phone and on a laptop.

    If there is room, labels do not overlap each other, the discs, `fixed` or the edges.
    Cost grows as spots².
    """
    candidates = [_candidates(spot) for spot in spots]
    boxes = [
        {
            width: np.array([label_box(spot, offset, width) for offset in offsets])
            for width in widths
        }
        for spot, offsets in zip(spots, candidates, strict=True)
    ]
    # the part that does not depend on the other labels
    own_costs = [
        np.array([math.hypot(*offset) for offset in offsets])
        + sum(
            50 * _outside(of_spot[width], width, height)
            + 10 * _overlaps(of_spot[width], [_fixed_box(text, width) for text in fixed])
            + 4 * _overlaps(of_spot[width], [_disc(spot, width) for spot in spots])
            for width in widths
        )
        for offsets, of_spot in zip(candidates, boxes, strict=True)
    ]
    placed: dict[int, int] = {}
    for _ in range(_SWEEPS):
        for index, cost in enumerate(own_costs):
            others = [(n, choice) for n, choice in placed.items() if n != index]
            on_labels = [
                _overlaps(boxes[index][width], [boxes[n][width][choice] for n, choice in others])
                for width in widths
            ]
            placed[index] = int(np.argmin(cost + 10 * sum(on_labels)))
    return [offsets[placed[index]] for index, offsets in enumerate(candidates)]


def label_box(spot: Spot, offset: Offset, width: float) -> Box:
    """Left, bottom, right and top of a label in a plot of this width."""
    x, y = spot.across * width + offset.x, spot.y + offset.y
    half = CHARACTER * len(spot.text) / 2
    return x - half, y - HEIGHT / 2, x + half, y + HEIGHT / 2


def gap(spot: Spot, offset: Offset) -> float:
    """Pixels between the edge of a disc and its label."""
    across = max(0.0, abs(offset.x) - CHARACTER * len(spot.text) / 2)
    return math.hypot(across, max(0.0, abs(offset.y) - HEIGHT / 2)) - spot.radius


def _candidates(spot: Spot) -> list[Offset]:
    half_width, half_height = CHARACTER * len(spot.text) / 2, HEIGHT / 2
    offsets = []
    for ring in _RINGS:
        for angle in _ANGLES:
            across, up = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            reach = spot.radius + 3 + ring
            offsets.append(Offset(across * (reach + half_width), up * (reach + half_height)))
    return offsets


def _disc(spot: Spot, width: float) -> Box:
    x, r = spot.across * width, spot.radius
    return x - r, spot.y - r, x + r, spot.y + r


def _fixed_box(text: Fixed, width: float) -> Box:
    length = CHARACTER * len(text.text)
    left = 0.0 if text.at_left else width - length
    return left, text.y, left + length, text.y + HEIGHT


def _outside(boxes: Boxes, width: float, height: float) -> Float[np.ndarray, " boxes"]:
    """Pixels by which each box extends beyond the edges."""
    left, bottom, right, top = boxes.T
    edges = (-left, -bottom, right - width, top - height)
    total: np.ndarray = np.sum([np.maximum(0.0, beyond) for beyond in edges], axis=0)
    return total


def _overlaps(boxes: Boxes, others: Sequence[Box | np.ndarray]) -> Float[np.ndarray, " boxes"]:
    """Area that each box shares with all of `others`."""
    of, by = boxes[:, None, :], np.reshape(np.array(others), (1, len(others), 4))
    shared = np.minimum(of[..., 2:], by[..., 2:]) - np.maximum(of[..., :2], by[..., :2])
    # even a small overlap must cost more than a longer distance
    costs = np.where((shared > 0).all(axis=-1), shared.prod(axis=-1) + 30.0, 0.0)
    total: np.ndarray = costs.sum(axis=1)
    return total

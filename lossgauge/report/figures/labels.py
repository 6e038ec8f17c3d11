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
UNCLEAR = 1e6
"""Cost of a label that is nearer to the disc of another loss, or beyond an edge: more than all other costs together."""
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
) -> list[Offset | None]:
    """An offset for each spot that works at each of `widths`: the same figure is shown on a phone and on a laptop.

    If there is room, labels do not overlap each other, the discs or `fixed`. A label is None where, at one of the widths, its
    nearest disc would not be its own, or it would cover another label or an edge: no label is better than a wrong one.
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
            UNCLEAR * _nearer_to_another(of_spot[width], spots, index, width)
            + UNCLEAR * (_outside(of_spot[width], width, height) > 1)
            + 10 * _overlaps(of_spot[width], [_fixed_box(text, width) for text in fixed])
            + 4 * _overlaps(of_spot[width], [_disc(spot, width) for spot in spots])
            for width in widths
        )
        for index, (offsets, of_spot) in enumerate(zip(candidates, boxes, strict=True))
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
    clear: list[Offset | None] = []
    kept: list[int] = []
    for index, offsets in enumerate(candidates):
        choice = placed[index]
        covers = any(
            _overlaps(boxes[index][width][[choice]], [boxes[n][width][placed[n]] for n in kept])[0]
            for width in widths
        )
        if own_costs[index][choice] >= UNCLEAR or covers:
            clear.append(None)
        else:
            clear.append(offsets[choice])
            kept.append(index)
    return clear


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


def _nearer_to_another(
    boxes: Boxes, spots: Sequence[Spot], own: int, width: float
) -> Float[np.ndarray, " boxes"]:
    """1 for each box that is at least as near to the edge of another disc as to that of its own, else 0."""
    left, bottom, right, top = boxes.T[:, :, None]
    x, y, r = np.array([(spot.across * width, spot.y, spot.radius) for spot in spots]).T
    beside = np.maximum(0.0, np.maximum(left - x, x - right))
    above = np.maximum(0.0, np.maximum(bottom - y, y - top))
    away = np.hypot(beside, above) - r
    others = np.delete(away, own, axis=1).min(axis=1, initial=np.inf)
    nearer: np.ndarray = (others < away[:, own] + 2.0).astype(float)
    return nearer


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

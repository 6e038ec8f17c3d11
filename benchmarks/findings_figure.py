"""The figure of docs/findings.md, from real runs on digits: a triplet loss that learns and one that collapsed, and a cone.

python -m benchmarks.findings_figure
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from tests.support.planted_faults import constant, embedded, load, shifted, train

OUT = Path("docs/findings.svg")
WIDTH, HEIGHT, GAP, MARGIN = 360, 200, 70, 46
GOOD, BAD, INK = "#2a78d6", "#d03b3b", "#555"


def main() -> None:
    digits = load("digits")
    assert digits is not None
    good = train(digits, "triplet", seed=0)
    dead = train(digits, "triplet", seed=0, make_head=constant)
    cone = train(shifted(digits, 3.0), "triplet", seed=0, learning_rate=1e-5)
    curves = [[float(row["loss_value"]) for row in run.steps] for run in (good, dead)]
    left = _panel(
        0,
        "triplet loss over the steps; the margin is 0.2",
        [(np.arange(1, len(curve) + 1), curve) for curve in curves],
        x_range=(0, len(curves[0])),
        y_range=(0.0, 0.25),
        names=("learns", "collapsed: loss = margin"),
    )
    edges = np.linspace(-1, 1, 61)
    histograms = [
        ((edges[:-1] + edges[1:]) / 2, np.histogram(_similarities(run, rows), edges)[0] / 0.5e4)
        for run, rows in ((good, digits.test), (cone, shifted(digits, 3.0).test))
    ]
    right = _panel(
        WIDTH + GAP,
        "cosine similarity of random pairs",
        histograms,
        x_range=(-1, 1),
        y_range=(0.0, max(float(y.max()) for _, y in histograms) * 1.1),
        names=("healthy", "a cone"),
    )
    size = (2 * WIDTH + GAP + 2 * MARGIN, HEIGHT + 2 * MARGIN)
    OUT.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="white"/>{left}{right}</svg>\n',
        encoding="utf-8",
    )


@torch.no_grad()
def _similarities(run, rows: torch.Tensor) -> np.ndarray:
    unit = torch.nn.functional.normalize(embedded(run, rows))
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randint(len(unit), (2, 20_000), generator=generator)
    return torch.linalg.vecdot(unit[one], unit[other])[one != other].numpy()


def _panel(
    left: int,
    title: str,
    lines: Sequence[tuple[np.ndarray, Sequence[float]]],
    *,
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    names: tuple[str, str],
) -> str:
    x_low, x_high = x_range

    def x_to(x: float) -> float:
        return left + MARGIN + (x - x_low) / (x_high - x_low) * WIDTH

    def y_to(y: float) -> float:
        share = (min(y, y_range[1]) - y_range[0]) / (y_range[1] - y_range[0])
        return MARGIN + HEIGHT * (1 - share)

    parts = [
        f'<text x="{left + MARGIN}" y="{MARGIN - 28}" fill="{INK}" font-weight="bold">{title}</text>',
        f'<path d="M{x_to(x_low):.1f},{MARGIN} V{MARGIN + HEIGHT} H{x_to(x_high):.1f}" stroke="{INK}" fill="none"/>',
    ]
    for x in (x_low, (x_low + x_high) / 2, x_high):
        parts.append(
            f'<text x="{x_to(x):.1f}" y="{MARGIN + HEIGHT + 16}" fill="{INK}" text-anchor="middle">{x:.3g}</text>'
        )
    for y in y_range:
        parts.append(
            f'<text x="{left + MARGIN - 6}" y="{y_to(y) + 4:.1f}" fill="{INK}" text-anchor="end">{y:.2g}</text>'
        )
    for (xs, ys), color, name, place in zip(lines, (GOOD, BAD), names, (0, 1), strict=True):
        points = " ".join(
            f"{x_to(float(x)):.1f},{y_to(float(y)):.1f}" for x, y in zip(xs, ys, strict=True)
        )
        parts.append(
            f'<polyline points="{points}" stroke="{color}" stroke-width="1.8" fill="none"/>'
        )
        parts.append(
            f'<text x="{left + MARGIN + place * 110}" y="{MARGIN - 10}" fill="{color}">{name}</text>'
        )
    return "".join(parts)


if __name__ == "__main__":
    main()

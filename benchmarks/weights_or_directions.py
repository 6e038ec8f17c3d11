"""The effects of weight and direction in a finished study `weights-or-directions`, in points, with 95 % intervals over its seeds.

python -m benchmarks.weights_or_directions lossgauge-results/weights-or-directions

Two losses a and b give four runs of each seed, (weight, direction): aa is a, bb is b, the others are swaps.
weight = ½[(aa − ba) + (ab − bb)], direction = ½[(aa − ab) + (ba − bb)], interaction = ½[(aa − ba) − (ab − bb)].
Constant weights are compared with the loss of the same direction.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import lossgauge as lg
from lossgauge.results.columns import RETRIEVAL
from lossgauge.results.view import StudyView
from lossgauge.stats.intervals import interval

PAIRS = (("info_nce", "siglip"), ("triplet", "contrastive"))

Numbers = Mapping[int, float]
"""Seed → a number."""


def effects(aa: Numbers, ab: Numbers, ba: Numbers, bb: Numbers) -> dict[str, list[float]]:
    """The effects of each seed that all four cells have; a cell is named by the loss of its weight, then of its direction."""
    seeds = sorted(aa.keys() & ab.keys() & ba.keys() & bb.keys())
    cells = [(aa[seed], ab[seed], ba[seed], bb[seed]) for seed in seeds]
    return {
        "weight": [((p - r) + (q - s)) / 2 for p, q, r, s in cells],
        "direction": [((p - q) + (r - s)) / 2 for p, q, r, s in cells],
        "interaction": [((p - r) - (q - s)) / 2 for p, q, r, s in cells],
    }


def all_effects(
    view: StudyView, dataset: str, pair: tuple[str, str], column: str
) -> dict[str, list[float]]:
    """Name of an effect → its values, one for each seed."""
    a, b = pair
    of = {loss.base: _known(view.values(dataset, loss, column)) for loss in view.losses}
    found = effects(of[a], of[f"swap({a}, {b})"], of[f"swap({b}, {a})"], of[b])
    for name, loss in (("constant − a", a), ("constant − b", b)):
        constant = of[f"swap(1, {loss})"]
        found[name] = [constant[seed] - of[loss][seed] for seed in constant.keys() & of[loss]]
    return found


def _known(values: Mapping[int, float | None]) -> Numbers:
    return {seed: value for seed, value in values.items() if value is not None}


def _cell(values: Sequence[float]) -> str:
    over = interval(100 * value for value in values)
    if over is None or over.half_width is None:
        return "—"
    return f"{over.mean:+.1f} ± {over.half_width:.1f}".replace("-", "−")


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m benchmarks.weights_or_directions FOLDER")
    view = lg.load_study(sys.argv[1]).view
    header = ["dataset", "a, b", "", "weight", "direction", "interaction"]
    print("|", " | ".join([*header, "constant − a", "constant − b"]), "|")
    print("|" + "---|" * 8)
    for dataset in view.datasets:
        for pair in PAIRS:
            for column in RETRIEVAL[::-1]:
                found = all_effects(view, dataset, pair, column.name)
                cells = [dataset, ", ".join(pair), column.title, *map(_cell, found.values())]
                print("|", " | ".join(cells), "|")


if __name__ == "__main__":
    main()

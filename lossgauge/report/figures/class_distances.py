"""A heat map of the cosine distances between class means, one for each space on one scale."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float64

from lossgauge.report.figures.style import TEMPLATE
from lossgauge.results.examples import Examples


def class_distances(examples: Examples) -> Float64[np.ndarray, "spaces classes classes"]:
    """1 − cosine, in [0, 2]; NaN on the diagonal, and where the mean of a class is zero."""
    about = examples.about
    place = {label: at for at, label in enumerate(about.classes)}
    values = np.full((len(about.spaces), len(place), len(place)), np.nan)
    columns = (examples.cosines[name].to_pylist() for name in ("space", "label", "other", "cosine"))
    for space, label, other, cosine in zip(*columns, strict=True):
        if label in place and other in place:
            one, two = place[label], place[other]
            values[space, one, two] = values[space, two, one] = 1 - cosine
    return values


def layout(examples: Examples) -> dict[str, Any]:
    """Of the heat map; the names of the classes are added on the page."""
    count = len(examples.about.classes)
    return {
        "template": TEMPLATE,
        "height": 150 + max(180, 15 * count),
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "dragmode": False,
        "xaxis": {"automargin": True, "fixedrange": True, "tickangle": -60, "showgrid": False},
        "yaxis": {
            "automargin": True,
            "fixedrange": True,
            "autorange": "reversed",
            "showgrid": False,
        },
    }

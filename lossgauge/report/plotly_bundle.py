"""The drawing library of every page: plotly.js with Cartesian charts only, a third of the size of the full one.

It is the file of the npm package `plotly.js-cartesian-dist-min`, unchanged; its MIT licence lies beside it. To take another version:
`npm pack plotly.js-cartesian-dist-min`, copy the script and LICENSE into `vendor/`, and write the version and the hash here.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

VERSION = "4.1.1"
SHA256 = "79542150855a52c567260e3137095dbe2b744e6d702a5cabe67da246942fba7a"
"""Of the script: what the package on npm contains."""

TRACES = frozenset(
    [
        "bar",
        "box",
        "contour",
        "heatmap",
        "histogram",
        "histogram2d",
        "histogram2dcontour",
        "image",
        "pie",
        "scatter",
        "scatterternary",
        "violin",
    ]
)
"""The types of traces that it can draw. Another type would leave an empty chart."""


@cache
def plotly_script() -> str:
    """The script, as it stands in a page."""
    script = files("lossgauge.report") / "vendor" / "plotly-cartesian.min.js"
    return script.read_text(encoding="utf-8")

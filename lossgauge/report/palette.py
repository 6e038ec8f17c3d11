"""One colour for a loss, everywhere; and the order in which losses stand.

The seven and the grey keep a CIE76 distance of 20 or more from each other, also for protan, deutan and
tritan eyes (Machado et al. 2009), and a contrast of 2.4 or more on white and on near-black.
"""

from __future__ import annotations

from collections.abc import Iterable

from lossgauge.types import Results

UNTRAINED = "untrained"
COLORS = {
    "contrastive": "#005d98",
    "triplet": "#d68e27",
    "n_pair": "#22bb76",
    "info_nce": "#6487ff",
    "arcface": "#da89db",
    "scl": "#b23717",
    "ccl": "#8f424f",
}
GREY = "#8b8f96"
OWN_COLORS = ("#00a6b4", "#7a5cff", "#7d7a2c", "#c2185b")
"""For losses of the user's own and for further variants of one loss, by turns; their lines are dashed."""


def loss_order(names: Iterable[str]) -> list[str]:
    """Each of `names` once: the seven in their order, each before its variants, then the user's own, `untrained` last."""
    places = {name: place for place, name in enumerate([*COLORS, "", UNTRAINED])}
    return sorted(set(names), key=lambda name: (places.get(_base(name), len(COLORS)), name))


def losses_of(results: Results) -> list[str]:
    """Losses of a study that have a row or a failure, without `untrained`."""
    rows = [*results.summaries, *results.epochs, *results.failures]
    names = loss_order(str(row["loss"]) for row in rows if row.get("loss"))
    return [name for name in names if name != UNTRAINED]


def color_of(loss: str, losses: Iterable[str] = ()) -> str:
    """The loss's colour. Of `triplet(margin=0.1)` and the like among `losses`, the first has that of `triplet`.

    All others take `OWN_COLORS` by their place.
    """
    if loss == UNTRAINED:
        return GREY
    first: dict[str, str] = {}
    others = []
    for name in loss_order([*losses, loss]):
        if _base(name) in COLORS and _base(name) not in first:
            first[_base(name)] = name
        elif name != UNTRAINED:
            others.append(name)
    if loss in others:
        return OWN_COLORS[others.index(loss) % len(OWN_COLORS)]
    return COLORS[_base(loss)]


def display_name(loss: str) -> str:
    """The name as a reader is shown it: of a loss in a file, without the folders before it."""
    path, colon, attribute = loss.partition(".py:")
    return path.replace("\\", "/").rpartition("/")[2] + colon + attribute if colon else loss


def _base(loss: str) -> str:
    return loss.partition("(")[0]


def datasets_of(results: Results) -> list[str]:
    """Datasets with a row or a failure, in the order of the plan or, without one there, of the rows."""
    rows = [*results.summaries, *results.epochs, *results.failures]
    seen = list(dict.fromkeys(str(row["dataset"]) for row in rows if row.get("dataset")))
    planned = results.plan.get("datasets")
    first = [str(name) for name in planned] if isinstance(planned, list | tuple | dict) else []
    return [name for name in first if name in seen] + [name for name in seen if name not in first]

"""One colour for a loss, everywhere; and the order in which losses stand.

The seven and the grey keep a CIE76 distance of 20 or more from each other, also for protan, deutan and
tritan eyes (Machado et al. 2009), and a contrast of 2.4 or more on white and on near-black.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

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
"""For losses of the user's own and for further settings of one loss, by flips; their lines are dashed."""
_TUNED = re.compile(r"(?:\((?P<only>)|, )tuned\)$")
"""How the title of a tuned loss ends: `triplet(tuned)`, `triplet(margin=0.1, tuned)`."""


def loss_order(names: Iterable[str]) -> list[str]:
    """Each of `names` once: the seven in their order, each before its other settings, then the user's own, `untrained` last.

    A tuned loss stands behind the one that it was.
    """
    places = {name: place for place, name in enumerate([*COLORS, "", UNTRAINED])}
    return sorted(
        set(names),
        key=lambda name: (places.get(_base(name), len(COLORS)), untuned(name), is_tuned(name)),
    )


def is_tuned(loss: str) -> bool:
    """Whether a title is that of a tuned loss."""
    return _TUNED.search(loss) is not None


def untuned(loss: str) -> str:
    """The title that a tuned loss had before: `triplet`, `triplet(margin=0.1)`; any other as it is."""
    found = _TUNED.search(loss)
    if found is None:
        return loss
    return loss[: found.start()] + ("" if found["only"] is not None else ")")


def color_of(loss: str, losses: Iterable[str] = ()) -> str:
    """The loss's colour. Of `triplet(margin=0.1)` and the like among `losses`, the first has that of `triplet`.

    All others take `OWN_COLORS` by their place; a tuned loss has the colour of what it was.
    """
    loss = untuned(loss)
    if loss == UNTRAINED:
        return GREY
    first: dict[str, str] = {}
    others = []
    for name in loss_order(map(untuned, [*losses, loss])):
        if _base(name) in COLORS and _base(name) not in first:
            first[_base(name)] = name
        elif name != UNTRAINED:
            others.append(name)
    if loss in others:
        return OWN_COLORS[others.index(loss) % len(OWN_COLORS)]
    return COLORS[_base(loss)]


def display_name(loss: str) -> str:
    """The name as a reader is shown it: without the folders before its file, and `triplet, tuned`."""
    if is_tuned(loss):
        return f"{display_name(untuned(loss))}, tuned"
    path, colon, attribute = loss.partition(".py:")
    return path.replace("\\", "/").rpartition("/")[2] + colon + attribute if colon else loss


def _base(loss: str) -> str:
    return loss.partition("(")[0]

"""The name and the colour of each loss, the same everywhere on the page.

The seven colours and the grey keep a CIE76 distance of 20 or more from each other, also for protan, deutan and
tritan eyes (Machado et al. 2009), and a contrast of 2.4 or more on white and on near-black.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lossgauge.portable import without_folders
from lossgauge.results.view import BASELINE, Loss, in_order

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
"""Of the baseline and of the references."""
OWN_COLORS = ("#00a6b4", "#7a5cff", "#7d7a2c", "#c2185b")
"""For a user's own losses and for further settings of one loss, in turn; their lines are dashed."""


def color_of(loss: Loss, losses: Iterable[Loss] = ()) -> str:
    """The colour of `loss` beside `losses`; a tuned loss has that of its default.

    Of `triplet(margin=0.1)`, `triplet(margin=0.2)` and the like, the first has the colour of `triplet`. All others
    take `OWN_COLORS` by their place.
    """
    wanted = loss._replace(tuned=False)
    if wanted == BASELINE:
        return GREY
    named: set[str] = set()
    others: list[Loss] = []
    for one in in_order({other._replace(tuned=False) for other in [*losses, loss]}):
        if one.name in COLORS and one.name not in named:
            named.add(one.name)
            if one == wanted:
                return COLORS[one.name]
        elif one != BASELINE:
            others.append(one)
    return OWN_COLORS[others.index(wanted) % len(OWN_COLORS)]


def display_name(loss: Loss) -> str:
    """The name that a reader sees: `triplet`, `my_loss.py:Pull`, `triplet, tuned`."""
    name = without_folders(loss.base)
    return f"{name}, tuned" if loss.tuned else name


def key_of(loss: Loss) -> str:
    """A text that no other loss of a study has: what the buttons of the legend find its traces by."""
    return f"{loss.base}(tuned)" if loss.tuned else loss.base


def listed(losses: Sequence[Loss]) -> str:
    """`a, b and c`."""
    *most, last = (display_name(loss) for loss in losses)
    return ", ".join(most) + " and " + last if most else last

"""The name, the colour and the mark of each loss, the same everywhere on the page.

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

SYMBOLS = {
    "contrastive": "circle",
    "triplet": "triangle-up",
    "n_pair": "square",
    "info_nce": "diamond",
    "arcface": "triangle-down",
    "scl": "star",
    "ccl": "cross",
}
OWN_SYMBOLS = ("x", "hexagon", "bowtie", "star-diamond")
"""In turn, as `OWN_COLORS`: who cannot tell two colours apart can tell the marks apart."""
MARKS = {
    "circle": "M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0Z",
    "triangle-up": "M0,-5.5L5.5,4.5H-5.5Z",
    "square": "M-4.5,-4.5H4.5V4.5H-4.5Z",
    "diamond": "M0,-6L6,0L0,6L-6,0Z",
    "triangle-down": "M0,5.5L5.5,-4.5H-5.5Z",
    "star": "M0,-6L1.5,-2.1H5.7L2.4,.4L3.6,4.8L0,2.2L-3.6,4.8L-2.4,.4L-5.7,-2.1H-1.5Z",
    "cross": "M-2,-5.5H2V-2H5.5V2H2V5.5H-2V2H-5.5V-2H-2Z",
    "x": "M-5,-2.5L-2.5,-5L0,-2.5L2.5,-5L5,-2.5L2.5,0L5,2.5L2.5,5L0,2.5L-2.5,5L-5,2.5L-2.5,0Z",
    "hexagon": "M-3,-5.2H3L6,0L3,5.2H-3L-6,0Z",
    "bowtie": "M-5.5,-4.5L0,-1L5.5,-4.5V4.5L0,1L-5.5,4.5Z",
    "star-diamond": "M0,-6L2,-2L6,0L2,2L0,6L-2,2L-6,0L-2,-2Z",
    "dash": "M-7,-1H-1.5V1H-7ZM1.5,-1H7V1H1.5Z",
    "dot": "M-7,-1H-5V1H-7ZM-3,-1H-1V1H-3ZM1,-1H3V1H1ZM5,-1H7V1H5Z",
}
"""The outline of each mark for text and buttons, in a square from −7 to 7; the last two are lines without training."""


def color_of(loss: Loss, losses: Iterable[Loss] = ()) -> str:
    """The colour of `loss` beside `losses`; a tuned loss has that of its default.

    Of `triplet(margin=0.1)`, `triplet(margin=0.2)` and the like, the first has the colour of `triplet`. All others
    take `OWN_COLORS` by their place.
    """
    if loss._replace(tuned=False) == BASELINE:
        return GREY
    place = _place(loss, losses)
    return COLORS[loss.name] if place is None else OWN_COLORS[place % len(OWN_COLORS)]


def symbol_of(loss: Loss, losses: Iterable[Loss] = ()) -> str:
    """plotly's name of the mark of `loss` beside `losses`, chosen as its colour is."""
    if loss._replace(tuned=False) == BASELINE:
        return "circle"
    place = _place(loss, losses)
    if place is None:
        return SYMBOLS[loss.name]
    # once all colours are taken, the next turn begins at another mark, so that no pair of colour and mark is there twice
    return OWN_SYMBOLS[(place + place // len(OWN_COLORS)) % len(OWN_SYMBOLS)]


def _place(loss: Loss, losses: Iterable[Loss]) -> int | None:
    """Place of a loss among those that have no colour and mark of their own; None if it has."""
    wanted = loss._replace(tuned=False)
    named: set[str] = set()
    others: list[Loss] = []
    for one in in_order({other._replace(tuned=False) for other in [*losses, loss]}):
        if one.name in COLORS and one.name not in named:
            named.add(one.name)
            if one == wanted:
                return None
        elif one != BASELINE:
            others.append(one)
    return others.index(wanted)


def display_name(loss: Loss) -> str:
    """The name that a reader sees: `triplet`, `my_loss.py:Pull`, `triplet, tuned`."""
    name = without_folders(loss.base)
    return f"{name}, tuned" if loss.tuned else name


def short_name(loss: Loss, losses: Iterable[Loss]) -> str:
    """`display_name` without settings, where no other loss of `losses` has the same name: for headings and charts."""
    bases = {one.base for one in losses if one.name == loss.name} | {loss.base}
    return display_name(loss._replace(base=loss.name) if len(bases) == 1 else loss)


LONGEST = 18
"""Letters of a name inside a chart."""


def shortened(name: str) -> str:
    """`name` in at most `LONGEST` letters: its beginning and its end."""
    if len(name) <= LONGEST:
        return name
    return f"{name[: LONGEST // 2]}…{name[-(LONGEST // 2 - 1) :]}"


def cut(text: str, most: int) -> str:
    """`text` in at most `most` letters: its beginning."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def key_of(loss: Loss) -> str:
    """A text that no other loss of a study has: what the buttons of the legend find its traces by."""
    return f"{loss.base}(tuned)" if loss.tuned else loss.base


def listed(losses: Sequence[Loss]) -> str:
    """`a, b and c`."""
    *most, last = (display_name(loss) for loss in losses)
    return ", ".join(most) + " and " + last if most else last

"""One name and one colour for a loss, and colours that everybody can tell apart."""

from __future__ import annotations

import numpy as np
import pytest

from lossgauge.losses.registry import LOSSES
from lossgauge.portable import without_folders
from lossgauge.report.naming import (
    COLORS,
    GREY,
    LONGEST,
    MARKS,
    OWN_COLORS,
    OWN_SYMBOLS,
    color_of,
    display_name,
    key_of,
    listed,
    short_name,
    shortened,
    symbol_of,
)
from lossgauge.results.view import BASELINE, Loss, in_order


def test_the_palette_has_the_packages_losses_in_their_order():
    assert tuple(COLORS) == LOSSES


TRIPLET, SCL = Loss("triplet", "triplet"), Loss("scl", "scl")
OWN = Loss("a/my.py:B", "a/my.py:B")
AT_A_MARGIN = Loss("triplet(margin=0.1)", "triplet")


def tuned(loss: Loss) -> Loss:
    return loss._replace(tuned=True)


def test_losses_are_in_order_with_other_settings_and_own_ones():
    other = Loss("my.py:A", "my.py:A")
    losses = [BASELINE, other, SCL, AT_A_MARGIN, TRIPLET, OWN]
    assert in_order(losses) == [TRIPLET, AT_A_MARGIN, SCL, OWN, other, BASELINE]
    colors = [color_of(loss, losses) for loss in losses]
    assert len(set(colors)) == len(losses)
    assert color_of(TRIPLET, losses) == COLORS["triplet"]
    assert color_of(AT_A_MARGIN, losses) not in COLORS.values()
    assert color_of(AT_A_MARGIN, [AT_A_MARGIN]) == color_of(AT_A_MARGIN) == COLORS["triplet"]
    assert color_of(BASELINE, losses) == GREY


# Machado et al. 2009, severity 1, at linear RGB
DEFICIENCIES = {
    "none": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


def linear(color: str) -> np.ndarray:
    value = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = to_xyz @ np.clip(rgb, 0, 1) / [0.9505, 1, 1.089]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("eyes", DEFICIENCIES)
def test_colours_can_be_told_apart_by_all_eyes(eyes):
    seen = [lab(np.array(DEFICIENCIES[eyes]) @ linear(c)) for c in [*COLORS.values(), GREY]]
    distances = [np.linalg.norm(a - b) for i, a in enumerate(seen) for b in seen[:i]]
    assert min(distances) > 20


def test_colours_stand_out_on_light_and_on_dark():
    for color in [*COLORS.values(), GREY]:
        luminance = linear(color) @ [0.2126, 0.7152, 0.0722]
        assert 1.05 / (luminance + 0.05) > 2.4
        assert (luminance + 0.05) / (0.008 + 0.05) > 2.4


def test_a_tuned_loss_has_the_place_the_colour_and_the_name_of_its_default():
    losses = [tuned(AT_A_MARGIN), tuned(TRIPLET), tuned(OWN), AT_A_MARGIN, OWN, TRIPLET]
    ordered = in_order(losses)
    assert [display_name(loss) for loss in ordered] == [
        "triplet",
        "triplet, tuned",
        "triplet(margin=0.1)",
        "triplet(margin=0.1), tuned",
        "my.py:B",
        "my.py:B, tuned",
    ]
    colors = [color_of(loss, losses) for loss in ordered]
    assert colors[::2] == colors[1::2]
    assert len(set(colors)) == 3
    assert colors == [color_of(loss, [TRIPLET, AT_A_MARGIN, OWN]) for loss in ordered]


@pytest.mark.parametrize(
    ("title", "short"),
    [
        ("/home/a/my.py:B", "my.py:B"),
        ("a\\my.py:B(margin=1)", "my.py:B(margin=1)"),
        ("my.py:B", "my.py:B"),
        ("triplet(margin=0.1)", "triplet(margin=0.1)"),
    ],
)
def test_a_loss_from_a_file_is_shown_without_the_folders(title, short):
    assert without_folders(title) == display_name(Loss(title, title)) == short


def test_every_name_may_look_like_that_of_a_tuned_loss():
    """The title of a loss is never read back: `fine(tuned)` is a name like any other."""
    loss = Loss("fine(tuned)", "fine(tuned)")
    assert display_name(loss) == "fine(tuned)"
    assert color_of(loss, [loss]) in OWN_COLORS


def test_two_files_of_one_name_have_two_keys():
    keys = [
        key_of(Loss(f"{folder}/my.py:B", "my.py:B", is_tuned))
        for folder in "ab"
        for is_tuned in (False, True)
    ]
    assert len(set(keys)) == 4


def test_losses_are_listed_in_words():
    assert listed([TRIPLET]) == "triplet"
    assert listed([TRIPLET, tuned(SCL), OWN]) == "triplet, scl, tuned and my.py:B"


def test_a_name_is_without_settings_where_no_other_loss_has_it():
    with_settings = Loss("triplet(margin=0.1)", "triplet")
    assert short_name(with_settings, [with_settings, SCL]) == "triplet"
    assert (
        short_name(tuned(with_settings), [with_settings, tuned(with_settings)]) == "triplet, tuned"
    )
    assert short_name(with_settings, [with_settings, TRIPLET]) == "triplet(margin=0.1)"
    assert short_name(OWN, [OWN, SCL]) == "my.py:B"


def test_a_long_name_keeps_its_ends():
    assert shortened("triplet") == "triplet"
    long = shortened("my_file.py:AVeryLongNameOfALoss")
    assert len(long) <= LONGEST
    assert (long[:9], long[-4:]) == ("my_file.p", "Loss")


def test_each_loss_of_the_paper_has_its_own_mark_and_every_mark_has_an_outline():
    losses = [Loss(name, name) for name in COLORS]
    symbols = [symbol_of(loss, losses) for loss in losses]
    assert len(set(symbols)) == len(losses)
    assert {*symbols, *OWN_SYMBOLS} <= MARKS.keys()
    own = [Loss(f"my.py:{n}", f"my.py:{n}") for n in range(3)]
    others = [symbol_of(loss, [*losses, *own]) for loss in own]
    assert len({*symbols, *others}) == 10
    assert symbol_of(losses[0]._replace(tuned=True), losses) == symbols[0]


def test_sixteen_losses_beside_the_seven_have_their_own_colour_and_mark():
    others = [Loss(f"my_{n:02}", f"my_{n:02}") for n in range(16)]
    pairs = {(color_of(loss, others), symbol_of(loss, others)) for loss in others}
    assert len(pairs) == 16

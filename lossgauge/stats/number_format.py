"""Numbers as text for readers: a real minus sign, no `1.1e-07`, no `-0.0`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from lossgauge.stats.intervals import Interval

Unit = Literal["percent", "number", "small", "count", "epochs", "milliseconds", "seconds"]
"""How a number is shown: `small` in significant digits, `percent` of a share."""


_TIMES = {"milliseconds": "ms", "seconds": "s"}


def rounded(value: float, digits: int, *, signed: bool = False) -> str:
    """`value` with this many decimals; `signed` adds a plus sign too. A value that rounds to 0 has no sign."""
    whole = round(value, digits) + 0.0  # + 0.0 turns -0.0 into 0.0
    text = f"{whole:+.{digits}f}" if signed and whole else f"{whole:.{digits}f}"
    return text.replace("-", "−")


def short(value: float, digits: int) -> str:
    """`value` with this many significant digits: `0.00041` is `4.1·10⁻⁴`."""
    if value == 0 or 1e-2 <= abs(value) < 1e3:
        text = f"{value:.{digits}g}"
        return (f"{value:.0f}" if "e" in text else text).replace("-", "−")
    mantissa, _, exponent = f"{value:.{max(digits - 2, 0)}e}".partition("e")
    power = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{mantissa}·10{power}".replace("-", "−")


def in_p(name: str, value: float) -> str:
    """`p = 0.0021`."""
    return f"{name} < 0.0001" if value < 1e-4 else f"{name} = {value:.2g}"


def counted(count: int, noun: str) -> str:
    """`1 run`, `1,200 runs`, `7 losses`, `50 queries`."""
    if count == 1:
        return f"1 {noun}"
    plural = f"{noun[:-1]}ies" if noun.endswith("ry") else noun + "es" * noun.endswith("s")
    return f"{count:,} {plural if plural != noun else noun + 's'}"


def shown(value: float, unit: Unit) -> str:
    """`value` in its unit, with as many digits as a reader can use; never "−0.0"."""
    if not math.isfinite(value):
        return "—"
    if unit == "small":
        return short(value, 3)
    if unit == "percent":
        return f"{rounded(100 * value, 1)}\u00a0%"
    if unit in ("count", "epochs"):
        return rounded(value, 1)
    if unit in _TIMES:
        return f"{value:.3g}\u00a0{_TIMES[unit]}"
    return rounded(value, 3 if abs(value) < 10 else 1)


def shown_interval(over: Interval, unit: Unit) -> str:
    """`91.2 % ± 0.4`; only the mean if there is no interval."""
    text = shown(over.mean, unit)
    if over.half_width is None:
        return text
    return f"{text} ± {shown_half_width(over.half_width, over.mean, unit)}"


def shown_half_width(half_width: float, mean: float, unit: Unit) -> str:
    """The ± of an interval with the digits of its mean; a value that rounds to 0 is "< 0.1", not 0."""
    if unit == "small" or unit in _TIMES:
        return short(half_width, 3) if unit == "small" else f"{half_width:.2g}"
    scaled = 100 * half_width if unit == "percent" else half_width
    digits = 1 if unit in ("percent", "count", "epochs") or abs(mean) >= 10 else 3
    least = 10.0**-digits
    return f"< {least:.{digits}f}" if scaled < least / 2 else f"{scaled:.{digits}f}"

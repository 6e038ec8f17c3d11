"""Numbers in words as a reader wants them: a true minus, no `1.1e-07`, no `-0.0`."""

from __future__ import annotations


def rounded(value: float, digits: int, *, signed: bool = False) -> str:
    """`value` to so many places behind the point; `signed` gives a plus too. What rounds to 0 has no sign."""
    whole = round(value, digits) + 0.0  # + 0.0 turns -0.0 into 0.0
    text = f"{whole:+.{digits}f}" if signed and whole else f"{whole:.{digits}f}"
    return text.replace("-", "−")


def short(value: float, digits: int) -> str:
    """`value` in so many significant digits: `0.00041` is `4.1·10⁻⁴`."""
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
    """`1 run`, `1,200 runs`, `7 losses`."""
    ending = "" if count == 1 else "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{ending}"

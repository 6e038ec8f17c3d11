"""Text for a terminal: a name is shown there, and never obeyed.

A name of a file, a class or a loss may hold what clears a screen, rings a bell, writes backwards or begins a line.
"""

import unicodedata

_OBEYED = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode's categories of control and format characters, half characters, and ends of lines."""


def safe(text: str) -> str:
    r"""`text` as one line of characters that can be seen: others as Python writes them, `\x1b`."""
    if text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if unicodedata.category(character) in _OBEYED
        else character
        for character in text
    )


def one_line(text: str) -> str:
    """A message of several lines as one, safe to show."""
    return safe(" ".join(text.split()))

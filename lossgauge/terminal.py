"""Text for a terminal: control characters are shown, not executed.

The name of a file, class or loss may contain characters that clear the screen, ring the bell, write backwards or start a new line.
"""

import textwrap
import unicodedata

WIDTH = 100
"""Columns of a wrapped line: our choice."""

_NOT_SHOWN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode's categories of control and format characters, lone surrogates, and line ends."""


def safe(text: str) -> str:
    r"""`text` as one line of visible characters; other characters are escaped as in Python: `\x1b`."""
    if text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if unicodedata.category(character) in _NOT_SHOWN
        else character
        for character in text
    )


def one_line(text: str) -> str:
    """A message of several lines as one line that is safe to print."""
    return safe(" ".join(text.split()))


def wrapped(text: str) -> list[str]:
    """`text` as lines of at most WIDTH characters, all but the first indented; a longer word, such as a path, stays whole."""
    return textwrap.wrap(
        safe(text),
        WIDTH,
        subsequent_indent=" " * 4,
        break_long_words=False,
        break_on_hyphens=False,
    )

import pytest

from lossgauge.study.schedule.syntax import read_source

FILE = '''
"""What it does."""
from __future__ import annotations
from typing import TYPE_CHECKING
import torch

if TYPE_CHECKING:
    from pathlib import Path

RATE = 0.5
"""In words."""

class Row:
    """A row."""
    size: int
    name: str = "a"

def double(value: int, *, by: float = 2.0) -> float:
    """Twice the value."""
    if value < 0:
        raise ValueError(f"value must be positive, got {value}")
    return value * by  # as asked
'''

ALIKE = [
    ("# as asked", "# quickly"),
    ('    """Twice the value."""\n', ""),
    ('"""In words."""', '"""In other words."""'),
    ('"""What it does."""', ""),
    ("    from pathlib import Path", "    from collections.abc import Sequence"),
    ("value * by", "(value  *  by)"),
    ("RATE = 0.5", "\n\nRATE = 5e-1"),
]
ALIKE_IN_OUR_OWN = [
    ("value: int", "value: float"),
    (" -> float", ""),
    ("size: int", "size: 'int'"),
    ('f"value must be positive, got {value}"', '"no"'),
]
OTHER = [
    ("value * by", "value + by"),
    ("by: float = 2.0", "by: float = 2"),
    ("*, by", "by"),
    ("value < 0", "value <= 0"),
    ("raise ValueError", "raise TypeError"),
    ("size: int", "length: int"),
    ('    size: int\n    name: str = "a"', '    name: str = "a"\n    size: int = 1'),
    ("import torch", "import torch as t"),
    ("RATE = 0.5", "RATE = 0.25"),
    ("RATE = 0.5", "RATE = '0.5'"),
    ("RATE = 0.5", "RATE = None"),
    ("def double", "@cache\ndef double"),
]


def meaning(text, *, own=True):
    return read_source(text.encode(), own=own).meaning


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize(("old", "new"), ALIKE)
def test_words_and_layout_change_no_meaning(old, new, own):
    assert old in FILE
    assert meaning(FILE.replace(old, new), own=own) == meaning(FILE, own=own)


@pytest.mark.parametrize(("old", "new"), ALIKE_IN_OUR_OWN)
def test_types_and_words_of_errors_change_the_meaning_of_a_users_file_only(old, new):
    assert old in FILE
    assert meaning(FILE.replace(old, new)) == meaning(FILE)
    assert meaning(FILE.replace(old, new), own=False) != meaning(FILE, own=False)


@pytest.mark.parametrize("own", [True, False])
def test_code_changes_the_meaning(own):
    changed = [FILE.replace(old, new) for old, new in OTHER]
    assert FILE not in changed
    assert len({meaning(text, own=own) for text in (FILE, *changed)}) == 1 + len(OTHER)


def test_what_is_no_python_counts_byte_by_byte():
    deep = ("x = " + "-" * 5000 + "1").encode()
    contents = [b"\x7fELF\0", b"\x7fELF\0\1", b"def f(:", deep, deep + b"\n"]
    assert len({read_source(content, own=False) for content in contents}) == len(contents)


def test_imports_are_those_of_functions_too_and_not_those_for_types():
    text = """
from a import b, c as d
import e.f as g, h
def function():
    from i.j import k
    if True:
        import l
if TYPE_CHECKING:
    import m
if typing.TYPE_CHECKING:
    from n import o
try:
    import p
except ImportError:
    import q
"""
    assert read_source(text.encode(), own=True).imports == {
        *("a.b", "a.c", "e.f", "h", "i.j.k", "l", "p", "q")
    }

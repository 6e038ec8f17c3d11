"""What README and docs/ tell a reader to run: Python blocks and `lossgauge …` lines."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_ENVIRONMENT = r"(?:[A-Z_]+=\S+ +)*"
_COMMAND = re.compile(rf"^(?:\.venv/bin/)?({_ENVIRONMENT}lossgauge .*)|^ +(--.*)")
_INLINE = re.compile(rf"`({_ENVIRONMENT}lossgauge [^`]+)`")


class Block(NamedTuple):
    line: int
    """Of the page, where the code begins."""
    language: str
    code: str


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(text: str) -> list[Block]:
    """All fenced blocks, in their order."""
    return [
        Block(text.count("\n", 0, match.start(2)) + 1, match[1], match[2])
        for match in _FENCE.finditer(text)
    ]


def command_lines(text: str) -> list[str]:
    """Lines of blocks that begin with `lossgauge` or with an option of it, and the same between backticks in a sentence.

    A comment, and words after two spaces, are left off.
    """
    found = [
        re.split(r"  +| #", match[1] or match[2])[0].strip()
        for block in blocks(text)
        if block.language in ("", "sh", "bash")
        for line in block.code.splitlines()
        if (match := _COMMAND.match(line))
    ]
    prose = re.sub(r"^```.*$", "", text, flags=re.MULTILINE)
    found += [" ".join(match[1].split()) for match in _INLINE.finditer(prose)]
    return list(dict.fromkeys(line for line in found if "…" not in line))

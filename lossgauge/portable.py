"""Text without the folders of one machine: what is shown to others need not say where somebody's files lie."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container
from pathlib import Path
from typing import Any

from lossgauge.types import Results

_END = r"\s:'\",;()\[\]{}<>"
# not the slashes of https://, nor of a/b
_ABSOLUTE = re.compile(rf"(?<![\w./~…-])/(?!/)(?:[^/{_END}]+/)+([^/{_END}]*)")

# as Python quotes them: with anything inside
_QUOTED = re.compile(r"""(?P<quote>['"])/[^'"\n]*/(?P<last>[^'"/\n]*)(?P=quote)""")


def portable(text: str, *below: Path) -> str:
    """The text with absolute paths cut: those below a folder of `below` from there on, then those below the working
    folder, then all others to their last part."""
    if "/" not in text:
        return text
    # the innermost first
    folders = sorted(map(str, (*below, *_working_folder())), key=len, reverse=True)
    for folder in folders:
        if folder.startswith("/") and len(folder) > 1:
            text = text.replace(f"{folder}/", "")
    text = _QUOTED.sub(r"\g<quote>\g<last>\g<quote>", text)
    return _ABSOLUTE.sub(lambda found: found[1] or "…", text)


def portable_value(value: Any, *below: Path, keep: Container[str] = ()) -> Any:
    """A text, or all texts of a record or a list, portable; those of `keep` as they are."""
    if isinstance(value, str):
        return value if value in keep else portable(value, *below)
    if isinstance(value, dict):
        return {
            key: entry if isinstance(entry, float) else portable_value(entry, *below, keep=keep)
            for key, entry in value.items()
        }
    if isinstance(value, list):
        return [portable_value(entry, *below, keep=keep) for entry in value]
    return value


def portable_results(results: Results) -> Results:
    """The same results with every text in them portable; two losses whose names would become one keep theirs."""
    named = [str(name) for name in results.plan.get("datasets") or () if ":/" in str(name)]
    below = [Path(name.partition(":")[2]).parent for name in named]
    rows = [row for part in results if isinstance(part, list) for row in part]
    names = {str(row[key]) for row in rows for key in ("loss", "base") if key in row}
    short = Counter(portable(name, *below) for name in names)
    keep = {name for name in names if short[portable(name, *below)] > 1}
    return Results(*(portable_value(part, *below, keep=keep) for part in results))


def _working_folder() -> list[Path]:
    try:
        return [Path.cwd()]
    except OSError:  # it was deleted
        return []

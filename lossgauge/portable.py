"""Text without the folders of this machine: a report for others need not show where the files of a user are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container
from pathlib import Path
from typing import Any

from lossgauge.types import Results

_END = r"\s:'\",;()\[\]{}<>"
# not the slashes in https://, nor in a/b
_ABSOLUTE = re.compile(rf"(?<![\w./~…-])/(?!/)(?:[^/{_END}]+/)+([^/{_END}]*)")

# paths in quotes, as Python prints them, with any characters inside
_QUOTED = re.compile(r"""(?P<quote>['"])/[^'"\n]*/(?P<last>[^'"/\n]*)(?P=quote)""")


def portable(text: str, *below: Path) -> str:
    """The text with shortened absolute paths: relative to a folder of `below` or to the working folder, if they are
    inside it; of other paths only the last part stays."""
    if "/" not in text:
        return text
    # inner folders first
    folders = sorted(map(str, (*below, *_working_folder())), key=len, reverse=True)
    for folder in folders:
        if folder.startswith("/") and len(folder) > 1:
            text = text.replace(f"{folder}/", "")
    text = _QUOTED.sub(r"\g<quote>\g<last>\g<quote>", text)
    return _ABSOLUTE.sub(lambda match: match[1] or "…", text)


def portable_value(value: Any, *below: Path, keep: Container[str] = ()) -> Any:
    """A text, or all texts of a record or a list, made portable; texts in `keep` stay unchanged."""
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
    """The same results with portable texts; if the names of two losses would become equal, both stay unchanged."""
    named = [str(name) for name in results.plan.get("datasets") or () if ":/" in str(name)]
    below = [Path(name.partition(":")[2]).parent for name in named]
    rows = [row for part in results if isinstance(part, list) for row in part]
    names = {str(row[key]) for row in rows for key in ("loss", "base") if key in row}
    short = Counter(portable(name, *below) for name in names)
    keep = {name for name in names if short[portable(name, *below)] > 1}
    return Results(*(portable_value(part, *below, keep=keep) for part in results))


def without_folders(title: str) -> str:
    """The title of a loss from a file, without the folders of the file: `a/my_loss.py:Pull` is `my_loss.py:Pull`."""
    path, colon, attribute = title.partition(".py:")
    return path.replace("\\", "/").rpartition("/")[2] + colon + attribute if colon else title


def _working_folder() -> list[Path]:
    try:
        return [Path.cwd()]
    except OSError:  # it was deleted
        return []

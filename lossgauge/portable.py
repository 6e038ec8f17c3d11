"""Text without the folders of one machine: what is shown to others need not say where somebody's files lie."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lossgauge.types import Results

_END = r"\s:'\",;()\[\]{}<>"
# not the slashes of https://, nor of a/b
_ABSOLUTE = re.compile(rf"(?<![\w./~…-])/(?!/)(?:[^/{_END}]+/)+([^/{_END}]*)")


def portable(text: str, *below: Path) -> str:
    """The text with absolute paths cut: those below a folder of `below` from there on, then those below the working
    folder, then all others to their last part."""
    if "/" not in text:
        return text
    for folder in (str(folder) for folder in (*below, *_working_folder())):
        if folder.startswith("/") and len(folder) > 1:
            text = text.replace(f"{folder}/", "")
    return _ABSOLUTE.sub(lambda found: found[1] or "…", text)


def portable_results(results: Results) -> Results:
    """The same results with every text in them portable; names of losses stay apart where they would become one."""
    names = {
        str(row[key]) for rows in _tables(results) for row in rows for key in _NAMES if key in row
    }
    short = {name: portable(name) for name in names}
    double = {name for name in names if list(short.values()).count(short[name]) > 1}

    def cut(value: Any) -> Any:
        if isinstance(value, str):
            return value if value in double else portable(value)
        if isinstance(value, dict):
            return {key: cut(entry) for key, entry in value.items()}
        return [cut(entry) for entry in value] if isinstance(value, list | tuple) else value

    return Results(*(cut(part) for part in results))


def _working_folder() -> list[Path]:
    try:
        return [Path.cwd()]
    except OSError:  # it was deleted
        return []


_NAMES = ("loss", "base", "dataset", "run")


def _tables(results: Results) -> Iterable[list[dict[str, Any]]]:
    return (
        list(rows)
        for rows in results
        if isinstance(rows, list | tuple) and all(isinstance(row, dict) for row in rows)
    )

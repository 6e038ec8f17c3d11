"""The tables in GitHub Flavored Markdown.   https://github.github.com/gfm/#tables-extension-

Names are code spans: nothing in them is markup, a link or a mention.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from lossgauge.report.paper.tables import TITLES, PaperTable
from lossgauge.report.tables import Cell, Row
from lossgauge.terminal import safe

_NUMBER_MARKUP = re.compile(r"([\\`*_{}\[\]<>|~#&])")


def markdown(tables: Iterable[PaperTable], figures: Sequence[str] = ()) -> str:
    """All tables, below them the figures by their file names."""
    parts = [_table(table) for table in tables]
    parts += [f"![{name.rpartition('.')[0]}]({name})" for name in figures]
    return "\n\n".join(parts) + "\n"


def _table(of: PaperTable) -> str:
    head = ["loss", *map(_text, of.headers)]
    rows = [head, ["---", *["---:"] * len(of.headers)], *map(_row, of.table.rows)]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    settings = "; ".join(f"{code(name)}: {code(text)}" for name, text in of.settings)
    below = ["", f"Settings: {settings}."] if settings else []
    title = f"## {TITLES[of.name]}: {code(of.dataset)}"
    return "\n".join([title, "", of.caption, "", *lines, *below])


def _row(row: Row) -> list[str]:
    if row.kind == "failed":
        return [code(row.name), "failed"]  # GFM fills up the row
    return [code(row.name), *map(_cell, row.cells)]


def _cell(cell: Cell) -> str:
    text = _text(cell.text)
    text = f"**{text}**" if cell.leads else text
    return f"{text} {_text(cell.detail)}".rstrip()


def _text(text: str) -> str:
    """Our own words and numbers, with markup characters escaped."""
    return _NUMBER_MARKUP.sub(r"\\\1", safe(text))


def code(name: str) -> str:
    """A name as a code span inside a table: a longer fence than any in it, and `|` escaped."""
    text = safe(name)
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    space = " " if text[:1] in "` " or text[-1:] in "` " else ""
    return f"{fence}{space}{text}{space}{fence}".replace("|", "\\|")

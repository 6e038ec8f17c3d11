r"""The tables and figures in LaTeX, for `\input` in a document with the packages booktabs and graphicx.

Every name is escaped. Characters that pdfLaTeX does not know are written as `U+1F600`, so a document compiles with
every engine.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from lossgauge.report.paper.tables import TITLES, PaperTable
from lossgauge.report.tables import Cell, Row
from lossgauge.terminal import safe

HEAD = r"""% Written by lossgauge. In the preamble:
%   \usepackage[T1]{fontenc}
%   \usepackage{booktabs, graphicx}
"""

_ESCAPED = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    # two hyphens would be a dash, and `[` after \\ an argument
    "-": "{-}",
    "[": "{[}",
    "]": "{]}",
    "\u00a0": "~",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "τ": r"$\tau$",
    "—": "---",
    "–": "--",
    "…": r"\ldots{}",
    "→": r"$\rightarrow$",
    "’": "'",
    "“": "``",
    "”": "''",
    **{
        raised: f"$^{{{plain}}}$"
        for raised, plain in zip("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789", strict=True)
    },
}


def latex(tables: Iterable[PaperTable], figures: Sequence[tuple[str, str]] = ()) -> str:
    """A `table` for each table, below them a `figure` for each file name and caption."""
    parts = [_table(table) for table in tables]
    parts += [_figure(name, caption) for name, caption in figures]
    return "\n".join([HEAD, *parts])


def _table(of: PaperTable) -> str:
    width = len(of.table.columns) + 1
    lines = [_row(row, width) for row in of.table.rows]
    reference = next((i for i, row in enumerate(of.table.rows) if row.kind in _UNRANKED), None)
    if reference:
        lines.insert(reference, r"\midrule")
    head = " & ".join(["loss", *map(escape, of.headers)])
    caption = f"{TITLES[of.name]} on {escape(of.dataset)}. {escape(of.caption)}"
    if of.settings:
        settings = "; ".join(f"{escape(name)}: {escape(text)}" for name, text in of.settings)
        caption += f" Settings: {settings}."
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{caption}}}",
            rf"\label{{tab:{of.name}-{_label(of.dataset)}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{l{'r' * (width - 1)}}}",
            r"\toprule",
            rf"{head} \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
            "",
        ]
    )


_UNRANKED = ("baseline", "reference")


def _row(row: Row, width: int) -> str:
    if row.kind == "failed":
        return rf"{escape(row.name)} & \multicolumn{{{width - 1}}}{{c}}{{failed}} \\"
    return rf"{' & '.join([escape(row.name), *map(_cell, row.cells)])} \\"


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    text = rf"\textbf{{{text}}}" if cell.leads else text
    return f"{text} {{\\small {escape(cell.detail)}}}" if cell.detail else text


def _figure(name: str, caption: str) -> str:
    return "\n".join(
        [
            r"\begin{figure}",
            r"\centering",
            rf"\includegraphics[width=\linewidth]{{{name}}}",
            rf"\caption{{{escape(caption)}}}",
            r"\end{figure}",
            "",
        ]
    )


def _label(dataset: str) -> str:
    """Letters, digits and hyphens of a name: other characters end a label."""
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in dataset)


def escape(text: str) -> str:
    """`text`, so that LaTeX prints it and runs nothing."""
    return "".join(map(_escaped, safe(text)))


def _escaped(character: str) -> str:
    if character in _ESCAPED:
        return _ESCAPED[character]
    # the T1 font has the letters of western and central Europe
    if character.isascii() or (character <= "\u017f" and unicodedata.category(character)[0] == "L"):
        return character
    return f"U+{ord(character):04X}"

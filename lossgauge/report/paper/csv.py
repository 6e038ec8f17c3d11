"""The tables as CSV with all digits, a file for each.   https://www.rfc-editor.org/rfc/rfc4180

Text that a spreadsheet would run as a formula begins with an apostrophe, as in `lossgauge export --quote-formulas`:
such a table is opened in a spreadsheet more often than by a program.   https://owasp.org/www-community/attacks/CSV_Injection
"""

from __future__ import annotations

import csv
import io

from lossgauge.report.paper.tables import paper_numbers, tables_of
from lossgauge.results.view import StudyView
from lossgauge.terminal import safe

_LEADING = ("dataset", "loss", "kind", "settings", "seeds")
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")


def csv_table(view: StudyView, name: str) -> str:
    """One of `tables_of`: for each column its mean and its half width, empty where they are not known."""
    columns = tables_of(view)[name]
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    numbers = [part for c in columns for part in (c.name, f"{c.name}_half_width")]
    writer.writerow([*_LEADING, *numbers])
    for of in paper_numbers(view, columns):
        texts = map(cell, (of.dataset, of.loss, of.kind, of.settings))
        found = [of.intervals[column.name] for column in columns]
        parts = [part for i in found for part in ((i.mean, i.half_width) if i else (None, None))]
        writer.writerow([*texts, of.seeds, *parts])
    return file.getvalue()


def cell(text: str) -> str:
    """`text` on one line, and as text: no spreadsheet runs it."""
    shown = safe(text)
    return f"'{shown}" if shown.startswith(_FORMULA) or text.startswith(_FORMULA) else shown

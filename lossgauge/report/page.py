"""The report as one file: it opens anywhere, asks nothing of the network and runs no script but its own.

A content security policy allows two scripts by their hash; data travels as JSON that cannot end its tag.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import yaml
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from lossgauge.report.advice import answers, question
from lossgauge.report.catalogue import FURTHER, GREEDINESS, METRICS, RETRIEVAL, VARIANCE
from lossgauge.report.curves import FROZEN
from lossgauge.report.figures import curves, not_in_plane, plane
from lossgauge.report.palette import (
    GREY,
    UNTRAINED,
    color_of,
    datasets_of,
    display_name,
    loss_order,
    losses_of,
)
from lossgauge.report.signs import grouped, signs
from lossgauge.report.tables import check_fingerprints, loss_table, overview
from lossgauge.report.theme import plot_text
from lossgauge.types import Record, Results

TABLES = (
    ("Retrieval and VARIANCE: the space at the end", (*RETRIEVAL, *VARIANCE)),
    ("GREEDINESS: how the loss spends its updates", GREEDINESS),
    ("Further readings", FURTHER),
)


OVERVIEW = ("recall_at_1", "test_intra", "compaction_epochs")


def write_page(results: Results, path: Path) -> Path:
    """`path`, now holding the report: whole or not at all. The same results give the same bytes.

    Raises InputError where rows of one dataset come from different splits.
    """
    html = page(results)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        temporary.write_text(html, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def page(results: Results) -> str:
    """The report as HTML; about 5 MB, nearly all of it plotly.js."""
    check_fingerprints(results)
    scripts = {"plotly": get_plotlyjs(), "report": _text("report.js")}
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["name"] = display_name
    environment.filters["plot_text"] = plot_text
    environment.filters["prose"] = lambda text: text.replace(" %", "\u00a0%")
    template = environment.from_string(_text("report.html"))
    return template.render(
        policy=_policy(scripts),
        # trusted: our own files and plotly's, and nothing of the results
        style=Markup(_text("report.css")),
        scripts={name: Markup(text) for name, text in scripts.items()},
        question=question(results),
        answers=answers(results),
        overview=overview(results, [METRICS[column] for column in OVERVIEW]),
        sections=[_section(results, name) for name in datasets_of(results)],
        signs=grouped(signs(results)),
        glossary=[(title, metrics) for title, metrics in TABLES],
        failures=results.failures,
        left_out=results.left_out,
        plan=_readable(results.plan),
        choices=results.choices,
        environment=results.environment,
        run_count=len(results.summaries),
    )


def figure_json(figure: go.Figure) -> Markup:
    """A figure as JSON for a script element: no `<`, `>` or `&`, so nothing in it can end the element."""
    text = json.dumps(figure.to_plotly_json(), sort_keys=True, default=_plain, allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _section(results: Results, dataset: str) -> Record:
    drawn = [r for r in results.epochs if r["dataset"] == dataset]
    losses = loss_order({str(r["loss"]) for r in drawn} & set(losses_of(results)))
    legend = [(loss, color_of(loss, losses_of(results))) for loss in losses]
    summaries = [r for r in results.summaries if r["dataset"] == dataset]
    if any(r["loss"] == UNTRAINED for r in summaries):
        legend.append((UNTRAINED, GREY))
    if any(r["dataset"] == dataset and r["reference"] == FROZEN for r in results.references):
        legend.append((FROZEN, GREY))
    return {
        "dataset": dataset,
        "tables": [loss_table(results, dataset, metrics, title=title) for title, metrics in TABLES],
        "legend": legend,
        "curves": figure_json(curves(results, dataset)) if drawn else None,
        "plane": figure_json(plane(results, dataset)) if summaries else None,
        "not_in_plane": not_in_plane(results, dataset),
        "seeds": len({row["seed"] for row in summaries}),
    }


def _policy(scripts: dict[str, str]) -> str:
    hashes = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in scripts.values()
    )
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    # plotly writes a style element and style attributes
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _readable(plan: Record) -> str:
    plain = json.loads(json.dumps(plan, default=_plain))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True) if plain else ""


def _plain(value: Any) -> Any:
    """What JSON does not know: numpy's numbers as Python's, all else as its text."""
    return value.item() if hasattr(value, "item") else str(value)


@cache
def _text(name: str) -> str:
    return (files("lossgauge.report") / name).read_text(encoding="utf-8")

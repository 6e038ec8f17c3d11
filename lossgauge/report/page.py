"""The report as one file: it opens anywhere, asks nothing of the network and runs no script but its own.

A content security policy allows two scripts by their hash; data travels as JSON that cannot end its tag.
"""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files

import yaml
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from lossgauge.portable import portable_results
from lossgauge.report.contents import datasets_of, tuned_of
from lossgauge.report.embed_json import plain
from lossgauge.report.figures.style import plot_text
from lossgauge.report.naming import display_name
from lossgauge.report.sections import TABLES, dataset_section, response_sections, tuning_sections
from lossgauge.report.tables import check_fingerprints, overview
from lossgauge.report.text.answer import answers, question
from lossgauge.report.text.claims import claims
from lossgauge.report.text.health_warnings import grouped, signs
from lossgauge.report.text.missing import missing, whole_datasets
from lossgauge.report.text.selection import selection
from lossgauge.report.text.tuning import budget
from lossgauge.results.columns import COLUMNS
from lossgauge.types import Record, Results

OVERVIEW = ("recall_at_1", "test_intra", "compaction_epochs")


def page(results: Results) -> str:
    """The report as HTML; about 5 MB, nearly all of it plotly.js. The same results give the same bytes.

    Raises InputError where rows of one dataset come from different splits.
    """
    results = portable_results(results)
    check_fingerprints(results)
    scripts = {"plotly": get_plotlyjs(), "report": _text("report.js")}
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, loader=FunctionLoader(_text)
    )
    environment.filters["name"] = display_name
    environment.filters["plot_text"] = plot_text
    environment.filters["prose"] = lambda text: text.replace(" %", "\u00a0%")
    return environment.get_template("report.html").render(
        policy=_policy(scripts),
        # trusted: our own files and plotly's, and nothing of the results
        style=Markup(_text("report.css")),
        scripts={name: Markup(text) for name, text in scripts.items()},
        question=question(results),
        selection=selection(results),
        answers=answers(results),
        overview=overview(results, [COLUMNS[column] for column in OVERVIEW]),
        tunings=tuning_sections(results),
        budget=budget(results),
        claims=claims(results),
        responses=response_sections(results),
        sections=[dataset_section(results, name) for name in datasets_of(results)],
        signs=grouped(signs(results)),
        glossary=[(title, metrics) for title, metrics in TABLES],
        missing=missing(results),
        left_out=whole_datasets(results.left_out),
        notes=[row for row in results.left_out if row.get("extent") == "part"],
        plan=_readable(results.plan),
        choices=results.assumptions,
        environment=results.environment,
        has_tuned=bool(tuned_of(results)),
    )


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
    readable = json.loads(json.dumps(plan, default=plain))
    return yaml.safe_dump(readable, sort_keys=False, allow_unicode=True) if readable else ""


@cache
def _text(name: str) -> str:
    return (files("lossgauge.report") / "templates" / name).read_text(encoding="utf-8")

"""The report as one file: it opens anywhere, loads nothing from the network and runs only its own scripts.

A content security policy allows two scripts by their hash; data is JSON that cannot end its tag.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import yaml
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup, escape

from lossgauge.claims.own_claims import NONE_OF_PAIRS
from lossgauge.plan.claim import ClaimPlan
from lossgauge.plan.study import without_effect
from lossgauge.report.embed_json import plain
from lossgauge.report.figures.style import plot_text
from lossgauge.report.naming import MARKS, display_name
from lossgauge.report.plotly_bundle import plotly_script
from lossgauge.report.sections import (
    dataset_sections,
    retrieval_charts,
    retrieval_tables,
    sensitivity_sections,
    tuning_sections,
)
from lossgauge.report.tables import overview
from lossgauge.report.text.answer import NO_ANSWER, answers, question
from lossgauge.report.text.claims import claims
from lossgauge.report.text.health_warnings import grouped, health_warnings
from lossgauge.report.text.interval_notes import interval_notes
from lossgauge.report.text.missing import datasets_left_out, missing, notes_on_data
from lossgauge.report.text.predictors import predictors
from lossgauge.report.text.query_changes import changed_queries
from lossgauge.report.text.ranks import ranks
from lossgauge.report.text.selection import selection
from lossgauge.report.text.short_answer import short_answer
from lossgauge.report.text.tuning import budget
from lossgauge.report.your_data import your_data
from lossgauge.results.columns import COLUMNS, Column
from lossgauge.results.view import StudyView
from lossgauge.terminal import safe
from lossgauge.types import Record


def page(view: StudyView, own_claims: Sequence[ClaimPlan] = (), *, full: bool = False) -> str:
    """The report as HTML; 1.5 MB of it are plotly.js. The same results give the same bytes.

    The first screen holds the answer; the rest is folded, unless `full`. Raises InputError where rows of one dataset come from
    different splits.
    """
    view = view.portable()
    view.check_one_split()
    warnings = health_warnings(view)
    content = {
        "full": full,
        "question": question(view),
        "selection": selection(view),
        "short": short_answer(view),
        "advice": view.results.answer,
        "charts": retrieval_charts(view),
        "retrieval_tables": retrieval_tables(view),
        "answers": answers(view),
        "no_answer": NO_ANSWER,
        "overview": overview(view, _overview_columns(view)),
        "ranks": ranks(view),
        "intervals": interval_notes(view),
        "tunings": tuning_sections(view),
        "budget": budget(view),
        "claims": claims(view, own_claims),
        "sensitivities": sensitivity_sections(view),
        "predictors": predictors(view),
        "sections": dataset_sections(view),
        "your_data": your_data(view),
        "changed": changed_queries(view),
        "health_warnings": grouped(warnings),
        "levels": Counter(warning.finding.level for warning in warnings),
        "glossary": _glossary(view),
        "measures": view.measures,
        "has_untrained": any(map(view.untrained, view.datasets)),
        "none_of_pairs": NONE_OF_PAIRS.replace("'", "’"),
        "missing": missing(view),
        "left_out": datasets_left_out(view),
        "notes": notes_on_data(view),
        "plan": _readable(_with_effect(view)),
        "assumptions": view.assumptions,
        "environment": view.environment,
        "has_tuned": bool(view.tuned),
    }
    return render("report.html", **content, contents=_contents(content))


def _overview_columns(view: StudyView) -> list[Column]:
    """The first column of retrieval, and the two that do not rank."""
    by_name = {column.name: column for column in view.measures.retrieval}
    others = view.measures.overview[len(view.retrieval) :]
    return [view.retrieval[0], *(by_name.get(name, COLUMNS[name]) for name in others)]


def _glossary(view: StudyView) -> list[tuple[str, tuple[Column, ...]]]:
    """Every column of the tables, each once."""
    of = view.measures
    retrieval = [("Retrieval", of.retrieval)] if view.of_pairs else []
    return [*retrieval, *of.tables, *of.further]


class Entry(NamedTuple):
    """A line of the table of contents."""

    id: str
    title: str


def _contents(content: Record) -> list[Entry]:
    """The parts of the page, in its order; only those that this study has."""
    sections = content["sections"]
    entries = [
        ("answer", "The answer", True),
        ("advice", "The advice", content["advice"]),
        ("your-data", "Your data", content["your_data"]),
        ("changed-queries", "Better and worse queries", content["changed"]),
        ("details", "The answer in detail", content["answers"]),
        ("health-warnings", "Is this normal?", content["health_warnings"]),
        *(
            (f"set-{n}", f"{section.dataset}: tables, curves", True)
            for n, section in enumerate(sections, start=1)
        ),
        ("overview", "At a glance", len(sections) > 1),
        ("ranks", "Ranks", content["ranks"]),
        ("tuned", "Tuned and default", content["tunings"]),
        ("claims", "Claims", content["claims"]),
        ("sensitivity", "Over the settings", content["sensitivities"]),
        ("predictors", "Which diagnostic predicts?", content["predictors"]),
        ("missing", "What is missing", content["missing"].lost),
        ("settings", "How this study was made", True),
        ("glossary", "What each number means", True),
    ]
    return [Entry(id, title) for id, title, present in entries if present]


def render(template: str, **content: object) -> str:
    """A page of `templates/`, with the scripts, the style and the policy of the report."""
    return _environment().get_template(template).render(**content)


@cache
def _environment() -> Environment:
    """The templates, with the filters and names that they share."""
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        loader=FunctionLoader(_text),
        finalize=_visible,
    )
    environment.filters["name"] = display_name
    environment.filters["plot_text"] = plot_text
    environment.filters["breakable"] = breakable
    environment.filters["prose"] = lambda text: text.replace(" %", "\u00a0%")
    environment.globals["marks"] = {name: Markup(path) for name, path in MARKS.items()}
    scripts = {"plotly": plotly_script(), "report": _text("report.js")}
    scripts["your_data"] = _text("your_data.js")
    # trusted: our own files and plotly's, and nothing from the results
    environment.globals["scripts"] = {name: Markup(text) for name, text in scripts.items()}
    environment.globals["style"] = Markup(_text("report.css") + _text("your_data.css"))
    environment.globals["policy"] = _policy(scripts)
    return environment


def _visible(value: object) -> object:
    r"""A text with its control and format characters written as `\x1b`, since they would reorder or hide text.

    Line ends stay. What is HTML already is not changed.
    """
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "\n".join(map(safe, value.split("\n")))


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


def _with_effect(view: StudyView) -> Record:
    """The plan; of queries and documents without the keys that say nothing about them."""
    if not view.of_pairs:
        return view.plan
    hidden = without_effect(view.plan)
    return {key: value for key, value in view.plan.items() if key not in hidden}


def _readable(plan: Record) -> str:
    readable = json.loads(json.dumps(plan, default=plain))
    return yaml.safe_dump(readable, sort_keys=False, allow_unicode=True) if readable else ""


def _text(name: str) -> str:
    return (files("lossgauge.report") / "templates" / name).read_text(encoding="utf-8")


def breakable(name: str) -> Markup:
    """A name whose lines may end after `(`, `=` and `_`, rather than inside a word."""
    return Markup(re.sub(r"([(=_])(?=.)", r"\1<wbr>", str(escape(_visible(name))), flags=re.DOTALL))

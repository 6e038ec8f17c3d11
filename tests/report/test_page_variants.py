"""The page of a study that tunes and varies its losses, as a file and in a real browser."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lossgauge.report.page import page
from lossgauge.results.view import StudyView
from lossgauge.types import Results
from tests.support.browser import HOSTILE, Reader
from tests.support.made_up_study import columns_of, make_results

FIGURES = 2 * 5
"""Retrieval, training curves, trade-off, trials and sensitivity, on two datasets."""


def study() -> Results:
    return make_results(
        tuned=True, factors=(0.25, 0.5, 2.0, 4.0), protocols=("halves", "class-disjoint")
    )


def small_study() -> Results:
    return make_results(losses=("triplet", "scl"), seeds=(0, 1), tuned=True, factors=(0.5, 2.0))


def page_of(results: Results) -> str:
    return page(StudyView(results))


@pytest.fixture(scope="module")
def html() -> str:
    return page_of(study())


@pytest.fixture(scope="module")
def written(html, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def hostile_html() -> str:
    return page_of(hostile())


def hostile() -> Results:
    """A study whose every name tries to break out."""
    results = study()
    evil = f"evil.py:{HOSTILE}"
    parts = ("summaries", "epochs", "failures", "sensitivity", "trials", "tuned", "references")
    for r in [r for part in parts for r in getattr(results, part)]:
        r["dataset"] = HOSTILE if r["dataset"] == "digits" else r["dataset"]
        for column in ("loss", "base"):
            if str(r.get(column, "")).startswith("scl"):
                r[column] = r[column].replace("scl", evil)
        if r.get("protocol"):
            r["protocol"] = HOSTILE
        for column in ("settings", "error"):
            r[column] = HOSTILE
        if "trial" in r:
            r[f"setting_{HOSTILE}"] = 1.0 + (r["trial"] or 0)
    results.plan["datasets"] = [HOSTILE, "orl-faces"]
    results.plan["selection"] = "oracle"
    results.plan["selection_metric"] = HOSTILE
    results.plan["tune"]["sampler"] = HOSTILE
    return results


def test_the_sections_are_there_for_such_a_study_and_not_for_another(html, varied, results):
    plain = page_of(results)
    for heading in (
        "Tuned and default",
        "Over the settings",
        "how the verdicts change with the settings",
    ):
        assert heading in html
        assert heading not in plain
    assert "Claims of the paper" in html
    assert "Claims of the paper" in plain
    trials = len({r["run"] for r in varied.trials if r["objective"] is not None})
    rows = (*varied.summaries, *varied.sensitivity)
    runs = len({r["run"] for r in rows}) + trials
    assert f"{runs} runs finished, {trials} of them trials" in html
    assert f"{len(results.summaries)} runs finished ·" in plain
    assert "Trials that failed" in html
    assert re.search(r"<b>scl on orl-faces</b>: 1 of 12 trials: the loss became NaN", html)


def test_an_unfinished_study_says_what_is_waiting(results):
    waits = [columns_of("orl-faces", "scl", seed) for seed in (1, 2)]
    rows = [r for r in results.summaries if (r["dataset"], r["loss"]) != ("orl-faces", "scl")]
    part = results._replace(summaries=rows, epochs=[], waiting=waits, expected=len(rows) + 1 + 5)
    html = page_of(part)
    assert f"{len(rows)} of {len(rows) + 6} runs finished" in html
    assert "5 waiting" in html
    assert "<b>scl on orl-faces</b>: seeds 1, 2" in html
    assert "<b>Searches</b>: 3 runs not scheduled yet" in html
    assert "scl has not finished yet" in html


def test_the_same_study_gives_the_same_bytes():
    assert page_of(small_study()) == page_of(small_study())


def test_names_cannot_break_out(hostile_html):
    reader = Reader(hostile_html)
    assert not any(tag == "img" for tag, _ in reader.tags)
    assert not any(name.startswith("on") for _, attributes in reader.tags for name in attributes)
    assert len(reader.json) == FIGURES
    for block in reader.json:
        assert json.loads(block)["data"]
        assert not re.search(r"[<>&\u2028]", block)


def test_untrained_and_random_stand_in_the_main_table_of_every_dataset(html):
    for number in (1, 2):
        section = html[html.index(f'<section id="set-{number}"') :]
        table = section[section.index("<table") : section.index("</table>")]
        assert "untrained" in table
        assert "random unit vectors" in table


@pytest.mark.parametrize(
    "without", ["summaries", "epochs", "tuned", "trials", "sensitivity", "references"]
)
def test_a_page_is_written_whatever_part_is_not_there(without):
    assert "<h1>" in page_of(small_study()._replace(**{without: []}))


def test_rows_of_the_future_with_hardly_a_column_are_enough():
    tuned = columns_of("d", "my.py:Pull", 0, "tuned")
    bare = Results({}, {}, [tuned], [{**tuned, "epoch": 1}], [], [], [], {})
    varied = columns_of("d", "my.py:Pull", 0, "sensitivity")
    chosen = {"dataset": "d", "base": "my.py:Pull", "loss": "my.py:Pull(tuned)"}
    trial = {**columns_of("d", "my.py:Pull", 0, "trial"), "trial": 0}
    html = page_of(bare._replace(sensitivity=[varied], tuned=[chosen], trials=[trial]))
    assert "my.py:Pull" in html

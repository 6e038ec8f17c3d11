"""The page of a study that tunes and varies its losses, as a file and in a real browser."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lossgauge.report.output import write_page
from lossgauge.report.page import page
from lossgauge.types import Results
from tests.report.conftest import make_results
from tests.report.visiting import HOSTILE, WIDTHS, Reader
from tests.waiting import wait_for

FIGURES = 4 + 2 + 2
"""Curves, plane, trials and response, on two datasets."""


def study() -> Results:
    return make_results(
        tuned=True, factors=(0.25, 0.5, 2.0, 4.0), protocols=("halves", "class-disjoint")
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """The study's page, written once."""
    return write_page(study(), tmp_path_factory.mktemp("page") / "report.html")


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


def test_the_sections_are_there_for_such_a_study_and_not_for_another(written, varied, results):
    told, plain = written.read_text(encoding="utf-8"), page(results)
    for heading in ("Tuned and default", "Over the settings", "how the verdicts move"):
        assert heading in told
        assert heading not in plain
    assert "Claims of the paper" in told
    assert "Claims of the paper" in plain
    trials = len({r["run"] for r in varied.trials if r["objective"] is not None})
    rows = (*varied.summaries, *varied.sensitivity)
    runs = len({r["run"] for r in rows}) + trials
    assert f"{runs} runs finished, {trials} of them trials" in told
    assert f"{len(results.summaries)} runs finished ·" in plain
    assert "Trials that failed" in told
    assert re.search(r"<b>scl on orl-faces</b>: 1 of 12 trials: the loss became NaN", told)


def test_an_unfinished_study_says_what_is_waiting(results):
    waits = [
        {"run": f"s{seed}", "dataset": "orl-faces", "loss": "scl", "base": "scl", "seed": seed}
        for seed in (1, 2)
    ]
    rows = [r for r in results.summaries if (r["dataset"], r["loss"]) != ("orl-faces", "scl")]
    part = results._replace(summaries=rows, epochs=[], waiting=waits, expected=len(rows) + 1 + 5)
    html = page(part)
    assert f"{len(rows)} of {len(rows) + 6} runs finished" in html
    assert "5 waiting" in html
    assert "<b>scl on orl-faces</b>: seeds 1, 2" in html
    assert "<b>A search</b>: has still to name 3 runs" in html
    assert "scl has not finished yet" in html


def test_the_same_study_gives_the_same_bytes(written):
    assert page(study()) == written.read_text(encoding="utf-8")


def test_names_cannot_break_out():
    reader = Reader(page(hostile()))
    assert not any(tag == "img" for tag, _ in reader.tags)
    assert not any(name.startswith("on") for _, attributes in reader.tags for name in attributes)
    assert len(reader.json) == FIGURES
    for block in reader.json:
        assert json.loads(block)["data"]
        assert not re.search(r"[<>&\u2028]", block)


def test_untrained_and_random_stand_in_the_main_table_of_every_dataset(written):
    html = written.read_text(encoding="utf-8")
    for number in (1, 2):
        section = html[html.index(f'<section id="set-{number}"') :]
        table = section[section.index("<table>") : section.index("</table>")]
        assert "untrained" in table
        assert "random unit vectors" in table


@pytest.mark.parametrize(
    "without", ["summaries", "epochs", "tuned", "trials", "sensitivity", "references"]
)
def test_a_page_is_written_whatever_part_is_not_there(varied, without):
    assert "<h1>" in page(varied._replace(**{without: []}))


def test_rows_of_the_future_with_hardly_a_column_are_enough():
    columns = {"run": "r", "dataset": "d", "loss": "my.py:Pull(tuned)", "seed": 0}
    tuned = {**columns, "base": "my.py:Pull", "variant": "tuned"}
    bare = Results({}, {}, [tuned], [{**tuned, "epoch": 1}], [], [], [], {})
    varied = {**columns, "variant": "sensitivity", "base": "my.py:Pull"}
    chosen = {"dataset": "d", "base": "my.py:Pull", "loss": "my.py:Pull(tuned)"}
    trial = {**columns, "trial": 0}
    html = page(bare._replace(sensitivity=[varied], tuned=[chosen], trials=[trial]))
    assert "my.py:Pull" in html


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_draws_everything_within_its_width(written, visit, width, scheme):
    seen = visit(written, width=width, scheme=scheme)
    assert seen.troubles == []
    assert seen.tab.locator(".js-plotly-plot").count() == FIGURES
    assert seen.tab.evaluate("document.documentElement.scrollWidth") <= width
    for folded in seen.tab.locator("details").all():
        folded.evaluate("element => { element.open = true; }")
    trials = seen.tab.locator("#trials-1 .main-svg").first
    least = 0.85 * (width - 64) * (1180 / 1366 if width > 1180 else 1)
    wait_for(lambda: trials.bounding_box()["width"] > least)
    assert seen.tab.evaluate("document.documentElement.scrollWidth") <= width
    assert seen.troubles == []


def test_hostile_names_are_shown_as_text_and_run_nothing(tmp_path, visit):
    seen = visit(write_page(hostile(), tmp_path / "report.html"), width=390)
    assert seen.troubles == []
    assert seen.tab.locator("img").count() == 0
    assert seen.tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert HOSTILE in seen.tab.locator("#tuned").inner_text()


def test_tuned_losses_are_off_until_their_button_or_the_switch_shows_them(written, visit):
    tab = visit(written, width=1366).tab
    lines = tab.locator("#curves-2 path.js-line")
    box = tab.locator("#set-2 .figures")
    before = lines.count()
    box.locator("button[data-group='triplet(tuned)']").click()
    assert lines.count() == before + 6
    box.locator("button[data-all=tuned]").click()
    assert box.locator("button[data-group=triplet]").get_attribute("aria-pressed") == "false"
    assert box.locator("button[data-group=untrained]").get_attribute("aria-pressed") == "true"
    box.locator("button[data-all=default]").click()
    assert lines.count() == before
    box.locator("button[data-all=true]").click()
    assert lines.count() == before + 7 * 6


def test_the_oracle_is_red_on_light_and_on_dark(tmp_path, visit):
    results = make_results()
    results.plan["selection"] = "oracle"
    path = write_page(results, tmp_path / "report.html")
    for scheme in ("light", "dark"):
        tab = visit(path, width=390, scheme=scheme).tab
        warning = tab.locator("header .warning")
        assert warning.is_visible()
        color = warning.evaluate("element => getComputedStyle(element).color")
        red, green, blue = map(int, re.findall(r"\d+", color)[:3])
        assert red > 1.5 * max(green, blue)

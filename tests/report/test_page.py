"""The page as a file and in a real browser: nothing leaks out, nothing breaks in, everything is drawn."""

from __future__ import annotations

import json
import re

import pytest

from lossgauge.errors import InputError
from lossgauge.report.output import GENERATOR, write_page
from lossgauge.types import Results
from tests.report.conftest import make_results
from tests.report.visiting import HOSTILE, WIDTHS, Reader
from tests.waiting import wait_for


def hostile() -> Results:
    """A study whose every name tries to break out."""
    results = make_results(datasets=("digits", HOSTILE), losses=("triplet", "scl"))
    for r in [*results.summaries, *results.epochs, *results.failures]:
        if r["loss"] == "scl":
            r["loss"] = f"evil.py:{HOSTILE}"
        r["settings"] = HOSTILE
    return results._replace(
        assumptions={HOSTILE: HOSTILE},
        environment={HOSTILE: HOSTILE},
        left_out=[{"dataset": HOSTILE, "reason": HOSTILE}],
        failures=[*results.failures, {**results.failures[0], "error": HOSTILE}],
        plan={"question": HOSTILE, HOSTILE: [HOSTILE]},
    )


def test_the_page_is_one_file_with_question_answer_and_both_datasets(results, tmp_path):
    written = write_page(results, tmp_path / "deep" / "report.html")
    text = written.read_text(encoding="utf-8")
    assert written == tmp_path / "deep" / "report.html"
    assert "What do these seven losses do to this embedding space?" in text
    assert "the loss became NaN in epoch 4" in text
    assert "not found under cars196" in text
    assert [path.name for path in written.parent.iterdir()] == ["report.html"]


def test_plotly_is_in_the_page_once_and_nothing_is_loaded(results, tmp_path):
    text = write_page(results, tmp_path / "report.html").read_text(encoding="utf-8")
    assert text.count("plotly.js v") == 1
    for tag, attributes in Reader(text).tags:
        assert "src" not in attributes, (tag, attributes)
        if tag == "link":
            assert attributes["href"] == "data:,"


def test_the_same_results_give_the_same_bytes(tmp_path):
    first = write_page(make_results(), tmp_path / "a.html").read_bytes()
    assert write_page(make_results(), tmp_path / "b.html").read_bytes() == first


def test_names_cannot_break_out_of_text_attributes_or_json(tmp_path):
    text = write_page(hostile(), tmp_path / "report.html").read_text(encoding="utf-8")
    reader = Reader(text)
    assert not any(tag == "img" for tag, _ in reader.tags)
    assert not any(name.startswith("on") for _, attributes in reader.tags for name in attributes)
    assert len(reader.json) == 4
    for block in reader.json:
        assert json.loads(block)["data"]
        assert not re.search(r"[<>&\u2028]", block)


def test_two_splits_in_one_table_are_refused_before_anything_is_written(results, tmp_path):
    results.summaries[0]["fingerprint"] = "another"
    with pytest.raises(InputError, match="share one split"):
        write_page(results, tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "sparse",
    [
        Results({}, {}, [], [], [], [], [], {}),
        make_results(seeds=(0,), losses=("scl",), datasets=("a",)),
        make_results()._replace(epochs=[]),
        make_results()._replace(summaries=[]),
        make_results()._replace(references=[], plan={}),
    ],
    ids=["nothing", "one run", "no epochs", "no summaries", "no references"],
)
def test_a_page_is_written_from_whatever_there_is(sparse, tmp_path):
    assert "<h1>" in write_page(sparse, tmp_path / "report.html").read_text(encoding="utf-8")


def test_rows_with_hardly_a_column_are_enough(tmp_path):
    columns = {"run": "r", "dataset": "d", "loss": "my.py:Pull", "seed": 0}
    bare = Results(
        {}, {}, [columns], [{**columns, "epoch": 0}, {**columns, "epoch": 1}], [], [], [], {}
    )
    assert "my.py:Pull" in write_page(bare, tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("width", WIDTHS)
def test_a_browser_draws_everything_and_complains_of_nothing(results, tmp_path, visit, width):
    seen = visit(write_page(results, tmp_path / "report.html"), width=width)
    assert seen.troubles == []
    assert seen.tab.locator(".js-plotly-plot").count() == 4
    for figure in seen.tab.locator("[id^=curves]").all():
        assert figure.locator("path.js-line").count() >= 7 * 6
    for figure in seen.tab.locator("[id^=plane]").all():
        assert figure.locator(".points path").count() >= 7
    assert seen.tab.evaluate("document.documentElement.scrollWidth") <= width


def test_hostile_names_are_shown_as_text_and_run_nothing(tmp_path, visit):
    seen = visit(write_page(hostile(), tmp_path / "report.html"), width=390)
    assert seen.troubles == []
    assert HOSTILE in seen.tab.locator("h1").inner_text()
    assert seen.tab.locator("img").count() == 0
    assert seen.tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert seen.tab.locator(".annotation-text", has_text="<img").count() == 2  # a label a plane


def test_the_legend_switches_a_loss_off_in_both_figures(results, tmp_path, visit):
    tab = visit(write_page(results, tmp_path / "report.html"), width=1366).tab
    lines = tab.locator("#curves-1 path.js-line")
    labels = tab.locator("#plane-1 .annotation-text", has_text="triplet")
    before = lines.count()
    assert labels.count() == 1
    button = tab.locator(".figures").first.locator("button[data-group=triplet]")
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert lines.count() <= before - 6
    assert labels.count() == 0
    tab.locator(".figures").first.locator("button[data-all=true]").click()
    assert lines.count() == before


def test_a_columns_title_explains_itself_on_touch(results, tmp_path, visit):
    tab = visit(write_page(results, tmp_path / "report.html"), width=390).tab
    about = tab.locator("#about-test_intra")
    assert not about.is_visible()
    tab.locator("button[popovertarget=about-test_intra]").first.click()
    assert about.is_visible()
    assert "Mean squared distance" in about.inner_text()


def test_figures_read_on_dark_also_when_it_falls_dark_later(results, tmp_path, visit):
    page = write_page(results, tmp_path / "report.html")

    def darkest_channel(tab):
        color = tab.evaluate("getComputedStyle(document.querySelector('.xtick text')).fill")
        return min(map(int, re.findall(r"\d+", color)[:3]))

    seen = visit(page, width=390, scheme="dark")
    assert darkest_channel(seen.tab) > 200
    later = visit(page, width=390)
    assert darkest_channel(later.tab) < 60
    later.tab.emulate_media(color_scheme="dark")
    wait_for(lambda: darkest_channel(later.tab) > 200)
    assert seen.troubles == later.troubles == []


def test_a_page_says_in_its_head_what_made_it(results, tmp_path):
    assert GENERATOR in write_page(results, tmp_path / "page.html").read_bytes()[:4096]

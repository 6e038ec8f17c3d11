"""The page as a file and in a real browser: nothing leaks out, nothing breaks in, everything is drawn."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lossgauge.errors import InputError
from lossgauge.report.output import GENERATOR, write_page
from lossgauge.report.page import breakable, page
from lossgauge.results.view import StudyView
from lossgauge.types import Results
from tests.support.browser import HOSTILE, Reader
from tests.support.made_up_study import columns_of, make_results, no_results


def page_of(results: Results) -> str:
    return page(StudyView(results))


@pytest.fixture(scope="module")
def html() -> str:
    """The page of the made-up study."""
    return page_of(make_results())


@pytest.fixture(scope="module")
def written(html, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html, encoding="utf-8")
    return path


def hostile() -> Results:
    """A study whose every name tries to break out."""
    results = make_results(datasets=("digits", HOSTILE), losses=("triplet", "scl"))
    for r in [*results.summaries, *results.epochs, *results.failures]:
        if r["loss"] == "scl":
            r["loss"] = r["base"] = f"evil.py:{HOSTILE}"
        r["settings"] = HOSTILE
    return results._replace(
        assumptions={HOSTILE: HOSTILE},
        environment={HOSTILE: HOSTILE},
        left_out=[{"dataset": HOSTILE, "reason": HOSTILE}],
        failures=[*results.failures, {**results.failures[0], "error": HOSTILE}],
        plan={"question": HOSTILE, HOSTILE: [HOSTILE]},
    )


@pytest.fixture(scope="module")
def hostile_html() -> str:
    return page_of(hostile())


def test_the_page_is_one_file_with_question_answer_and_both_datasets(view, html, tmp_path):
    written = write_page(view, tmp_path / "deep" / "report.html")
    assert written == tmp_path / "deep" / "report.html"
    assert [path.name for path in written.parent.iterdir()] == ["report.html"]
    assert "What do these seven losses do to this embedding space?" in html
    assert "the loss became NaN in epoch 4" in html
    assert "not found under cars196" in html
    # the same results give the same bytes
    assert written.read_bytes() == html.encode()


def test_plotly_is_in_the_page_once_and_nothing_is_loaded(html):
    assert html.count("plotly.js (cartesian - minified) v") == 1
    assert len(html.encode()) < 4e6
    for tag, attributes in Reader(html).tags:
        assert "src" not in attributes, (tag, attributes)
        if tag == "link":
            assert attributes["href"] == "data:,"


def test_names_cannot_break_out_of_text_attributes_or_json(hostile_html):
    reader = Reader(hostile_html)
    assert not any(tag == "img" for tag, _ in reader.tags)
    assert not any(name.startswith("on") for _, attributes in reader.tags for name in attributes)
    assert len(reader.json) == 6
    for block in reader.json:
        assert json.loads(block)["data"]
        assert not re.search(r"[<>&\u2028]", block)


def test_escape_sequences_and_right_to_left_marks_are_visible_on_the_page():
    results = make_results(losses=("triplet", "scl"))
    text = "\x1b[2J \u202egnp.exe"
    for r in [*results.summaries, *results.epochs]:
        if r["loss"] == "scl":
            r["loss"] = r["base"] = f"evil.py:{text}"
    failures = [{**results.failures[0], "error": text}]
    html = page_of(results._replace(failures=failures, plan={"question": text}))
    assert r"<h1>\x1b[2J \u202egnp.exe</h1>" in html
    words = re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL)
    assert "\x1b" not in words
    assert "\u202e" not in words
    figures = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', html, re.DOTALL)
    assert figures
    assert not any("\u202e" in json.dumps(json.loads(f), ensure_ascii=False) for f in figures)


def test_two_splits_in_one_table_are_refused_before_anything_is_written(results, varied, tmp_path):
    results.summaries[-1]["fingerprint"] = "another"
    with pytest.raises(InputError, match=r"one split.*'orl-faces'"):
        write_page(StudyView(results), tmp_path / "report.html")
    varied.sensitivity[0]["fingerprint"] = "another"
    with pytest.raises(InputError, match=r"one split.*'digits'"):
        write_page(StudyView(varied), tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "sparse",
    [
        no_results(),
        make_results(seeds=(0,), losses=("scl",), datasets=("a",)),
        make_results()._replace(epochs=[]),
        make_results()._replace(summaries=[]),
        make_results()._replace(references=[], plan={}),
    ],
    ids=["nothing", "one run", "no epochs", "no summaries", "no references"],
)
def test_a_page_is_made_from_whatever_there_is(sparse):
    assert "<h1>" in page_of(sparse)


def test_rows_with_hardly_a_column_are_enough():
    columns = columns_of("d", "my.py:Pull", 0)
    epochs = [{**columns, "epoch": 0}, {**columns, "epoch": 1}]
    assert "my.py:Pull" in page_of(Results({}, {}, [columns], epochs, [], [], [], {}))


def test_a_page_says_in_its_head_what_made_it(html):
    assert GENERATOR in html.encode()[:4096]


def test_the_table_of_contents_leads_to_every_part_and_to_nothing_else(html):
    reader = Reader(html)
    ids = [attributes.get("id") for _, attributes in reader.tags]
    links = [
        a["href"] for tag, a in reader.tags if tag == "a" and (a.get("href") or "").startswith("#")
    ]
    assert {link[1:] for link in links} <= set(ids)
    contents = html[html.index('<nav class="contents"') : html.index("</nav>")]
    listed = re.findall(r'href="#([^"]+)"', contents)
    parts = [a["id"] for tag, a in reader.tags if tag == "section"]
    assert listed == parts
    assert len(set(ids) - {None}) == sum(one is not None for one in ids)


def test_the_answer_is_open_the_rest_is_folded_and_full_unfolds_it(html, view):
    folds = r'<section id="[^"]+" class="fold">\s*<details( open)?>'
    assert set(re.findall(folds, html)) == {""}
    assert set(re.findall(folds, page(view, full=True))) == {" open"}


def test_claims_that_no_dataset_can_test_are_in_one_folded_line(html):
    assert html.count("Not tested by this study: 3, 7b") == 1
    badges = html[html.index('<p class="badges">') :]
    badges = badges[: badges.index("</p>")]
    assert "not tested" not in badges
    assert not re.search(r">[a-z ]+: [^<]*\b(3|7b)\b", badges)


def test_a_long_name_may_break_after_a_sign_and_stays_text():
    assert breakable("scl(a_b=1)") == "scl(<wbr>a_<wbr>b=<wbr>1)"
    assert breakable("<b>\x1b") == r"&lt;b&gt;\x1b"

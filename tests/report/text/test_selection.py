"""Which epoch counts, and the warning where the test side picked it."""

from __future__ import annotations

from lossgauge.report.page import page
from lossgauge.report.text.selection import WARNING, judged_by, selection
from lossgauge.results.view import StudyView
from tests.support.made_up_study import make_results


def with_rule(rule: str):
    results = make_results()
    results.plan["selection"] = rule
    for r in results.summaries:
        r["selected_epoch"] = 7 + r["seed"]
    return StudyView(results)


def test_the_last_epoch_counts_where_nothing_is_said(view):
    assert selection(view).rule == "last"
    assert not selection(view).flagged
    html = page(view)
    assert WARNING not in html
    assert "The last epoch of each run counts." in html


def test_an_oracle_is_flagged_at_the_top_and_in_every_section():
    assert selection(with_rule("oracle")).flagged
    html = page(with_rule("oracle"))
    body = html[html.index("<body>") :]
    assert 'class="warning"' in body[: body.index("</header>")]
    assert WARNING in body[: body.index("</header>")]
    for part in ("claims", "set-1", "set-2", "settings"):
        section = body[body.index(f'<section id="{part}"') :]
        assert WARNING in section[: section.index("</section>")], part


def test_best_validation_is_a_plain_line():
    shown = selection(with_rule("best-validation"))
    assert not shown.flagged
    assert "best MAP@R on a validation slice of the training side" in shown.sentence
    assert shown.sentence.endswith("The epochs picked lie between 7 and 9.")
    html = page(with_rule("best-validation"))
    assert html.count(shown.sentence) >= 3
    assert 'class="warning"' not in html


def test_the_selected_epoch_is_a_column_only_where_it_is_known():
    title = 'popovertarget="about-selected_epoch"'
    assert title not in page(StudyView(make_results()))
    assert title in page(with_rule("best-validation"))


def test_what_was_judged_by_is_named_as_in_the_tables(results):
    assert judged_by(StudyView(results)) == "MAP@R"
    results.plan["selection_metric"] = "recall_at_1"
    assert judged_by(StudyView(results)) == "R@1"


def test_the_epochs_picked_are_those_of_losses_and_not_of_the_untrained_head():
    results = make_results()
    results.plan["selection"] = "oracle"
    for r in results.summaries:
        r["selected_epoch"] = 0 if r["loss"] == "untrained" else 5 + r["seed"]
    assert selection(StudyView(results)).sentence.endswith("The epochs picked lie between 5 and 7.")

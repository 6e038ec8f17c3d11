"""One layout of findings on the pages of a study, a probe and a diagnosis."""

from __future__ import annotations

import re

from lossgauge.health.finding import Finding
from lossgauge.loop.page import page as probe_page
from lossgauge.report.page import page, render
from lossgauge.results.view import StudyView
from tests.support.made_up_study import make_results

FOUND = [
    Finding("cone", "act", "the space <b>", "offset 0.93", "below 0.5", "All point one way.", "center them"),
    Finding("rank", "ok", "the space", "rank 40", "above 2"),
]  # fmt: skip
ITEM = re.compile(
    r'<li class="finding (act|watch|ok)"><p class="words"><span class="level \1">\1</span>'
)


def diagnosis_page(findings: list[Finding]) -> str:
    return render(
        "diagnosis.html",
        name="rows.npz",
        facts="",
        notes=[],
        findings=findings,
        lines=[],
        tables=[],
        against=None,
        changes=[],
    )


def test_a_probe_and_a_diagnosis_show_the_same_list():
    lists = []
    for html in (probe_page([], [], FOUND, ["triplet"]), diagnosis_page(FOUND)):
        start = html.index('<ul class="findings-list">')
        lists.append(html[start : html.index("</section>", start)])
    assert lists[0].split() == lists[1].split()
    assert [m[1] for m in ITEM.finditer(lists[0])] == ["act"]
    for text in ("cone", "the space &lt;b&gt;", "offset 0.93", "below 0.5", "All point one way."):
        assert text in lists[0]
    assert "Try: center them." in lists[0]
    assert "Checked, and normal (1)" in lists[0]


def test_without_a_problem_both_say_so():
    for html in (probe_page([], [], FOUND[1:], ["triplet"]), diagnosis_page(FOUND[1:])):
        assert "No known problem was found." in html
        assert not ITEM.search(html)


def test_a_report_uses_the_same_layout():
    results = make_results(losses=("triplet", "scl"))
    for r in results.summaries:
        if r["base"] == "triplet":
            r["recall_at_1"] = r["map_at_r"] = 0.2 + 0.001 * r["seed"]
    html = page(StudyView(results))
    assert "act" in [m[1] for m in ITEM.finditer(html)]

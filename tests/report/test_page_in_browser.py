"""The page in a real browser: what the first screen holds, what folds, what is linked, and that no name acts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lossgauge.report.page import page
from lossgauge.results.view import StudyView
from lossgauge.types import Results
from tests.support.browser import HOSTILE, Visit
from tests.support.made_up_study import make_results
from tests.support.waiting import wait_for

pytestmark = pytest.mark.browser

DATASET_CHARTS = 2
"""Curves and trade-off of each dataset, in folded parts."""


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """The page of the made-up study."""
    return write(make_results(), tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def varied_page(tmp_path_factory) -> Path:
    """The page of a study that tunes and varies its losses."""
    factors, protocols = (0.25, 0.5, 2.0, 4.0), ("halves", "class-disjoint")
    results = make_results(tuned=True, factors=factors, protocols=protocols)
    return write(results, tmp_path_factory.mktemp("varied"))


def write(results: Results, folder: Path) -> Path:
    path = folder / "report.html"
    path.write_text(page(StudyView(results)), encoding="utf-8")
    return path


def test_the_first_screen_answers_and_all_charts_are_linked(written, visit):
    seen = visit(written, width=1366)
    tab = seen.tab
    check_that_the_folded_page_is_short(tab)
    assert seen.barriers() == []
    check_that_a_link_opens_its_part_and_the_contents_stay(tab)
    check_that_the_tables_fit_and_sort_by_keyboard(tab)
    assert seen.barriers("#set-1") == []
    check_that_the_legend_hides_a_loss_in_all_charts(tab)
    check_that_a_hover_shows_one_loss_in_all_panels(tab)
    seen.unfold()
    check_that_no_two_tick_labels_overlap(tab)
    assert seen.too_wide() == []
    check_that_printing_unfolds_draws_and_folds_again(tab)
    assert seen.troubles == []


def test_a_phone_in_the_dark_has_it_all_within_its_width(written, visit):
    seen = visit(written, width=390)
    check_that_figures_follow_when_it_turns_dark(seen.tab)
    seen.unfold()
    assert seen.too_wide() == []
    curves = seen.tab.locator("#training-curves-1 .main-svg").first.bounding_box()
    assert curves["height"] > 2 * curves["width"]  # one column
    check_that_no_two_tick_labels_overlap(seen.tab)
    check_that_a_title_explains_itself(seen.tab)
    assert seen.troubles == []


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 820, 1366])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_study_with_every_part_is_drawn_at_all_widths(varied_page, visit, width, scheme):
    seen = visit(varied_page, width=width, scheme=scheme)
    seen.unfold()
    assert seen.too_wide() == []
    check_that_no_two_tick_labels_overlap(seen.tab)
    assert seen.barriers() == []
    if width > 500:
        check_that_tuned_losses_are_off_until_a_button_or_the_switch_shows_them(seen.tab)
    check_that_printing_unfolds_draws_and_folds_again(seen.tab)
    assert seen.troubles == []


def check_that_the_folded_page_is_short(tab) -> None:
    height = tab.evaluate("document.documentElement.scrollHeight")
    words = tab.locator("body").inner_text().split()
    assert height <= 6 * 900
    assert len(words) <= 1200
    first = [tab.locator(name).first for name in ("h1", ".headline", ".badges", "#retrieval-1 svg")]
    for part in first:
        box = part.bounding_box()
        assert box["y"] + box["height"] <= 900
    assert tab.locator("p.headline").count() <= 3
    # a chart in a closed part has no width, so it is not drawn yet
    assert tab.locator(".js-plotly-plot").count() == 2
    assert tab.locator("#retrieval-1 .points path").count() == 2 * 7


def check_that_a_link_opens_its_part_and_the_contents_stay(tab) -> None:
    for number in (2, 1):
        tab.locator(f".contents a[href='#set-{number}']").click()
        assert tab.locator(f"#set-{number} > details").get_attribute("open") is not None
        assert tab.locator(f"#set-{number} .js-plotly-plot").count() == DATASET_CHARTS
    assert tab.evaluate("scrollY") > 300
    contents = tab.locator(".contents").bounding_box()
    assert -1 <= contents["y"] <= 1
    for curves in tab.locator("[id^=training-curves]").all():
        assert curves.locator("path.js-line").count() >= 7 * 6
        assert curves.locator(".main-svg").first.bounding_box()["width"] > 900


def check_that_the_tables_fit_and_sort_by_keyboard(tab) -> None:
    box = tab.locator("#set-1 .scroll[aria-label^='GREEDINESS: how']")
    assert box.evaluate("e => e.scrollWidth <= e.clientWidth")
    heads = box.locator("thead th").all_inner_texts()
    assert heads[1].startswith("compaction")
    names = box.locator("tbody tr.loss th")
    before = names.all_inner_texts()
    button = box.locator("thead th").nth(1).locator("button.sort")
    for order in ("descending", "ascending"):
        button.focus()
        tab.keyboard.press("Enter")
        assert box.locator("th[aria-sort]").get_attribute("aria-sort") == order
        cells = box.locator("tbody tr.loss td:nth-child(2) span").all_inner_texts()
        values = [float(cell) for cell in cells if re.fullmatch(r"[\d.]+", cell)]
        assert len(values) >= 6
        assert values == sorted(values, reverse=order == "descending")
    assert sorted(names.all_inner_texts()) == sorted(before)
    outline = button.evaluate("e => getComputedStyle(e).outlineStyle")
    assert outline == "solid"


def check_that_the_legend_hides_a_loss_in_all_charts(tab) -> None:
    lines = tab.locator("#training-curves-1 path.js-line, #training-curves-2 path.js-line")
    labels = tab.locator("[id^=tradeoff] .annotation-text", has_text="triplet")
    marks = tab.locator("#retrieval-1 .points path")
    before = lines.count(), labels.count(), marks.count()
    box = tab.locator("#set-1 .legend")
    box.locator("button[data-group=triplet]").click()
    for button in tab.locator(".legend button[data-group=triplet]").all():
        assert button.get_attribute("aria-pressed") == "false"
    assert lines.count() == before[0] - 2 * 6 * 2  # lines and bands
    assert labels.count() == 0
    assert marks.count() == before[2] - 2
    box.locator("button[data-all=true]").click()
    assert (lines.count(), labels.count(), marks.count()) == before


def check_that_a_hover_shows_one_loss_in_all_panels(tab) -> None:
    chart = tab.locator("#training-curves-1")
    chart.scroll_into_view_if_needed()
    x, y = tab.evaluate(
        """() => {
          const chart = document.getElementById("training-curves-1");
          const { xaxis, yaxis } = chart._fullLayout;
          const line = chart._fullData.find((t) => t.legendgroup === "contrastive" && t.hovertemplate);
          const box = chart.querySelector(".nsewdrag").getBoundingClientRect();
          return [box.left + xaxis.d2p(line.x[20]), box.top + yaxis.d2p(line.y[20])];
        }"""
    )
    tab.mouse.move(x - 40, y)
    tab.mouse.move(x, y)
    shown = chart.locator(".hovertext")
    wait_for(lambda: shown.count() == 6)
    for text in shown.all_text_contents():
        assert "contrastive" in text
        assert "epoch 20: " in text
    assert any("±" in text for text in shown.all_text_contents())
    dimmed = tab.locator("#training-curves-1 .trace.dimmed").first
    assert float(dimmed.evaluate("e => getComputedStyle(e).opacity")) < 0.5
    tab.mouse.move(5, 5)
    wait_for(lambda: tab.locator(".hovertext").count() == 0)
    wait_for(lambda: tab.locator(".trace.dimmed").count() == 0)


def check_that_no_two_tick_labels_overlap(tab) -> None:
    overlaps = tab.evaluate(
        """() => {
          const found = [];
          for (const kind of ["xtick", "ytick"])
            for (const plot of document.querySelectorAll(".js-plotly-plot")) {
              const groups = new Map();
              for (const text of plot.querySelectorAll(`.${kind} text`)) {
                const parent = text.closest("[class$=-above], .xaxislayer-above, .yaxislayer-above, g");
                const axis = [...text.parentNode.classList].find((name) => name !== kind) || "";
                groups.set(axis, [...(groups.get(axis) || []), text]);
              }
              for (const [axis, texts] of groups) {
                const boxes = texts.map((t) => t.getBoundingClientRect()).filter((b) => b.width);
                boxes.forEach((a, i) => boxes.slice(i + 1).forEach((b) => {
                  const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
                  const up = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
                  if (across > 1 && up > 3) found.push([plot.id, axis, across, up]);
                }));
              }
            }
          return found;
        }"""
    )
    assert overlaps == []


def check_that_printing_unfolds_draws_and_folds_again(tab) -> None:
    tab.evaluate("document.querySelectorAll('.fold > details').forEach(d => { d.open = false; })")
    tab.emulate_media(media="print")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.locator(".fold > details:not([open])").count() == 0
    assert tab.locator(".js-plotly-plot").count() == tab.locator("script[data-for]").count()
    assert all(
        width == 690
        for width in tab.evaluate(
            "[...document.querySelectorAll('.js-plotly-plot')].map(p => p._fullLayout.width)"
        )
    )
    assert tab.locator("#set-1 .legend button[data-group]").first.is_visible()
    assert not tab.locator(".contents").is_visible()
    head = tab.locator("#set-1 thead").first
    assert head.evaluate("e => getComputedStyle(e).display") == "table-header-group"
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    tab.emulate_media(media="screen")
    assert tab.locator(".fold > details[open]").count() == 0


def check_that_a_title_explains_itself(tab) -> None:
    about = tab.locator("#about-test_intra")
    assert not about.is_visible()
    tab.locator("button[popovertarget=about-test_intra]").first.click()
    assert about.is_visible()
    assert "Mean squared distance" in about.inner_text()
    tab.keyboard.press("Escape")


def darkest_channel(tab) -> int:
    color = tab.evaluate("getComputedStyle(document.querySelector('.xtick text')).fill")
    return min(map(int, re.findall(r"\d+", color)[:3]))


def check_that_figures_follow_when_it_turns_dark(tab) -> None:
    assert darkest_channel(tab) < 60
    tab.emulate_media(color_scheme="dark")
    wait_for(lambda: darkest_channel(tab) > 200)


def check_that_tuned_losses_are_off_until_a_button_or_the_switch_shows_them(tab) -> None:
    lines = tab.locator("#training-curves-2 path.js-line")
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


ACTS = "window.acted=1"
PAYLOADS = [
    HOSTILE,
    *(
        f"{before}<{tag} {event}={ACTS}>{after}"
        for tag, event in (
            ("img src=x", "onerror"),
            ("svg", "onload"),
            ("body", "onload"),
            ("video src=x", "onerror"),
            ("details open", "ontoggle"),
            ("input autofocus", "onfocus"),
            ("a autofocus tabindex=1", "onfocus"),
            ("marquee", "onstart"),
            ("iframe", "onload"),
            ("style", "onload"),
        )
        for before, after in (("", ""), ("\"'>", ""), ("</script>", ""), ("</style></title>", ""), ("-->", "<!--"))
    ),
    *(
        f"{before}<script>{ACTS}</script>{after}"
        for before, after in (
            ("", ""),
            ("\"'>", ""),
            ("</script>", ""),
            ("</textarea>", ""),
            ("]]>", ""),
            ("<svg>", "</svg>"),
            ("<math>", "</math>"),
            ("<noscript>", "</noscript>"),
        )
    ),
    *(
        f"<a href='{scheme}{ACTS}'>x</a>"
        for scheme in ("javascript:", "JaVaScRiPt:", "\tjavascript:", "data:text/html,<script>", "vbscript:")
    ),
    *(f"{{{{{code}}}}}" for code in ("7*7", "config", "''.__class__.__mro__", "scripts.plotly", "[].constructor")),
    *(f"{{% {code} %}}" for code in ("include 'x'", "raw", "endraw", "if 1")),
    *(f"%{{{key}}}" for key in ("x", "y", "customdata", "fullData.name", "x:.9999f")),
    "<extra></extra>",
    "<b>bold</b><br><i>x</i>",
    "<a href=\"javascript:window.acted=1\" target=_self>link</a>",
    "$x^2$ \\(\\alpha\\)",
    "\x00\x07\x1b[31mred\x1b[0m",
    "\u202eright to left\u202c \u2066x",
    "שלום עולם مرحبا بالعالم",
    "👩‍👩‍👧‍👦🏳️‍🌈" * 20,
    "ﷺ" * 40,
    "Z̷̧̡̢̛̛̛̮͎̱̞̩̟̰̈́̈́̈́̈́͠" * 20,
    "x" * 300,
    "long words " * 30,
    "a\u00ad" * 150,
    "\n\r\t  \u2028\u2029",
    "'; window.acted=1; //",
    '"; window.acted=1; //',
    "`${window.acted=1}`",
    "</details></section></main><h1>broken</h1>",
    "<!-- <script>",
    "&lt;img src=x onerror=alert(1)&gt;",
    "&#60;script&#62;",
    "constructor",
    "__proto__",
    "toString",
    "=cmd|'/c calc'!A0",
    "../../etc/passwd",
    "%3Cscript%3E",
    "<base href=https://example.invalid/>",
    "<meta http-equiv=refresh content=0;url=https://example.invalid/>",
    "<link rel=stylesheet href=https://example.invalid/x.css>",
    "<form action=https://example.invalid><button>send",
]  # fmt: skip


def test_a_hundred_hostile_names_are_shown_as_text_and_do_nothing(tmp_path, visit):
    assert len(set(PAYLOADS)) >= 100
    seen = visit(write(hostile(), tmp_path), width=390)
    seen.unfold()
    check_that_nothing_acted(seen)
    buttons = seen.tab.locator(".legend").first.locator("button[data-group]")
    for button in buttons.all():
        button.click()  # a hostile key finds its traces too
    seen.tab.set_viewport_size({"width": 1366, "height": 900})
    check_that_nothing_acted(seen)
    environment = seen.tab.locator("#settings .pairs.tight dt").all_text_contents()
    assert len(environment) == len(set(PAYLOADS))
    for text in ("{{7*7}}", "%{customdata}", "<script>window.acted=1</script>", "__proto__"):
        assert text in environment
    assert any(HOSTILE in name for name in seen.tab.locator("#set-1 th").all_text_contents())


def hostile() -> Results:
    """A study whose names are all the payloads: each in the environment, and a part of them in each name that charts show."""
    results = make_results(
        datasets=("digits", "orl-faces"), losses=("triplet", "scl", "ccl"), seeds=(0, 1)
    )
    part = len(PAYLOADS) // 4 + 1
    names = [" ".join(PAYLOADS[n * part : (n + 1) * part]) for n in range(4)]
    renamed = {"scl": f"evil.py:{names[0]}", "ccl": f"more.py:{names[1]}"}
    datasets = {"digits": names[2], "orl-faces": names[3]}
    parts = ("summaries", "epochs", "failures", "trials", "tuned", "references")
    for r in [r for part in parts for r in getattr(results, part)]:
        r["dataset"] = datasets[r["dataset"]]
        for column in ("loss", "base"):
            for old, new in renamed.items():
                if str(r.get(column, "")).startswith(old):
                    r[column] = r[column].replace(old, new, 1)
        for column in ("settings", "error"):
            if column in r:
                r[column] = names[0]
    plan = {
        **results.plan,
        "datasets": list(datasets.values()),
        "question": PAYLOADS[0] + "x" * 300,
    }
    return results._replace(
        plan=plan,
        environment={payload: payload for payload in PAYLOADS},
        assumptions={payload: payload for payload in PAYLOADS[:20]},
        left_out=[{"dataset": names[0], "reason": names[1]}],
    )


def check_that_nothing_acted(seen: Visit) -> None:
    assert seen.troubles == []
    assert seen.tab.evaluate("window.acted") is None
    for tag in ("img", "iframe", "video", "marquee", "form", "base", "input", "math"):
        assert seen.tab.locator(f"main {tag}").count() == 0, tag
    assert seen.tab.locator("h1").count() == 1
    assert seen.tab.locator("[onload], [onerror], [onfocus], [ontoggle], [onstart]").count() == 0
    assert seen.tab.locator("a[href^='javascript' i]").count() == 0
    assert seen.too_wide() == []

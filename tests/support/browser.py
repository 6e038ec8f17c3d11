"""A page as a reader has it: its tags, and in a real browser that reports everything that goes wrong."""

from __future__ import annotations

import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.support.waiting import PATIENCE

HOSTILE = "</script><img src=x onerror=alert(1)><b>'\"&amp;"
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
WIDTHS = (390, 1366)
HEIGHTS = {1366: 900}
"""Of a laptop; of other widths, that of a phone."""
AXE = Path(__file__).with_name("axe") / "axe.min.js"
"""axe-core 4.14.1 from npm (MPL-2.0): finds what a screen reader or a keyboard cannot use."""


class Reader(HTMLParser):
    """Tags of a page, and the text of its JSON blocks."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.json: list[str] = []
        self.in_json = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.in_json = tag == "script" and dict(attrs).get("type") == "application/json"
        if self.in_json:
            self.json.append("")

    def handle_endtag(self, tag):
        self.in_json = False

    def handle_data(self, data):
        if self.in_json:
            self.json[-1] += data


@pytest.fixture(scope="session")
def browser():
    if BROWSER is None:
        pytest.skip("no Chromium on this machine: put chromium or google-chrome on PATH")
    from playwright.sync_api import sync_playwright

    switches = (
        "no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
        "disable-component-update disable-sync"
    )
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=BROWSER, args=[f"--{switch}" for switch in switches.split()]
        )
        yield chromium
        chromium.close()


class Visit:
    """A page opened from disk; all that went wrong is in `troubles`."""

    def __init__(self, browser, path, *, width: int, scheme: str = "light") -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": HEIGHTS.get(width, 844)},
            color_scheme=scheme,
            reduced_motion="reduce",
        )
        self.context.set_default_timeout(1e3 * PATIENCE)
        self.tab = self.context.new_page()
        self.troubles: list[str] = []
        # violations of the policy are console errors in Chromium
        self.tab.on("console", lambda m: self._note(f"{m.type}: {m.text}", m.type != "log"))
        self.tab.on("pageerror", lambda error: self._note(f"script error: {error}", True))
        self.tab.on("dialog", lambda dialog: self._note(f"dialog: {dialog.message}", True))
        self.tab.on("request", lambda r: self._note(f"request: {r.url}", not self._allowed(r.url)))
        self.address = path.as_uri()
        self.tab.goto(self.address)
        self.tab.wait_for_function("document.documentElement.dataset.drawn !== undefined")

    def unfold(self) -> None:
        """Open every part of the page; return when all its charts are drawn."""
        self.tab.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        count = self.tab.locator("script[data-for]").count()
        self.tab.wait_for_function(
            f"document.querySelectorAll('.js-plotly-plot').length === {count}"
        )

    def barriers(self, within: str = "html") -> list[str]:
        """What axe-core finds serious or critical; a whole unfolded page takes it most of a minute."""
        self.tab.evaluate(AXE.read_text(encoding="utf-8"))
        run = "where => axe.run(where, {resultTypes: ['violations']})"
        found = self.tab.evaluate(run, within)["violations"]
        return [
            f"{one['impact']}: {one['id']}: {one['nodes'][0]['html'][:200]}"
            for one in found
            if one["impact"] in ("serious", "critical")
        ]

    def too_wide(self) -> list[str]:
        """What sticks out of the window, if the page scrolls sideways."""
        return self.tab.evaluate(
            """() => document.documentElement.scrollWidth <= innerWidth ? [] :
              [...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1)
                .slice(0, 3).map(e => e.outerHTML.slice(0, 120))"""
        )

    def _note(self, text: str, bad: bool) -> None:
        if bad:
            self.troubles.append(text)

    def _allowed(self, url: str) -> bool:
        return url == self.address or url.startswith("data:")


@pytest.fixture
def visit(browser):
    visits: list[Visit] = []

    def open_page(path, **settings) -> Visit:
        visits.append(Visit(browser, path, **settings))
        return visits[-1]

    yield open_page
    for made in visits:
        made.context.close()

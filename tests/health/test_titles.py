"""Every finding has a title, and docs/findings.md an entry with it."""

from __future__ import annotations

import re

import pytest

from lossgauge.health.titles import TITLES
from tests.support.documents import ROOT

ENTRIES = dict(
    re.findall(r"^### (\S+)\n\n\*\*(.+?)[.:]?\*\*", (ROOT / "docs/findings.md").read_text(), re.M)
)
SOURCES = "".join(
    path.read_text()
    for folder in ("lossgauge/health", "lossgauge/report/text")
    for path in sorted((ROOT / folder).glob("*.py"))
)


def test_every_name_in_a_rule_has_a_title_and_every_title_a_rule():
    named = set(re.findall(r'\b[fF]inding\(\s*"([a-z-]+)"', SOURCES))
    assert named == set(TITLES)


@pytest.mark.parametrize("name", TITLES)
def test_every_title_begins_its_entry(name):
    words = ENTRIES[name]
    assert words[0].lower() + words[1:] == TITLES[name]

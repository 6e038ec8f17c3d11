"""The vendored drawing library: the file of npm, and able to draw all that the pages ask of it."""

from __future__ import annotations

import hashlib
import json
import re
from importlib.resources import files

from lossgauge.loop.page import curves
from lossgauge.report.page import page
from lossgauge.report.plotly_bundle import SHA256, TRACES, VERSION, plotly_script
from lossgauge.results.view import StudyView
from tests.support.browser import Reader


def test_it_is_the_file_of_its_version_with_its_licence():
    folder = files("lossgauge.report") / "vendor"
    script = (folder / "plotly-cartesian.min.js").read_bytes()
    assert hashlib.sha256(script).hexdigest() == SHA256
    assert script.decode() == plotly_script()
    assert f"plotly.js (cartesian - minified) v{VERSION}" in plotly_script()[:100]
    assert "</script" not in plotly_script().lower()
    licence = (folder / "plotly-cartesian.LICENSE").read_text(encoding="utf-8")
    assert "Permission is hereby granted, free of charge" in licence


def test_it_registers_the_traces_that_it_is_said_to_draw():
    registered = set(re.findall(r'moduleType:"trace",name:"(\w+)"', plotly_script()))
    assert registered == TRACES


def test_every_chart_uses_only_such_traces(varied):
    figures = [json.loads(text) for text in Reader(page(StudyView(varied))).json]
    rows = [{"step": n, "loss_value": 1.0 / n} for n in (1, 2, 3)]
    probe = curves(rows, [])
    assert probe is not None
    types = {trace["type"] for figure in (*figures, probe) for trace in figure["data"]}
    assert len(figures) >= 8
    assert types <= TRACES

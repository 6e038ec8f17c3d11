"""What is written about a study of queries and documents: the page, the console, tables and figures for print, the claims."""

from __future__ import annotations

import csv
import io
import re
from html import unescape

import pytest

from lossgauge.advice.verdict import verdict
from lossgauge.claims.own_claims import NONE_OF_PAIRS, claims_of
from lossgauge.diagnostics.references import FROZEN
from lossgauge.report.comparison import COMPARED, compare
from lossgauge.report.figures.retrieval import retrieval
from lossgauge.report.figures.training_curves import (
    PAIR_PANELS,
    grey_lines,
    panels_of,
    training_curves,
)
from lossgauge.report.page import page
from lossgauge.report.paper.csv import csv_table
from lossgauge.report.paper.figures import paper_figures
from lossgauge.report.paper.tables import paper_tables, tables_of
from lossgauge.report.sections import retrieval_tables
from lossgauge.report.text.answer import answers
from lossgauge.report.text.claims import claims
from lossgauge.report.text.health_warnings import findings_of_run, health_warnings
from lossgauge.report.text.predictors import predictors
from lossgauge.report.text.result_table import result_lines
from lossgauge.results.measures import OF_PAIRS
from lossgauge.results.reader import read_study
from lossgauge.results.view import StudyView
from lossgauge.stats.number_format import shown
from tests.support.command_line import run_cli

OF_CLASSES = re.compile(
    r"class|(?<!MR)R@\d|R@k|MAP@R|R-precision|\bintra\b|\binter\b|compact|frozen features|untrained"
    r"|trade-off|people|ViT-B|embedding_size|hidden_size|center_features",
    re.I,
)


def text_of(html: str) -> str:
    """What a reader sees, with all parts unfolded."""
    shown = re.sub(r"<(script|style)\b.*?</\1>", "", html, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", shown)).split())


@pytest.fixture(scope="module")
def view(pair_study) -> StudyView:
    return read_study(pair_study)


@pytest.fixture(scope="module")
def dataset(view) -> str:
    (name,) = view.datasets
    return name


@pytest.fixture(scope="module")
def html(view) -> str:
    return page(view, full=True)


def test_the_page_says_nothing_about_classes_but_that_the_claims_are(html):
    text = text_of(html).replace("’", "'")
    assert text.count(NONE_OF_PAIRS) == 1
    assert (
        "two families for each dataset and quantity: all losses against the raw model; and each"
        in text
    )
    found = OF_CLASSES.search(text.replace(NONE_OF_PAIRS, ""))
    assert found is None, text[found.start() - 80 : found.end() + 80]


def test_the_first_screen_has_every_measure_of_every_loss_and_its_gain(view, dataset, html):
    (of,) = retrieval_tables(view)
    levels, gains = of.tables
    titles = ["nDCG@10", "MRR@10", "Recall@1", "Recall@10", "Recall@100"]
    for table in of.tables:
        assert [column.title for column in table.columns] == titles
    names = [loss.name for loss in view.losses]
    assert [row.name for row in levels.rows] == [
        *names,
        *("raw model", "centered raw model", "random unit vectors"),
    ]
    assert [row.name for row in gains.rows] == names
    for row in levels.rows[:-1]:
        assert all(cell.detail.startswith("± ") for cell in row.cells)
    raw = next(row for row in view.references(dataset) if row["reference"] == FROZEN)
    assert levels.rows[-3].cells[0].text == shown(raw["ndcg_at_10"], "percent")
    for row in gains.rows:
        for column, cell in zip(gains.columns, row.cells, strict=True):
            start = view.reference_runs(dataset, row.loss, FROZEN)
            over = view.contrast([view.runs(dataset, row.loss)], [start], column.name)
            assert cell.value == over.mean
            assert cell.leads <= over.excludes_zero
    answer = text_of(html[html.index('id="answer"') : html.index('id="changed-queries"')])
    assert all(title in answer for title in titles)
    assert "as in lossgauge diagnose" in answer
    assert "95 % intervals over new seeds and new queries (40 test queries, 3 seeds)" in answer


def test_advise_gives_the_levels_of_the_page_over_queries_too(view, dataset):
    found = verdict(view, dataset, "ranking")
    assert found.levels == {
        loss: view.interval(dataset, loss, "ndcg_at_10") for loss in found.losses
    }
    assert {level.over for level in found.levels.values()} == {"new seeds and new queries"}


def test_a_gain_that_is_clear_is_bold_and_a_clear_loss_is_named(view, dataset):
    results = view.results
    values = {"mnrl": 0.9, "relaxed": 0.9, "triplet": 0.01, "gist": 0.01}
    raised = [
        {
            **row,
            "ndcg_at_10": values[row["base"]] + 0.001 * row["seed"] * (row["base"] != "relaxed"),
        }
        if row["base"] in values
        else row
        for row in results.summaries
    ]
    planted = StudyView(results._replace(summaries=raised))  # without the answers of its runs
    (of,) = retrieval_tables(planted)
    cells = {row.name: row.cells[0] for row in of.tables[1].rows}
    assert cells["mnrl"].leads
    assert (cells["gist"].leads, cells["gist"].detail.endswith(", worse")) == (False, True)
    # equal values of three seeds have no interval over seeds
    assert (cells["relaxed"].leads, cells["relaxed"].detail) == (
        False,
        "no spread between the seeds",
    )


def test_the_console_has_the_order_and_the_names_of_the_page(view, dataset):
    lines = [line for line in result_lines(view) if line]
    names = [line[:24].strip() for line in lines[1:-3]]
    (of,) = retrieval_tables(view)
    assert names == [row.name for row in of.tables[0].rows][:-1]
    assert lines[-3:] == [
        "“clearly”, below: after the correction for all comparisons (Holm)",
        "gain: points above the raw model; ±: 95 % intervals, each by itself",
        f"over new seeds and new queries: {dataset}",
    ]
    for line, row in zip(lines[1:], of.tables[1].rows, strict=False):
        assert f"{row.cells[0].text} {row.cells[0].detail.removesuffix(', worse')}" in line


def test_tables_for_print_have_the_measures_of_the_study(view, dataset):
    assert [*tables_of(view)] == ["retrieval", "space", "greediness"]
    rows = list(csv.DictReader(io.StringIO(csv_table(view, "retrieval"))))
    columns = [
        name for name in rows[0] if name not in ("dataset", "loss", "kind", "settings", "seeds")
    ]
    assert columns[::2] == [column.name for column in OF_PAIRS.retrieval]
    raw = next(row for row in rows if row["loss"] == "raw model")
    half = view.reference_interval(dataset, view.references(dataset)[0], "mrr_at_10").half_width
    assert float(raw["mrr_at_10_half_width"]) == half
    assert [row["loss"] for row in rows][:-3] == [loss.name for loss in view.losses]
    tables = list(paper_tables(view))
    assert tables[0].headers[:2] == ["nDCG@10 (%)", "MRR@10 (%)"]
    for table in tables:
        words = " ".join([table.caption, *table.headers, *(row.name for row in table.table.rows)])
        assert not OF_CLASSES.search(words), words
    assert "over new seeds and new queries; none without spread" in tables[0].caption
    assert "over new seeds; none for one seed" in tables[1].caption


def test_figures_show_retrieval_and_a_space_without_classes(view, dataset):
    assert panels_of(view) == PAIR_PANELS
    assert grey_lines(view, dataset) == "raw model (dotted)"
    curves = training_curves(view, dataset)
    assert {line["name"] for line in curves["data"]} >= {"raw model", "mnrl"}
    # uniformity is below 0, and so is its band
    number = next(n for n, p in enumerate(PAIR_PANELS, start=1) if p.column == "test_uniformity")
    bands = [line for line in curves["data"] if "fill" in line and line["yaxis"] == f"y{number}"]
    assert bands
    assert all(max(band["y"]) < 0 for band in bands)
    drawn = retrieval(view, dataset)
    titles = [annotation["text"] for annotation in drawn["layout"]["annotations"]]
    assert titles == ["nDCG@10", "nDCG@10: gain over the raw model, in points"]
    start = view.reference_runs(dataset, view.losses[0], FROZEN)
    over = view.contrast([view.runs(dataset, view.losses[0])], [start], "ndcg_at_10")
    mark = next(
        line for line in drawn["data"] if line["xaxis"] == "x2" and line["mode"] == "markers"
    )
    assert mark["x"] == [pytest.approx(100 * over.mean, rel=1e-4)]
    assert mark["error_x"]["arrayminus"] == [pytest.approx(100 * over.half_width, rel=1e-4)]
    pytest.importorskip("matplotlib")
    printed = list(paper_figures(view))
    assert [of.name for of in printed] == ["curves"]
    assert printed[0].caption.endswith("Grey lines are the raw model (dotted).")
    axes = [axis.get_title(loc="left") for axis in printed[0].figure.axes]
    assert axes[:2] == ["nDCG@10", "pair alignment"]


def test_no_sentence_and_no_finding_speaks_of_classes(view, dataset, monkeypatch):
    for answer in answers(view):
        said = [answer.headline, *(part for finding in answer.findings for part in finding)]
        assert not OF_CLASSES.search(" ".join(said)), said
        assert {finding.topic for finding in answer.findings} == {
            *("Compared with no training", "Retrieval", "Updates")
        }
    for loss in view.losses:
        for finding in findings_of_run(view, dataset, loss, 0):
            words = " ".join([finding.evidence, finding.reference, finding.why, finding.advice])
            assert not re.search("class", words), finding
    worse = [
        {**row, "ndcg_at_10": 0.001 * row["seed"], "mrr_at_10": 0.001 * row["seed"]}
        if row["base"] == "gist"
        else row
        for row in view.results.summaries
    ]
    planted = StudyView(view.results._replace(summaries=worse))
    # its few epochs are too little training to call it harm
    monkeypatch.setattr("lossgauge.report.text.health_warnings._too_little", lambda of: [])
    (harm,) = (one for one in health_warnings(planted) if one.finding.name == "training-harms")
    assert harm.words == (
        "training makes retrieval worse: nDCG@10 and MRR@10 are both below those of the raw model"
    )


def test_the_papers_claims_are_not_tested_but_own_ones_are(view, dataset, pair_study):
    assert claims_of(view) == ()
    assert claims(view) is None
    own = {
        "claim": "mnrl is ahead.",
        "losses": ["mnrl"],
        "than": ["gist"],
        "column": "ndcg_at_10",
        "direction": "higher",
    }
    stated = StudyView(view.results._replace(plan={**view.plan, "claims": [own]}), view.files)
    shown_claims = claims(stated)
    assert shown_claims is not None
    assert (shown_claims.title, len(shown_claims.lines)) == ("Your claims", 1)
    assert shown_claims.not_tested == ()
    done = run_cli("claims", pair_study)
    assert done.stdout.strip() == NONE_OF_PAIRS


def test_two_studies_are_compared_by_their_measures(view):
    found = compare(view, view, ("one", "two"))
    assert {of.column for of in found.differences} == {
        column.name for column in (*OF_PAIRS.retrieval, *OF_PAIRS.space)
    }
    assert COMPARED[2] == OF_PAIRS.retrieval
    assert not found.verdicts


def test_diagnostics_are_compared_with_the_measure_of_the_study(view, dataset, monkeypatch):
    monkeypatch.setattr("lossgauge.report.text.predictors.FEWEST_POINTS", 3)
    (found,) = predictors(view)
    assert found.target == "nDCG@10"
    assert found.words.startswith("test nDCG@10 of all losses")
    assert "uniformity, train" in dict(found.rows)

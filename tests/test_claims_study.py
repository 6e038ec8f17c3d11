"""The page of measured claims: made of the tables that are committed beside it."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.claims_study import __main__ as study
from lossgauge.claims.sensitivity import movements
from lossgauge.claims.statements import CLAIMS
from lossgauge.results.view import StudyView
from tests.support.made_up_study import make_results


@pytest.fixture
def view() -> StudyView:
    return StudyView(make_results(tuned=True, factors=(0.5, 2.0)))


def test_every_verdict_of_a_study_stands_on_its_page(view):
    tables = study.made(view, "1234abc")
    page = study.page(tables)
    for dataset in view.datasets:
        for move in movements(view, dataset):
            assert f"**{move.claim.key}. {move.claim.words}**" in page
            line = next(
                line
                for line in page.partition(f"**{move.claim.key}. ")[2].splitlines()
                if line.startswith(f"| {dataset} ")
            )
            cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
            assert cells[1].startswith(move.default.status)
            assert cells[2].startswith(move.tuned.status)
            assert len(cells) == 5
    assert len(tables["verdicts"]) == sum(
        4 * len(movements(view, dataset)) for dataset in view.datasets
    )


def test_the_tables_survive_a_file(view, tmp_path):
    tables = study.made(view, "1234abc")
    for name, table in tables.items():
        pq.write_table(table, tmp_path / f"{name}.parquet")
    read = {name: pq.read_table(tmp_path / f"{name}.parquet") for name in study.MADE}
    assert study.page(read) == study.page(tables)


def test_a_page_without_a_table_of_diagnostics_is_a_page(view):
    tables = study.made(view, "1234abc") | {"predictors": pa.Table.from_pylist([])}
    assert "## Which diagnostic" in study.page(tables)


@pytest.mark.skipif(not study.PAGE.is_file(), reason="run python -m benchmarks.claims_study FOLDER")
def test_the_page_in_docs_is_that_of_the_committed_tables():
    assert study.PAGE.read_text(encoding="utf-8") == study.page(study.read())
    sizes = [(study.HERE / f"{name}.parquet").stat().st_size for name in (*study.MADE, *study.KEPT)]
    assert sum(sizes) < 2_000_000
    assert {claim.key for claim in CLAIMS} >= {
        row["claim"] for row in study.read()["verdicts"].to_pylist()
    }

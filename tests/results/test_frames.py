import json
import math
import shutil
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest

import lossgauge
from lossgauge.errors import InputError, MissingExtra, StudyError
from lossgauge.files import read_json, read_rows
from lossgauge.notebook import load_study
from lossgauge.portable import without_folders
from lossgauge.report.output import write_page
from lossgauge.results.columns import CLOCK_COLUMNS, PER_QUERY, TABLES
from lossgauge.results.layout import RUN_TABLES
from lossgauge.results.reader import read_study
from lossgauge.results.tables import StudyTables, as_table
from lossgauge.results.writer import Store
from tests.support.studies import small_plan

RUN = ("run", "dataset", "loss", "base", "variant", "seed")


def asked(folder, *variants):
    """Rows of study.json whose run is done, as it lists them."""
    study = json.loads((folder / "study.json").read_text())
    return [
        row
        for row in study["runs"]
        if row["variant"] in variants and (folder / "runs" / row["run"]).is_dir()
    ]


def said(folder, run, name):
    return read_json(folder / "runs" / run / f"{name}.json")


def without_clock(row):
    return {key: value for key, value in row.items() if key not in CLOCK_COLUMNS}


def assert_holds(table, rows):
    """Each row says what is expected, and null where that lacks a column."""
    found = table.to_pylist()
    assert len(found) == len(rows)
    for one, row in zip(found, rows, strict=True):
        assert {key: value for key, value in one.items() if value is not None} == {
            key: value for key, value in row.items() if value is not None
        }
        assert set(row) <= set(one)


def test_runs_are_the_summaries_in_the_order_of_the_study_without_the_clock(folder):
    rows = asked(folder, "default", "tuned", "sensitivity")
    assert {row["variant"] for row in rows} == {"default", "tuned", "sensitivity"}
    expected = [without_clock({**said(folder, row["run"], "summary"), **row}) for row in rows]
    table = StudyTables(read_study(folder)).table("runs")
    assert_holds(table, expected)
    assert tuple(table.column_names[: len(RUN)]) == RUN
    assert not set(CLOCK_COLUMNS) & set(table.column_names)


def test_timing_is_what_the_clock_wrote(folder):
    rows = asked(folder, "default", "tuned", "sensitivity")
    expected = [
        {**{key: row[key] for key in RUN}, **said(folder, row["run"], "timing")} for row in rows
    ]
    assert_holds(StudyTables(read_study(folder)).table("timing"), expected)


@pytest.mark.parametrize("name", RUN_TABLES)
def test_rows_of_runs_carry_the_columns_of_their_run(folder, name):
    expected = []
    for row in asked(folder, "default", "tuned", "sensitivity"):
        for found in read_rows(folder / "runs" / row["run"] / f"{name}.parquet"):
            expected.append(without_clock({**found, **{key: row[key] for key in RUN}}))
    tables = StudyTables(read_study(folder))
    assert_holds(tables.table(name), expected)


def test_trials_and_what_came_of_them(folder):
    tables = StudyTables(read_study(folder))
    study = json.loads((folder / "study.json").read_text())
    searches = [
        {**row, **{name: without_folders(row[name]) for name in ("base", "loss")}}
        for row in study["tuned"]
    ]
    assert [row["error"] for row in searches] == [None, None, "all 2 trials failed"]
    assert_holds(tables.table("tuned"), searches)
    trials = tables.table("trials").to_pylist()
    named = [row["run"] for row in study["runs"] if row["variant"] == "trial"]
    assert [row["run"] for row in trials] == named
    for row in trials:
        if row["base"].endswith("broken"):
            assert row["objective"] is None
            assert row["error"] == "RuntimeError: it never works"
        else:
            summary = said(folder, row["run"], "summary")
            assert row["objective"] == row["validation_map_at_r"] == summary["map_at_r"]
            assert row["error"] is None


def test_references_failures_and_what_was_left_out(folder):
    tables = StudyTables(read_study(folder))
    study = json.loads((folder / "study.json").read_text())
    digits = json.loads((folder / "datasets" / "digits.json").read_text())
    assert_holds(tables.table("references"), digits["references"])
    assert_holds(tables.table("left_out"), study["left_out"])
    (failure,) = tables.table("failures").to_pylist()
    assert failure["error"] == "RuntimeError: it never works"
    assert failure["loss"].endswith("broken.py:broken")
    assert "traceback" not in failure


def test_the_queries_of_frozen_features_give_their_references(folder):
    table = StudyTables(read_study(folder)).table("frozen_queries")
    rows = read_rows(folder / "datasets" / "digits.frozen.parquet")
    assert_holds(table, [{"dataset": "digits", **row} for row in rows])
    digits = json.loads((folder / "datasets" / "digits.json").read_text())
    frozen = next(row for row in digits["references"] if row["reference"] == "frozen features")
    for column, per_query in PER_QUERY.items():
        mean = np.mean(table.column(per_query).to_numpy())
        assert mean == pytest.approx(frozen[column], rel=1e-14)


def test_columns_have_flat_types_that_do_not_hang_on_what_is_known(folder):
    tables = StudyTables(read_study(folder))
    for name in TABLES:
        kinds = {field.name: str(field.type) for field in tables.schema(name)}
        small = {"int32", "float", "bool"} if name.endswith("queries") else set()
        assert set(kinds.values()) <= {"string", "int64", "double"} | small, name
        assert tables.schema(name) == tables.table(name).schema
    runs = {field.name: str(field.type) for field in tables.schema("runs")}
    assert runs["test_class_count"] == runs["selected_epoch"] == "int64"
    assert runs["setting_reduction"] == "string"


def test_a_column_of_which_nothing_is_known_is_one_of_numbers(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    for run in (copy / "runs").glob("digits_ccl_*"):  # the only loss here with parameters
        shutil.rmtree(run)
    tables = StudyTables(read_study(copy))
    for name in ("runs", "epochs", "steps"):
        column = tables.table(name).column("loss_gradient")
        assert column.null_count == len(column) > 0
        assert str(column.type) == "double"


def test_an_empty_table_still_has_its_columns(tmp_path):
    Store(tmp_path).write_study(
        {
            "plan": small_plan().model_dump(mode="json"),
            "assumptions": {},
            "runs": [],
            "expected": 0,
            "tuned": [],
            "left_out": [],
            "environment": {},
        }
    )
    tables = StudyTables(read_study(tmp_path))
    for name, leading in TABLES.items():
        table = tables.table(name)
        assert (table.num_rows, table.column_names) == (0, list(leading))


def test_chunks_are_the_table(folder, monkeypatch):
    monkeypatch.setattr("lossgauge.results.tables.CHUNK_ROWS", 30)
    tables = StudyTables(read_study(folder))
    chunks = list(tables.chunks("steps"))
    assert len(chunks) > 3
    assert sum(chunk.num_rows for chunk in chunks) == tables.table("steps").num_rows


@pytest.mark.parametrize("name", list(TABLES))
def test_pandas_and_polars_hold_the_same_values_as_the_table(folder, name):
    rows = StudyTables(read_study(folder)).table(name).to_pylist()
    pandas = getattr(load_study(folder, frames="pandas"), name)
    polars = getattr(load_study(str(folder), frames="polars"), name)
    assert isinstance(pandas, pd.DataFrame)
    assert isinstance(polars, pl.DataFrame)
    assert polars.to_dicts() == rows
    as_said = [
        {key: None if pd.isna(value) else value for key, value in row.items()}
        for row in pandas.to_dict("records")
    ]
    assert as_said == rows


def test_integers_stay_integers_where_some_are_missing(folder):
    trials = load_study(folder, frames="pandas").trials
    assert str(trials.validation_class_count.dtype) == "Int64"
    assert trials.validation_class_count.isna().any()
    assert str(trials.trial.dtype) == "int64"


def test_a_nan_is_as_unknown_as_none():
    table = as_table([{"a": math.nan, "b": True, "c": 1}, {"a": 0.0, "b": None, "c": "x"}], {})
    assert table.to_pylist() == [{"a": None, "b": True, "c": "1"}, {"a": 0.0, "b": None, "c": "x"}]


def test_the_call_takes_pandas_then_polars_then_says_what_to_install(folder, monkeypatch):
    assert isinstance(lossgauge.load_study(folder).runs, pd.DataFrame)
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert isinstance(load_study(folder).runs, pl.DataFrame)
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(MissingExtra, match=r"pip install 'lossgauge\[pandas\]'"):
        _ = load_study(folder).runs
    with pytest.raises(MissingExtra, match=r"pip install 'lossgauge\[polars\]'"):
        load_study(folder, frames="polars")
    with pytest.raises(InputError, match="did you mean 'pandas'"):
        load_study(folder, frames="panda")


def test_a_folder_without_a_study_is_refused(tmp_path):
    with pytest.raises(StudyError, match="does not contain a study"):
        load_study(tmp_path)


def test_a_study_tells_its_plan_and_keeps_its_frames(folder):
    study = load_study(folder)
    assert study.plan["datasets"] == ["digits", "cub200"]
    assert set(study.environment) >= {"torch", "python"}
    assert study.epochs is study.epochs
    assert "8 runs" in repr(study)


def test_a_copied_folder_gives_the_same_tables_and_the_same_report(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "elsewhere" / "copy")
    here, there = StudyTables(read_study(folder)), StudyTables(read_study(copy))
    for name in TABLES:
        assert there.table(name).equals(here.table(name)), name
    one = write_page(read_study(folder), tmp_path / "one.html")
    two = write_page(read_study(copy), tmp_path / "two.html")
    assert one.read_bytes() == two.read_bytes()


def test_a_damaged_run_is_a_failure_and_in_no_other_table(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    run = next(row["run"] for row in asked(copy, "sensitivity"))
    steps = copy / "runs" / run / "steps.parquet"
    steps.write_bytes(steps.read_bytes()[:-1] + b"x")
    study = load_study(copy, frames="polars")
    assert [row["run"] for row in study.failures.to_dicts() if "damaged" in row["error"]] == [run]
    for name in ("runs", "timing", *RUN_TABLES):
        assert run not in getattr(study, name)["run"].to_list()

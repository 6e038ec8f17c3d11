"""The list of columns against the tables of a real study."""

import pyarrow as pa
import pytest

from lossgauge.errors import InputError
from lossgauge.files import read_rows
from lossgauge.losses.registry import ALL_LOSSES, loss_class
from lossgauge.results.columns import (
    CLOCK_COLUMNS,
    COLUMNS,
    OF_PAIRS,
    RUN_TIMES,
    SETTING,
    STEP_TIMES,
    TABLES,
    check_column,
    group_of,
)
from lossgauge.results.layout import Layout
from lossgauge.results.reader import read_study
from lossgauge.results.tables import StudyTables


@pytest.fixture(scope="module")
def number_columns(folder):
    """Every column of numbers that the tables of a study have, with those that the clock wrote."""
    tables = StudyTables(read_study(folder))
    columns = set()
    for name in TABLES:
        for field in tables.schema(name):
            kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
            is_number = any(is_kind(field.type) for is_kind in kinds)
            if is_number and field.name not in TABLES[name] and not field.name.startswith(SETTING):
                columns.add(field.name)
    for table in Layout(folder).runs.glob("*/*.parquet"):
        for row in read_rows(table)[:1]:
            columns |= CLOCK_COLUMNS & row.keys()
    for row in tables.timing:
        columns |= CLOCK_COLUMNS & row.keys()
    return columns | {"objective"}


def test_every_number_of_a_run_is_listed_once(number_columns):
    assert number_columns - COLUMNS.keys() == set()


def test_every_listed_column_is_in_a_run_or_belongs_to_a_loss_that_is_not_in_it(number_columns):
    of_losses = {column for name in ALL_LOSSES for column in loss_class(name).columns}
    of_a_memory = {"memory_drift"}
    assert COLUMNS.keys() - number_columns == of_losses | OF_PAIRS | of_a_memory


def test_every_column_says_what_it_is():
    for name, column in COLUMNS.items():
        assert column.name == name
        assert column.meaning.endswith(".")
        assert column.title == column.title.strip()
        assert column.by_clock == (column.group == "timing")


def test_the_sides_of_a_split_share_title_and_unit():
    for side in ("train", "validation"):
        assert COLUMNS[f"{side}_intra"].unit == COLUMNS["test_intra"].unit == "number"
        assert COLUMNS[f"{side}_intra"].title == f"intra, {side}"
    assert COLUMNS["validation_map_at_r"].better == COLUMNS["map_at_r"].better == "higher"


def test_times_of_steps_and_runs_are_the_columns_of_the_clock():
    assert {*STEP_TIMES, *RUN_TIMES} == CLOCK_COLUMNS


def test_a_column_that_nobody_listed_belongs_to_greediness():
    assert group_of("test_intra") == "variance"
    assert group_of("validation_recall_at_1") == "retrieval"
    assert group_of("a_new_number") == "greediness"


def test_an_unknown_column_is_one_line_with_the_nearest_name(folder):
    view = read_study(folder)
    loss = view.losses[0]
    with pytest.raises(
        InputError, match=r"unknown column 'test_intro' \(did you mean 'test_intra'"
    ):
        view.values("digits", loss, "test_intro")
    with pytest.raises(InputError, match="unknown column 'test_intro'"):
        view.interval("digits", loss, "test_intro")
    with pytest.raises(InputError, match="unknown column 'test_intro'"):
        view.difference("digits", loss, view.losses[-1], "test_intro")
    assert check_column("setting_margin") == "setting_margin"
    assert view.values("digits", loss, "setting_margin")


def test_a_margin_is_above_0_and_gradients_have_none():
    for name, column in COLUMNS.items():
        assert column.margin is None or column.margin > 0
        if "gradient" in name and column.unit == "small":
            assert column.margin is None
    assert COLUMNS["recall_at_1"].margin == COLUMNS["map_at_r"].margin == 0.005
    assert COLUMNS["test_intra"].margin == COLUMNS["validation_intra"].margin == 0.01

import json
import shutil
import sys

import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from lossgauge.errors import InputError, MissingExtra, StudyError
from lossgauge.export import FORMATS, export_study
from lossgauge.study.tables import LEADING, StudyTables
from tests.integrations.studies import make_study


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("export"))


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "study")


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_parquet_holds_every_table_to_the_bit(folder):
    where = export_study(folder, "parquet")
    assert where == str(folder.resolve() / "export" / "parquet")
    tables = StudyTables(folder)
    for name in LEADING:
        assert pq.read_table(f"{where}/{name}.parquet").equals(tables.table(name)), name


def test_csv_holds_the_same_values_as_parquet_to_the_last_digit(folder, tmp_path):
    export_study(folder, "csv", tmp_path / "csv")
    tables = StudyTables(folder)
    for name in LEADING:
        expected = tables.table(name)
        types = {field.name: field.type for field in expected.schema}
        found = pyarrow.csv.read_csv(
            tmp_path / "csv" / f"{name}.csv",
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=types, strings_can_be_null=True, quoted_strings_can_be_null=False
            ),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        )
        assert found.to_pylist() == expected.to_pylist(), name


@pytest.mark.parametrize("to", ["parquet", "csv"])
def test_the_same_study_gives_the_same_bytes_again_and_elsewhere(folder, made, tmp_path, to):
    export_study(folder, to, tmp_path / "out")
    first = contents(tmp_path / "out")
    export_study(folder, to, tmp_path / "out")
    assert contents(tmp_path / "out") == first
    export_study(made, to, tmp_path / "elsewhere")
    assert contents(tmp_path / "elsewhere") == first
    assert json.loads(first["export.json"])["plan"]["epochs"] == 2


def test_an_export_that_breaks_off_leaves_what_was_there(folder, tmp_path, monkeypatch):
    export_study(folder, "csv", tmp_path / "out")
    before = contents(tmp_path / "out")

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(StudyTables, "chunks", stop)
    with pytest.raises(KeyboardInterrupt):
        export_study(folder, "csv", tmp_path / "out")
    assert contents(tmp_path / "out") == before
    assert not list(tmp_path.glob(".new-*"))


@pytest.mark.parametrize("to", FORMATS)
def test_a_folder_of_something_else_is_left_alone(folder, tmp_path, to, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years")
    with pytest.raises(InputError, match=f"no earlier export to {to}; give another folder"):
        export_study(folder, to, tmp_path / "mine")
    assert contents(tmp_path / "mine") == {"thesis.tex": b"years"}
    with pytest.raises(InputError, match="no earlier export"):
        export_study(folder, to, folder)
    with pytest.raises(InputError, match="no earlier export"):
        export_study(folder, to, tmp_path / "mine" / "thesis.tex")


@pytest.mark.parametrize("to", ["parquet", "tensorboard"])
def test_a_file_put_into_an_export_is_not_replaced_with_it(folder, tmp_path, to):
    export_study(folder, to, tmp_path / "out")
    note = tmp_path / "out" / "note.txt"
    note.write_text("mine")
    with pytest.raises(InputError, match=r"note\.txt is not of the earlier export"):
        export_study(folder, to, tmp_path / "out")
    assert note.read_text() == "mine"
    with pytest.raises(InputError, match="no earlier export to csv"):
        export_study(folder, "csv", tmp_path / "out")


def test_an_empty_folder_is_taken(folder, tmp_path):
    (tmp_path / "out").mkdir()
    export_study(folder, "csv", tmp_path / "out")
    assert (tmp_path / "out" / "runs.csv").is_file()


@pytest.mark.parametrize(
    ("to", "library"),
    [
        ("mlflow", "mlflow"),
        ("mlflow", "sqlalchemy"),
        ("wandb", "wandb"),
        ("tensorboard", "tensorboard"),
    ],
)
def test_a_library_that_is_not_there_is_named_and_nothing_is_written(
    folder, monkeypatch, to, library
):
    monkeypatch.setitem(sys.modules, library, None)
    before = contents(folder)
    with pytest.raises(MissingExtra, match=rf"pip install 'lossgauge\[{to}\]'"):
        export_study(folder, to)
    assert contents(folder) == before
    assert not (folder / "export").exists()


def test_what_cannot_be_exported_is_said(folder, tmp_path):
    with pytest.raises(InputError, match="cannot be exported to 'parkett'; did you mean 'parquet'"):
        export_study(folder, "parkett")
    with pytest.raises(StudyError, match="holds no study"):
        export_study(tmp_path, "csv")
    assert not (tmp_path / "export").exists()


def test_a_place_that_cannot_be_written_is_a_study_error(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match="cannot be written: "):
        export_study(folder, "csv", tmp_path / "file" / "out")


def test_a_study_goes_on_and_reports_beside_its_exports(folder):
    before = StudyTables(folder).results
    export_study(folder, "csv")
    assert StudyTables(folder).results == before

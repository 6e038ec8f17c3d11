import json
import math
import sys

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from lossgauge.errors import InputError, MissingExtra, StudyError
from lossgauge.export import export_study
from lossgauge.files import _prefix, write_json
from lossgauge.integrations import EXPORTERS
from lossgauge.integrations.csv import quoted, visible
from lossgauge.results.columns import TABLES
from lossgauge.results.reader import read_study
from lossgauge.results.tables import StudyTables
from lossgauge.terminal import safe


@pytest.fixture
def folder(finished_study):
    return finished_study


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_parquet_holds_every_table_to_the_bit(folder):
    where = export_study(folder, "parquet")
    assert where == str(folder.resolve() / "export" / "parquet")
    tables = StudyTables(read_study(folder))
    for name in TABLES:
        assert pq.read_table(f"{where}/{name}.parquet").equals(tables.table(name)), name


def test_csv_holds_the_same_values_as_parquet_to_the_last_digit(folder, tmp_path):
    export_study(folder, "csv", tmp_path / "csv")
    tables = StudyTables(read_study(folder))
    for name in TABLES:
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
def test_the_same_study_gives_the_same_bytes_again_and_elsewhere(folder, whole_study, tmp_path, to):
    export_study(folder, to, tmp_path / "out")
    first = contents(tmp_path / "out")
    export_study(folder, to, tmp_path / "out")
    assert contents(tmp_path / "out") == first
    export_study(whole_study, to, tmp_path / "elsewhere")
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


@pytest.mark.parametrize("to", EXPORTERS)
def test_a_folder_of_something_else_is_left_alone(folder, tmp_path, to, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years")
    with pytest.raises(
        InputError, match=f"neither empty nor an earlier export to {to}; give another folder"
    ):
        export_study(folder, to, tmp_path / "mine")
    assert contents(tmp_path / "mine") == {"thesis.tex": b"years"}
    with pytest.raises(InputError, match="neither empty nor an earlier export"):
        export_study(folder, to, folder)
    with pytest.raises(InputError, match="neither empty nor an earlier export"):
        export_study(folder, to, tmp_path / "mine" / "thesis.tex")


@pytest.mark.parametrize("to", ["parquet", "tensorboard"])
def test_a_file_put_into_an_export_is_not_replaced_with_it(folder, tmp_path, to):
    export_study(folder, to, tmp_path / "out")
    note = tmp_path / "out" / "note.txt"
    note.write_text("mine")
    with pytest.raises(InputError, match=r"note\.txt is not part of the earlier export"):
        export_study(folder, to, tmp_path / "out")
    assert note.read_text() == "mine"
    with pytest.raises(InputError, match="is neither empty nor an earlier export to csv"):
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
    with pytest.raises(
        InputError, match=r"unknown export format 'parkett' \(did you mean 'parquet'"
    ):
        export_study(folder, "parkett")
    with pytest.raises(StudyError, match="does not contain a study"):
        export_study(tmp_path, "csv")
    assert not (tmp_path / "export").exists()


def test_a_place_that_cannot_be_written_is_a_study_error(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match="cannot be written: "):
        export_study(folder, "csv", tmp_path / "file" / "out")


def test_a_study_goes_on_and_reports_beside_its_exports(folder):
    before = read_study(folder).results
    export_study(folder, "csv")
    assert read_study(folder).results == before


FORMULAS = ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "\nx", "＝1"]
HARMLESS = ["a=1", "", " =1", "'=1", None, "ä", "1-1"]


def test_text_that_a_spreadsheet_would_run_gets_an_apostrophe_and_nothing_else_changes():
    table = pa.table({"text": FORMULAS + HARMLESS, "number": [-1.5] * 15, "none": [None] * 15})
    with_apostrophes = quoted(table)
    assert with_apostrophes.schema == table.schema
    assert with_apostrophes["text"].to_pylist() == ["'" + text for text in FORMULAS] + HARMLESS
    assert with_apostrophes.drop("text") == table.drop("text")


def test_control_characters_in_text_are_visible_in_csv_and_nothing_else_changes():
    names = ["\x1b[2J", "a\u202eb", "a\nb\tc", "犬 \u00a0 🙂", "", None, "a"]
    table = pa.table({"text": names, "number": [math.nan] * 7, "none": [None] * 7})
    shown = visible(pa.concat_tables([table, table]))
    assert shown.schema == table.schema
    expected = [r"\x1b[2J", r"a\u202eb", r"a\nb\tc", *names[3:]]
    assert shown["text"].to_pylist() == expected * 2
    assert shown["none"].to_pylist() == [None] * 14
    assert all(math.isnan(number) for number in shown["number"].to_pylist())
    assert visible(table.slice(0, 0)).num_rows == 0


def test_a_csv_file_has_no_control_character_but_its_line_ends(folder, tmp_path, monkeypatch):
    chunks = StudyTables.chunks

    def hostile(tables, name):
        for chunk in chunks(tables, name):
            at = chunk.schema.names.index("dataset")
            texts = pa.array(["=\x1b[2J\u202e\r\n"] * len(chunk), pa.string())
            yield chunk.set_column(at, "dataset", texts)

    monkeypatch.setattr(StudyTables, "chunks", hostile)
    for quote, begin in ((False, ""), (True, "'")):
        export_study(folder, "csv", tmp_path / "out", quote_formulas=quote)
        text = (tmp_path / "out" / "runs.csv").read_bytes().decode()
        assert text.count(rf',"{begin}=\x1b[2J\u202e\r\n",') == text.count("\n") - 1 > 0
        assert safe(text.replace("\n", "")) == text.replace("\n", "")


def test_formulas_are_quoted_in_csv_on_request_alone(folder, tmp_path, monkeypatch):
    chunks = StudyTables.chunks

    def with_formulas(tables, name):
        for chunk in chunks(tables, name):
            at = chunk.schema.names.index("dataset")
            yield chunk.set_column(at, "dataset", pa.array(["=cmd|x"] * len(chunk), pa.string()))

    monkeypatch.setattr(StudyTables, "chunks", with_formulas)
    for asked, begin in ((False, '"=cmd|x"'), (True, '"\'=cmd|x"')):
        export_study(folder, "csv", tmp_path / "out", quote_formulas=asked)
        rows = (tmp_path / "out" / "runs.csv").read_text().splitlines()[1:]
        assert rows
        assert all(f",{begin}," in row for row in rows)
    with pytest.raises(InputError, match="quote_formulas has an effect only with csv, got parquet"):
        export_study(folder, "parquet", quote_formulas=True)


def test_what_a_killed_export_left_is_removed_by_the_next(folder, tmp_path):
    left = tmp_path / f"{_prefix(tmp_path / 'out')}killed"
    left.mkdir()
    (left / "runs.csv").write_text("half")
    (tmp_path / ".new-mine").mkdir()
    export_study(folder, "csv", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".new-mine", "out", "study"]


@pytest.mark.parametrize("files", [5, None, "runs.csv", {"a": 1}, [["x"]], [None]])
def test_a_marker_that_names_no_files_lets_nothing_be_replaced(folder, tmp_path, files):
    export_study(folder, "csv", tmp_path / "out")
    write_json(tmp_path / "out" / "export.json", {"export": "csv", "files": files})
    before = contents(tmp_path / "out")
    with pytest.raises(InputError, match="is neither empty nor an earlier export"):
        export_study(folder, "csv", tmp_path / "out")
    assert contents(tmp_path / "out") == before

"""Examples that no study writes are refused, although their checksums are right."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from lossgauge.errors import CacheError
from lossgauge.results.examples import SCHEMAS, Examples, read_examples
from lossgauge.results.layout import EXAMPLE_TABLES, Layout
from lossgauge.results.writer import Store


def changed(table: pa.Table, name: str, column: str, value: object) -> pa.Table:
    """A table with another value in the first row of a column."""
    values = table[column].to_pylist()
    field = SCHEMAS[name].field(column)
    return table.set_column(
        table.schema.get_field_index(column), field, pa.array([value, *values[1:]], field.type)
    )


def write(layout: Layout, examples: Examples, **replaced: object) -> None:
    record = {**examples.about.model_dump(), **replaced.get("about", {})}
    images = {row: of.model_dump() for row, of in examples.thumbnails.items()}
    images |= replaced.get("images", {})
    tables = {name: replaced.get(name, getattr(examples, name)) for name in EXAMPLE_TABLES}
    Store(layout.folder).write_examples(
        "digits", records={"record": record, "thumbnails": {"images": images}}, tables=tables
    )


@pytest.fixture
def layout(small_study, tmp_path) -> Layout:
    shutil.copytree(small_study / "examples", tmp_path / "study" / "examples")
    return Layout(Path(tmp_path / "study"))


def test_what_is_written_is_read_back_and_wrong_content_is_refused(layout):
    examples = read_examples(layout, "digits")
    assert examples is not None
    write(layout, examples)
    again = read_examples(layout, "digits")
    assert again is not None
    assert again.about == examples.about
    assert all(getattr(again, name) == getattr(examples, name) for name in EXAMPLE_TABLES)
    picture = next(iter(examples.thumbnails.values())).model_dump()
    spaces = [of.model_dump() for of in examples.about.spaces]
    shorter = [*spaces[:2], {**spaces[2], "shares": []}]
    cases: list[tuple[str, dict[str, object]]] = [
        ("names a space", {"neighbors": changed(examples.neighbors, "neighbors", "space", 3)}),
        ("names a space", {"queries": changed(examples.queries, "queries", "wrong", -1)}),
        ("16 bits", {"positions": changed(examples.positions, "positions", "x", 2**15)}),
        ("without an id", {"neighbors": changed(examples.neighbors, "neighbors", "row", 0)}),
        ("each row at each epoch", {"positions": examples.positions.slice(1)}),
        ("its columns are", {"cosines": examples.cosines.drop_columns(["other"])}),
        ("not shown", {"images": {"0": picture}}),
        ("pattern", {"images": {"0": {**picture, "data": 'x" onerror="alert(1)'}}}),
        ("one share for each epoch", {"about": {"spaces": shorter}}),
        ("images", {"about": {"images": "all"}}),
    ]
    for words, replaced in cases:
        write(layout, examples, **replaced)
        with pytest.raises(CacheError, match=words):
            read_examples(layout, "digits")
    assert read_examples(layout, "another") is None

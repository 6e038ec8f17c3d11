"""Rules about labels and rows: each threshold from both sides, on made-up records."""

from __future__ import annotations

import numpy
import pytest
import torch

from lossgauge.diagnostics.copies import Copies
from lossgauge.diagnostics.label_errors import LabelErrors
from lossgauge.health.data import data_findings

ROWS = 1000
SIZES = {0: 500, 1: 500}


def by_name(*, label_errors=None, copies=None, class_sizes=None, names=None):
    found = data_findings(
        label_errors=label_errors,
        copies=copies,
        class_sizes=SIZES if class_sizes is None else class_sizes,
        names=names,
    )
    return {record.name: record for record in found}


def errors(count, *, given=1, suggested=0):
    return LabelErrors(
        row=torch.arange(count) + 40,
        given=torch.full((count,), given),
        suggested=torch.full((count,), suggested),
        confidence=torch.ones(count, dtype=torch.float64),
        row_count=ROWS,
        k=10,
    )


def copied(*, inside=0, between=0, across=0):
    count = inside + between + across
    rows = torch.arange(count)
    return Copies(rows + 1, rows, inside, between, across, {1: inside} if inside else {}, ROWS)


def test_what_was_not_looked_for_has_no_record():
    assert set(by_name()) == {"small-classes"}
    assert by_name(class_sizes={}) == {}
    unlabelled = Copies(torch.arange(0), torch.arange(0), None, None, None, {}, ROWS)
    assert by_name(copies=unlabelled, class_sizes={}) == {}


def test_clean_data_has_only_records_that_say_ok():
    records = by_name(label_errors=errors(0), copies=copied())
    assert set(records) == {
        *("label-errors", "copies", "copies-between-classes", "copies-across-split"),
        "small-classes",
    }
    assert {record.level for record in records.values()} == {"ok"}
    assert not any(record.advice for record in records.values())


@pytest.mark.parametrize(
    ("count", "level"), [(10, "ok"), (11, "watch"), (50, "watch"), (51, "act")]
)
def test_labels_that_look_wrong_are_counted_and_named(count, level):
    record = by_name(label_errors=errors(count), names={1: "cup", 0: "mug"})["label-errors"]
    assert record.level == level
    assert record.subject == "the labels"
    assert record.evidence.startswith(
        f"{count} of 1,000 rows ({count / 10:.1f}%) have another class in most of their 10 nearest rows"
    )
    assert record.evidence.endswith("44 (`--json` lists more)")
    assert (
        "most often class cup looks like class mug; first rows 40, 41, 42, 43, 44"
        in record.evidence
    )


@pytest.mark.parametrize(
    ("counts", "name", "level", "subject"),
    [
        ({"inside": 10}, "copies", "ok", "class cup"),
        ({"inside": 11}, "copies", "watch", "class cup"),
        ({"inside": 101}, "copies", "act", "class cup"),
        ({"between": 1}, "copies-between-classes", "watch", "the labels"),
        ({"between": 11}, "copies-between-classes", "act", "the labels"),
        ({"across": 1}, "copies-across-split", "watch", "the split"),
        ({"across": 11}, "copies-across-split", "act", "the split"),
    ],
)
def test_copies_are_counted_inside_between_and_across(counts, name, level, subject):
    records = by_name(copies=copied(**counts), names={1: "cup"})
    assert (records[name].level, records[name].subject) == (level, subject)
    assert all(record.level == "ok" for other, record in records.items() if other != name)


def test_the_advice_on_copies_keeps_the_order_of_the_rows():
    code = by_name(copies=copied(inside=11))["copies"].advice.split("`")[1]
    scope = {"numpy": numpy, "embeddings": numpy.array([[3.0], [1.0], [3.0], [2.0], [1.0]])}
    exec(code, scope)
    assert scope["keep"].tolist() == [0, 1, 3]


@pytest.mark.parametrize(
    ("single", "small", "large", "level"),
    [
        (1, 0, 99, "ok"),
        (2, 0, 98, "watch"),
        (50, 0, 50, "watch"),
        (51, 0, 49, "act"),
        (0, 50, 50, "ok"),
        (0, 51, 49, "watch"),
    ],
)
def test_classes_of_one_row_and_small_ones_are_counted(single, small, large, level):
    sizes = dict(enumerate([1] * single + [4] * small + [5] * large))
    record = by_name(class_sizes=sizes, names={0: "cup"})["small-classes"]
    assert record.level == level
    assert record.subject.startswith("the classes" if level == "ok" else "classes cup")

"""Tables from records: what is not known stays unknown, and nothing is mixed that does not belong together."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lossgauge.losses.registry import LOSSES
from lossgauge.report.naming import COLORS
from lossgauge.report.tables import (
    NOT_DEFINED,
    NOT_KNOWN,
    NOT_REACHED,
    Cell,
    Row,
    loss_table,
    overview,
)
from lossgauge.results.columns import COLUMNS, FURTHER, GREEDINESS, RETRIEVAL, VARIANCE
from lossgauge.results.view import StudyView
from lossgauge.stats.number_format import shown, shown_half_width
from lossgauge.types import Results
from tests.support.made_up_study import columns_of, make_results, no_results


def row(results: Results, name: str, *columns: str, dataset: str = "orl-faces") -> Row:
    table = loss_table(StudyView(results), dataset, [COLUMNS[column] for column in columns])
    return next(row for row in table.rows if row.name == name)


def cell(results: Results, name: str, column: str, dataset: str = "orl-faces") -> Cell:
    return row(results, name, column, dataset=dataset).cells[0]


def test_a_cell_holds_mean_and_t_interval_in_percent(results):
    values = [
        100 * r["recall_at_1"]
        for r in results.summaries
        if r["dataset"] == "orl-faces" and r["loss"] == "triplet"
    ]
    half = stats.t.ppf(0.975, 2) * stats.sem(values)
    shown_cell = cell(results, "triplet", "recall_at_1")
    assert shown_cell.text == f"{np.mean(values):.1f}\u00a0%"
    assert shown_cell.detail == f"± {half:.1f}"


def test_rows_are_the_losses_in_order_then_the_baseline_then_the_references(results):
    table = loss_table(StudyView(results), "orl-faces", RETRIEVAL + VARIANCE)
    assert [row.name for row in table.rows] == [
        *LOSSES,
        "untrained",
        "frozen features",
        "random unit vectors",
        "full collapse",
    ]
    assert [row.kind for row in table.rows][-4:] == ["baseline", *["reference"] * 3]


def test_what_is_known_of_no_space_without_training_has_no_row_in_the_dynamics(results):
    table = loss_table(StudyView(results), "orl-faces", GREEDINESS)
    assert [row.kind for row in table.rows] == ["loss"] * 7


def test_one_seed_is_said_and_never_plus_minus_zero():
    shown_cell = cell(make_results(seeds=(4,)), "scl", "recall_at_1")
    assert shown_cell.detail == "one seed"
    assert not shown_cell.leads


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_what_is_not_known_is_a_dash(results, missing):
    for r in results.summaries:
        r["mean_weight"] = missing
    assert cell(results, "scl", "mean_weight") == Cell(NOT_KNOWN)
    assert cell(results, "scl", "loss_gradient") == Cell(NOT_KNOWN)


def test_a_decay_that_never_came_is_not_reached_and_not_a_number(results):
    assert cell(results, "scl", "decay_epochs") == Cell(NOT_REACHED)
    assert cell(results, "triplet", "decay_epochs").text == "11.5"


def test_a_decay_that_is_not_defined_is_not_called_not_reached(results):
    for row in results.summaries:
        if row["loss"] == "scl":
            row |= {"no_decay": "the loss has negative values", "decay_epochs": None}
    wanted = Cell(NOT_DEFINED, "the loss has negative values")
    assert cell(results, "scl", "decay_epochs") == wanted
    assert cell(results, "scl", "compaction_epochs") != wanted


def test_a_decay_that_some_seeds_reached_says_how_many(results):
    rows = [r for r in results.summaries if r["loss"] == "scl" and r["dataset"] == "orl-faces"]
    rows[0]["decay_epochs"] = 20.0
    assert cell(results, "scl", "decay_epochs") == Cell(
        "20.0", "reached in 1 of 3 seeds", value=20.0
    )


@pytest.mark.parametrize("column", ["compaction_epochs", "decay_epochs", "floor_decay_epochs"])
def test_a_time_that_every_seed_reached_has_its_interval(results, column):
    values = (10.0, 12.5, 11.0)
    for r in results.summaries:
        if r["loss"] == "triplet":
            r[column] = values[r["seed"]]
    half = stats.t.ppf(0.975, 2) * stats.sem(values)
    expected = Cell("11.2", f"± {half:.1f}", value=pytest.approx(np.mean(values)))
    assert cell(results, "triplet", column) == expected


@pytest.mark.parametrize("column", ["recall_at_1", "test_intra", "compaction_epochs"])
def test_a_mean_over_fewer_seeds_than_there_are_says_so(results, column):
    # ccl failed in one seed of the digits and in none of the faces
    of_two = cell(results, "ccl", column, "digits").detail
    assert of_two.startswith(("± ", "no spread"))
    assert of_two.endswith(", 2 of 3 seeds")
    assert "seeds" not in cell(results, "triplet", column, "digits").detail.replace("the seeds", "")
    only = [r for r in results.summaries if r["loss"] != "ccl" or r["seed"] == 0]
    assert cell(results._replace(summaries=only), "ccl", column, "digits").detail == "1 of 3 seeds"


def test_a_learning_rate_is_shown_where_it_is_not_the_studys(results):
    for r in results.summaries:
        rates = {"scl": 1e-3, "ccl": 0.003, "triplet": 1e-3 if r["seed"] else 0.25}
        r["setting_learning_rate"] = rates.get(r["loss"])
        r["settings"] = "" if r["loss"] == "ccl" else "margin=1"
    settings = {loss: row(results, loss, "recall_at_1").settings for loss in LOSSES}
    assert settings == {
        **dict.fromkeys(LOSSES, "margin=1"),
        "ccl": "learning_rate=0.003",
        "triplet": "margin=1, learning_rate=0.25; margin=1",
    }
    assert row(results, "untrained", "recall_at_1").settings == ""


def test_a_black_box_loss_has_dashes_for_what_needs_terms(results):
    for r in [r for r in results.summaries if r["loss"] == "ccl"]:
        r["loss"] = r["base"] = "lib/my_loss.py:Pull"
        r |= {"term_active_ratio": None, "mean_weight": None, "pull": None, "loss_value": None}
        r |= {"decay_epochs": None}
    found = row(
        results,
        "my_loss.py:Pull",
        "term_active_ratio",
        "pull",
        "decay_epochs",
        "embedding_gradient",
    )
    assert [c.text for c in found.cells[:3]] == [NOT_KNOWN] * 3
    assert found.cells[3].text != NOT_KNOWN


def test_a_failed_seed_is_shown_beside_the_loss_and_a_failed_loss_instead_of_it(results):
    beside = row(results, "ccl", "recall_at_1", dataset="digits")
    assert beside.kind == "loss"
    assert "seed 2 failed: the loss became NaN in epoch 4" in beside.failure
    rest = [r for r in results.summaries if (r["dataset"], r["loss"]) != ("digits", "ccl")]
    instead = row(results._replace(summaries=rest), "ccl", "recall_at_1", dataset="digits")
    assert (instead.kind, instead.cells) == ("failed", ())
    assert "became NaN" in instead.failure


def test_the_leaders_are_the_best_and_what_paired_seeds_cannot_tell_from_it():
    results = make_results(losses=("contrastive", "triplet", "scl"), datasets=("a", "b"))
    recalls = {
        "contrastive": (0.5, 0.6, 0.7),
        "triplet": (0.61, 0.7, 0.8),
        "scl": (0.6, 0.71, 0.82),
    }
    for r in results.summaries:
        if r["loss"] in recalls:
            r["recall_at_1"] = recalls[r["loss"]][r["seed"]]
    table = loss_table(StudyView(results), "b", RETRIEVAL[:1])
    assert {row.name for row in table.rows if row.cells[0].leads} == {"triplet", "scl"}


def test_where_less_is_better_the_least_leads_and_one_loss_alone_leads_nothing():
    results = make_results(losses=("contrastive", "triplet", "scl"), datasets=("a", "b"))
    skipped = {"contrastive": 0.3, "triplet": 0.1, "scl": 0.2}
    for r in results.summaries:
        if r["loss"] in skipped:
            r["skipped_anchor_ratio"] = skipped[r["loss"]] + 0.001 * r["seed"] * len(r["loss"])
    table = loss_table(StudyView(results), "b", [COLUMNS["skipped_anchor_ratio"]])
    assert [row.name for row in table.rows if row.cells[0].leads] == ["triplet"]
    alone = make_results(losses=("scl",), datasets=("b",))
    assert not cell(alone, "scl", "recall_at_1", "b").leads


def test_references_are_shown_in_the_numbers_they_have(results):
    found = row(results, "frozen features", "test_intra", "recall_at_1", "term_active_ratio")
    assert [c.text for c in found.cells] == ["0.440", "81.0\u00a0%", NOT_KNOWN]


def test_a_seed_that_waits_is_a_seed_of_the_dataset(results):
    rows = [r for r in results.summaries if r["seed"] != 2]
    waits = [columns_of("orl-faces", "scl", 2)]
    part = results._replace(summaries=rows, waiting=waits)
    assert cell(part, "scl", "recall_at_1").detail.endswith(", 2 of 3 seeds")
    assert "of" not in cell(results._replace(summaries=rows), "scl", "recall_at_1").detail


def test_datasets_stand_in_the_order_of_the_plan(results):
    assert overview(StudyView(results), RETRIEVAL).datasets == ("digits", "orl-faces")
    plan = {**results.plan, "datasets": ["orl-faces", "digits"]}
    assert overview(StudyView(results._replace(plan=plan)), RETRIEVAL).datasets == (
        "orl-faces",
        "digits",
    )
    of_rows = results._replace(plan={}, summaries=results.summaries[::-1], epochs=[], failures=[])
    assert overview(StudyView(of_rows), RETRIEVAL).datasets == ("orl-faces", "digits")


def test_a_number_without_a_good_direction_has_no_leader(results):
    table = loss_table(StudyView(results), "orl-faces", VARIANCE + GREEDINESS)
    assert not any(c.leads for row in table.rows for c in row.cells)


def test_the_overview_sets_datasets_side_by_side(results):
    metrics = RETRIEVAL
    found = overview(StudyView(results), metrics)
    assert found.datasets == ("digits", "orl-faces")
    assert [row.name for row in found.rows] == [*LOSSES, "untrained"]
    for position, dataset in enumerate(found.datasets):
        triplet = next(r for r in found.rows if r.name == "triplet")
        own = row(results, "triplet", *(m.name for m in metrics), dataset=dataset)
        assert triplet.cells[2 * position : 2 * position + 2] == own.cells


def test_no_results_give_an_empty_table():
    view = StudyView(no_results())
    assert loss_table(view, "digits", RETRIEVAL).rows == ()
    assert overview(view, RETRIEVAL).rows == ()


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.98765, "percent", "98.8\u00a0%"),
        (-0.00001, "percent", "0.0\u00a0%"),
        (-0.2391, "number", "−0.239"),
        (12.345, "number", "12.3"),
        (0.00041, "small", "4.1·10⁻⁴"),
        (0.0, "small", "0"),
        (0.234567, "small", "0.235"),
        (float("inf"), "number", "—"),
    ],
)
def test_numbers_are_shown_in_digits_a_reader_can_use(value, unit, text):
    assert shown(value, unit) == text


def test_an_interval_too_small_to_show_is_not_shown_as_zero():
    assert shown_half_width(1e-7, 0.5, "percent") == "< 0.1"
    assert shown_half_width(0.04, 0.5, "percent") == "4.0"


@pytest.mark.parametrize(
    ("half_width", "mean", "unit", "text"),
    [
        (0.0006, 0.9, "percent", "0.1"),
        (0.0004, 0.9, "percent", "< 0.1"),
        (0.0006, 0.3, "number", "0.001"),
        (0.0004, 0.3, "number", "< 0.001"),
        (0.06, 12.0, "number", "0.1"),
        (0.04, 12.0, "epochs", "< 0.1"),
        (0.12345, 3.0, "milliseconds", "0.12"),
        (0.00012345, 0.01, "small", "1.2·10⁻⁴"),
    ],
)
def test_an_interval_has_the_digits_of_its_mean(half_width, mean, unit, text):
    assert shown_half_width(half_width, mean, unit) == text


def test_every_number_shown_says_what_it_means():
    assert COLUMNS.keys() >= {c.name for c in RETRIEVAL + VARIANCE + GREEDINESS + FURTHER}
    for metric in COLUMNS.values():
        assert len(metric.meaning) > 10
        assert metric.meaning.endswith(".")


def test_a_tuned_row_stands_below_its_default_in_its_colour_and_leads_nothing(varied):
    table = loss_table(StudyView(varied), "orl-faces", RETRIEVAL + VARIANCE)
    names = [row.name for row in table.rows]
    assert names[:4] == ["contrastive", "contrastive, tuned", "triplet", "triplet, tuned"]
    assert names[-4:] == ["untrained", "frozen features", "random unit vectors", "full collapse"]
    by_name = {row.name: row for row in table.rows}
    for loss in LOSSES:
        tuned = by_name[f"{loss}, tuned"]
        assert tuned.tuned
        assert not by_name[loss].tuned
        assert tuned.color == by_name[loss].color == COLORS[loss]
        assert not any(c.leads for c in tuned.cells)
    plain = loss_table(StudyView(make_results()), "orl-faces", RETRIEVAL + VARIANCE)
    assert [row for row in table.rows if not row.tuned] == [*plain.rows]


def test_the_overview_keeps_to_the_defaults(varied, results):
    assert (
        overview(StudyView(varied), RETRIEVAL).rows == overview(StudyView(results), RETRIEVAL).rows
    )


def test_varied_runs_that_failed_do_not_stand_in_the_tables(varied):
    lost = {
        "run": "x",
        "dataset": "digits",
        "loss": "scl(temperature=1)",
        "seed": 0,
        "error": "NaN",
    }
    varied.failures.append({**lost, "base": "scl", "variant": "sensitivity"})
    names = {
        row.loss.base for row in loss_table(StudyView(varied), "digits", RETRIEVAL).rows if row.loss
    }
    assert "scl(temperature=1)" not in names

"""The record of what a study is measured by."""

from __future__ import annotations

import re

import numpy as np
import pytest

from lossgauge.diagnostics.references import FROZEN
from lossgauge.results.columns import COLUMNS
from lossgauge.results.columns import OF_PAIRS as PAIR_COLUMNS
from lossgauge.results.measures import OF_CLASSES, OF_PAIRS, Measures
from lossgauge.results.reader import read_study
from lossgauge.results.view import BASELINE, Loss, StudyView
from lossgauge.stats.crossed import crossed, crossed_interval
from lossgauge.stats.intervals import t_quantile
from tests.support.made_up_study import make_results, no_results

CLASSES = re.compile(
    r"class|(?<!MR)R@\d|MAP@R|R-precision|\bintra\b|\binter\b|frozen|own sample", re.I
)
MNRL = Loss("mnrl", "mnrl")


def every_column(of: Measures):
    tables = (*of.tables, *of.further)
    return [
        *of.retrieval,
        *of.space,
        *of.greediness,
        *(c for _, columns in tables for c in columns),
    ]


def test_no_column_of_queries_and_documents_speaks_of_classes():
    for column in every_column(OF_PAIRS):
        assert not CLASSES.search(f"{column.title} {column.meaning}"), column
    assert [c.title for c in OF_PAIRS.retrieval] == [
        *("nDCG@10", "MRR@10", "Recall@1", "Recall@10", "Recall@100")
    ]
    assert {"masked_negative_ratio", "penalty_active"} <= {c.name for c in every_column(OF_PAIRS)}


@pytest.mark.parametrize("of", [OF_CLASSES, OF_PAIRS])
def test_each_column_is_known_and_differs_from_the_list_in_its_meaning_only(of):
    for column in every_column(of):
        assert column._replace(meaning="") == COLUMNS[column.name]._replace(meaning="")
    assert of.retrieval[: len(of.headline)] == of.headline
    assert {*of.overview, *of.predictors, of.predicted} <= COLUMNS.keys()
    titles = [column.name for _, columns in (*of.tables, *of.further) for column in columns]
    assert len(titles) == len({*titles})
    if of is OF_CLASSES:
        assert not PAIR_COLUMNS & {column.name for column in every_column(of)}


def test_a_column_of_one_loss_is_there_where_it_is_measured():
    assert OF_PAIRS.among({c.name for c in every_column(OF_PAIRS)}) == OF_PAIRS
    without = every_column(OF_PAIRS.among({"ndcg_at_10"}))
    assert not {"masked_negative_ratio", "penalty_active"} & {c.name for c in without}
    assert OF_CLASSES.among(()) == OF_CLASSES


def test_a_study_has_the_measures_of_its_kind_also_before_its_first_run(pair_study):
    view = read_study(pair_study)
    assert (view.measures.raw, view.retrieval) == ("raw model", OF_PAIRS.headline)
    assert view.measures == OF_PAIRS  # gist and relaxed are in it
    assert StudyView(make_results()).measures is OF_CLASSES
    waiting = no_results()._replace(plan={"datasets": ["pairs:questions.jsonl"]})
    assert StudyView(waiting).measures.retrieval == OF_PAIRS.retrieval


def test_the_frozen_features_have_one_name_and_the_start_of_an_adapter_is_not_shown_twice(
    pair_study,
):
    view = read_study(pair_study)
    (dataset,) = view.datasets
    assert [view.name_of(row) for row in view.references(dataset)] == [
        *("raw model", "centered raw model", "random unit vectors")
    ]
    assert view.untrained(dataset) == ()
    assert view.interval(dataset, BASELINE, "ndcg_at_10") is not None
    linear = StudyView(view.results._replace(plan={**view.plan, "head": "linear"}))
    assert linear.untrained(dataset) == (BASELINE,)
    of_classes = StudyView(make_results())
    assert of_classes.untrained("digits") == (BASELINE,)
    assert of_classes.name_of(of_classes.references("digits")[0]) == FROZEN


def test_losses_of_queries_and_documents_come_best_first_and_a_tuned_one_after_its_default(
    pair_study,
):
    view = read_study(pair_study)
    (dataset,) = view.datasets
    means = {
        loss: np.mean([row["ndcg_at_10"] for row in view.runs(dataset, loss).values()])
        for loss in view.losses
    }
    best_first = sorted(means.values(), reverse=True)
    assert [means[loss] for loss in view.losses] == best_first
    assert [loss.name for loss in view.losses][-1] == "gist"  # the second in the order of names
    tuned = view.losses[1]._replace(tuned=True)
    asked = [*view.losses[::-1], tuned]
    assert view.ranked(dataset, asked)[1:3] == [view.losses[1], tuned]
    of_classes = StudyView(make_results())
    assert of_classes.ranked("digits", of_classes.losses[::-1]) == [*of_classes.losses[::-1]]


def test_a_level_is_over_new_seeds_and_new_queries_as_in_a_slow_loop(pair_study):
    view = read_study(pair_study)
    (dataset,) = view.datasets
    tables = [view.queries(row["run"]) for _, row in sorted(view.runs(dataset, MNRL).items())]
    values = np.array([table["ndcg_at_10"].to_numpy() for table in tables])
    labels = tables[0]["label"].to_numpy()
    seeds, queries = values.shape
    assert (
        len(np.unique(labels)) == queries - 1
    )  # two queries share a document: one draws the other
    mean = values.mean()
    # variances of the mean: of seeds; of groups of queries; of what is in both
    of_seeds = sum((values[s].mean() - mean) ** 2 for s in range(seeds)) / (seeds - 1) / seeds
    count, of_groups, of_both = 0, 0.0, 0.0
    sizes = []
    for label in np.unique(labels):
        inside = labels == label
        sizes.append(inside.sum())
        count += 1
        deviation = [(values[s, inside] - values[s].mean()).sum() / queries for s in range(seeds)]
        of_groups += np.mean(deviation) ** 2
        of_both += sum((d - np.mean(deviation)) ** 2 for d in deviation) / (seeds * (seeds - 1))
    scale = count / (count - 1)
    of_groups, of_both = of_groups * scale, of_both * scale
    sizes = np.array(sizes, float)
    degrees = (sizes**2).sum() ** 2 / (sizes**4).sum() - 1
    excess = max(of_seeds - of_both, 0.0)
    half = (t_quantile(seeds - 1) ** 2 * excess + t_quantile(degrees) ** 2 * of_groups) ** 0.5

    level = view.interval(dataset, MNRL, "ndcg_at_10")
    assert level is not None
    assert level.mean == pytest.approx(mean, abs=1e-12)
    assert level.half_width == pytest.approx(half, rel=1e-9)
    assert (level.over, level.size, level.queries) == ("new seeds and new queries", 3, queries)
    assert level.p_value is None  # whether a level is 0 is no question
    raw = view.reference_interval(dataset, view.references(dataset)[0], "ndcg_at_10")
    frozen = view.frozen_queries(dataset)["ndcg_at_10"].to_numpy()
    assert raw is not None
    assert raw.mean == pytest.approx(frozen.mean(), abs=1e-12)
    one = crossed(frozen[None], drawn="clusters", classes=labels)
    assert raw.half_width == pytest.approx(crossed_interval(one).half_width)
    assert (raw.over, raw.size) == ("new queries", 0)


def test_a_level_without_queries_is_over_seeds_and_one_of_classes_too(pair_study, whole_study):
    view = read_study(pair_study)
    (dataset,) = view.datasets
    space = view.interval(dataset, MNRL, "test_uniformity")
    assert space is not None
    assert space.over == "new seeds"
    of_classes = read_study(whole_study)
    name = of_classes.datasets[0]
    level = of_classes.interval(name, of_classes.losses[0], "recall_at_1")
    assert level is None or (level.over, level.queries) == ("new seeds", 0)
    frozen = next(row for row in of_classes.references(name) if row["reference"] == FROZEN)
    reference = of_classes.reference_interval(name, frozen, "recall_at_1")
    assert reference is not None
    assert (reference.mean, reference.half_width) == (frozen["recall_at_1"], None)


def test_a_difference_of_queries_is_over_new_queries_not_new_classes(pair_study):
    view = read_study(pair_study)
    (dataset,) = view.datasets
    raw = view.reference_runs(dataset, MNRL, FROZEN)
    of = view.contrast([view.runs(dataset, MNRL)], [raw], "ndcg_at_10")
    assert of is not None
    assert of.over == "new seeds and new queries"

"""Differences against a loop over seeds and queries, scipy's paired t-test, and `crossed` on tables made by hand."""

from __future__ import annotations

import math
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from lossgauge.diagnostics.references import FROZEN
from lossgauge.errors import InputError
from lossgauge.results.differences import Differences
from lossgauge.results.reader import read_study
from lossgauge.results.view import BASELINE, StudyView
from lossgauge.stats.crossed import crossed, crossed_interval
from lossgauge.stats.intervals import holm
from lossgauge.stats.seed_variance import agreement, contrast_variance, moderated, pool
from lossgauge.study.runner import run_study
from tests.support.studies import Quiet, small_plan


def rows(**by_column: list[float | None]) -> dict[int, dict[str, object]]:
    """Seed → row of a loss, without a run that kept queries."""
    count = len(next(iter(by_column.values())))
    return {
        seed: {"dataset": "a", "seed": seed, **{name: of[seed] for name, of in by_column.items()}}
        for seed in range(count)
    }


def between(left, right, column="test_intra", losses=()):
    return Differences(None, lambda _: losses).contrast(left, right, column)


def test_two_losses_alone_are_scipys_paired_t_test():
    left, right = [0.50, 0.70, 0.90], [0.481, 0.68, 0.88]
    found = between([rows(test_intra=left)], [rows(test_intra=right)])
    expected = stats.ttest_rel(left, right)
    assert found.low == pytest.approx(expected.confidence_interval().low)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.size, found.over, found.queries) == (3, "new seeds", 0)


def test_only_seeds_count_that_every_loss_has_with_a_value():
    left = {**rows(test_intra=[1.0, None, 3.0])}
    right = {0: left[0] | {"test_intra": 0.5}, 1: left[1] | {"test_intra": 0.0}}
    found = between([left], [right])
    assert (found.mean, found.size, found.half_width) == (0.5, 1, None)
    assert between([left], [{7: right[0]}]) is None


def test_differences_that_are_equal_but_for_rounding_have_no_interval():
    left, right = [0.6, 0.7, 0.8], [0.5, 0.6, 0.7]
    assert len({a - b for a, b in zip(left, right, strict=True)}) > 1
    found = between([rows(test_intra=left)], [rows(test_intra=right)])
    assert found.half_width is None
    right[2] += 1e-6
    assert between([rows(test_intra=left)], [rows(test_intra=right)]).excludes_zero


def test_other_losses_say_how_much_seeds_vary():
    generator = np.random.default_rng(0)
    table = generator.normal(size=(6, 3))
    losses = [rows(test_intra=of.tolist()) for of in table]
    alone = between(losses[:1], losses[1:2])
    found = between(losses[:1], losses[1:2], losses=losses)
    contrast = np.array([1.0, -1, 0, 0, 0, 0])
    wanted = moderated(table, contrast[None])
    assert found.mean == alone.mean
    assert found.degrees == pytest.approx(wanted.degrees[0])
    assert found.standard_error == pytest.approx((wanted.variance[0] / 3) ** 0.5)
    group = between(losses[:2], losses[2:3], losses=losses)
    contrast = np.array([[0.5, 0.5, -1, 0, 0, 0]])
    wanted = moderated(table, contrast)
    assert group.standard_error == pytest.approx((wanted.variance[0] / 3) ** 0.5)
    assert group.mean == pytest.approx((contrast @ table).mean())


def test_a_reference_has_no_seeds_so_its_difference_keeps_its_own_spread():
    losses = [rows(test_intra=[0.1 * k, 0.12 * k, 0.17 * k]) for k in range(1, 6)]
    reference = {key: {"dataset": "a", "reference": FROZEN, "test_intra": 0.1} for key in range(3)}
    found = between([losses[0]], [reference], losses=losses)
    values = [0.0, 0.02, 0.07]
    assert found.p_value == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    assert found.degrees == pytest.approx(2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three losses and the untrained head on digits, three seeds."""
    place = tmp_path_factory.mktemp("differences")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOSSGAUGE_CACHE", str(place / "cache"))
        plan = small_plan(losses="triplet,ccl,scl", seeds=3, epochs=1)
        run_study(plan, place / "study", progress=Quiet())
    return place / "study"


@pytest.fixture
def view(folder: Path) -> StudyView:
    return read_study(folder)


SEEDS = (0, 1, 2)
LOSSES = ("triplet", "ccl", "scl", "untrained")
GROUPS = {
    "a pair": (["triplet"], ["scl"]),
    "two groups": (["triplet", "ccl"], ["scl", "untrained"]),
    "the frozen features": (["triplet"], [FROZEN]),
}


def runs_of(view: StudyView, name: str):
    triplet, ccl, scl = view.losses
    if name == FROZEN:
        return view.reference_runs("digits", triplet, FROZEN)
    losses = {"triplet": triplet, "ccl": ccl, "scl": scl, "untrained": BASELINE}
    return view.runs("digits", losses[name])


def by_loop(view: StudyView, left, right, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Seeds × queries of left − right, one query at a time, and the class of each query."""
    query_column = {"recall_at_1": "hit_at_1", "map_at_r": "ap_at_r"}[column]
    of = {}
    for name, seed in product((*left, *right), SEEDS):
        frozen = name == FROZEN
        table = (
            view.frozen_queries("digits")
            if frozen
            else view.queries(runs_of(view, name)[seed]["run"])
        )
        of[name, seed] = {row["query"]: row for row in table.to_pylist()}
    first = of[left[0], 0]
    values = [
        [
            sum(float(of[name, seed][query][query_column]) for name in left) / len(left)
            - sum(float(of[name, seed][query][query_column]) for name in right) / len(right)
            for query in first
        ]
        for seed in SEEDS
    ]
    return np.array(values), np.array([row["label"] for row in first.values()])


@pytest.mark.parametrize("unseen", [False, True])
@pytest.mark.parametrize("column", ["recall_at_1", "map_at_r"])
@pytest.mark.parametrize("groups", GROUPS)
def test_queries_are_paired_and_drawn_as_the_split_says(view, groups, column, unseen, monkeypatch):
    assert not view.files.has_unseen_classes(runs_of(view, "triplet")[0]["run"])  # of digits
    monkeypatch.setattr(type(view.files), "has_unseen_classes", lambda *_: unseen)
    left, right = GROUPS[groups]
    sides = [[runs_of(view, name) for name in side] for side in (left, right)]
    found = view.contrast(*sides, column)
    values, classes = by_loop(view, left, right, column)
    drawn = "classes" if unseen else "queries within classes"
    by_name = {n: np.array([r[column] for r in runs_of(view, n).values()]) for n in LOSSES}
    losses = pool(np.array([by_name[n] for n in LOSSES[:3]]))
    typical = {
        **dict(zip(LOSSES, losses.typical.tolist(), strict=False)),
        "untrained": agreement(losses, by_name["untrained"]),
        FROZEN: 0.0,
    }
    variance = contrast_variance(
        values.mean(1),
        1 / len(left) + 1 / len(right),
        min(typical[name] for name in (*left, *right)),
        losses,
    )
    wanted = crossed_interval(crossed(values, drawn=drawn, classes=classes, seed_variance=variance))
    assert found.mean == pytest.approx(wanted.mean)
    assert found.half_width == pytest.approx(wanted.half_width)
    assert found.p_value == pytest.approx(wanted.p_value)
    assert found.over == wanted.over
    assert found.queries == values.shape[1]
    assert found.size == 3


def test_one_seed_gives_an_interval_for_these_heads(view):
    sides = [[{0: runs_of(view, name)[0]}] for name in ("triplet", "scl")]
    found = view.contrast(*sides, "recall_at_1")
    assert found.over == "these trained heads on new queries of the same classes"
    assert found.half_width > 0
    assert (found.size, found.components) == (1, None)
    assert view.contrast(*sides, "test_intra").why_none == "one seed"


def test_a_number_without_queries_and_results_without_a_folder_are_over_seeds(view):
    triplet, _, scl = view.losses
    assert view.difference("digits", triplet, scl, "test_intra").over == "new seeds"
    without = StudyView(view.results)
    found = without.difference("digits", triplet, scl, "recall_at_1")
    assert (found.over, found.queries) == ("new seeds", 0)
    with_queries = view.difference("digits", triplet, scl, "recall_at_1")
    assert found.mean == pytest.approx(with_queries.mean)


def test_a_loss_against_itself_answers_every_query_the_same(view):
    runs = runs_of(view, "triplet")
    found = view.contrast([runs], [runs], "recall_at_1")
    assert (found.mean, found.half_width) == (0, None)
    assert found.why_none == "both answer every query the same"


@pytest.mark.parametrize("column", ["recall_at_1", "test_intra"])
def test_the_other_order_is_the_negative_whether_it_is_computed_first_or_second(view, column):
    dataset, (one, other) = view.datasets[0], view.losses[:2]
    first = view.difference(dataset, one, other, column)
    second = view.difference(dataset, other, one, column)
    alone = StudyView(view.results, view.files).difference(dataset, other, one, column)
    assert second == alone == first._replace(mean=-first.mean)
    assert (second.low, second.high) == (-first.high, -first.low)


def test_runs_that_were_asked_different_queries_are_an_error_that_names_both(view, monkeypatch):
    triplet, _, scl = view.losses
    last = view.runs("digits", scl)[2]["run"]
    read = type(view.files).queries

    def with_another_query(self, run):
        table = read(self, run)
        ids = pa.array([*table["query"].to_pylist()[1:], 10**6], pa.int32())
        return table.set_column(0, "query", ids) if run == last else table

    monkeypatch.setattr(type(view.files), "queries", with_another_query)
    with pytest.raises(InputError, match="same queries") as caught:
        view.difference("digits", triplet, scl, "recall_at_1")
    assert last in str(caught.value)
    assert "differ: 2 are on one side only; report them as two studies" in str(caught.value)
    assert view.difference("digits", triplet, scl, "test_intra") is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda table: table.slice(1),
            r"is damaged: its \S+ is 0\.\d+, and the mean over its queries",
        ),
        (
            lambda table: table.set_column(3, "ap_at_r", pa.array([math.nan] * len(table))),
            "is damaged: its MAP@R is .*, and the mean over its queries is nan; delete its folder",
        ),
        (lambda table: table.take(list(range(len(table)))[::-1]), "their order differs"),
    ],
    ids=["a row less", "NaN", "another order"],
)
def test_queries_that_are_not_those_of_the_run_name_it(view, monkeypatch, change, message):
    triplet, _, scl = view.losses
    last = view.runs("digits", scl)[2]["run"]
    read = type(view.files).queries
    monkeypatch.setattr(
        type(view.files),
        "queries",
        lambda self, run: change(read(self, run)) if run == last else read(self, run),
    )
    with pytest.raises(InputError, match=message) as caught:
        view.difference("digits", triplet, scl, "recall_at_1")
    assert last in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("within", [2, 4, 8])
def test_a_hit_within_k_is_known_by_query(view, within):
    triplet, ccl, _ = view.losses
    found = view.difference("digits", triplet, ccl, f"recall_at_{within}")
    assert found.queries == len(view.queries(view.runs("digits", triplet)[0]["run"]))
    means = [
        np.mean([row[f"recall_at_{within}"] for row in view.runs("digits", loss).values()])
        for loss in (triplet, ccl)
    ]
    assert found.mean == pytest.approx(means[0] - means[1])


def test_the_decisions_of_all_pairs_are_one_family(view):
    decisions = view.decisions("digits", "map_at_r")
    assert len(decisions) == 6
    family = [view.difference("digits", *pair, "map_at_r") for pair in combinations(view.losses, 2)]
    corrected = holm([of.p_value for of in family])
    for pair, p_value in zip(combinations(view.losses, 2), corrected, strict=True):
        assert decisions[pair].p_value == pytest.approx(p_value)
        assert decisions[pair].family == 3
        assert decisions[pair[::-1]] == decisions[pair].turned


def test_the_comparisons_with_one_loss_are_a_family_of_their_own(view):
    triplet, ccl, scl = view.losses
    decisions = view.decisions_against("digits", "map_at_r", ccl)
    assert set(decisions) == {triplet, scl}
    family = [view.difference("digits", ccl, other, "map_at_r") for other in (triplet, scl)]
    corrected = holm([of.p_value for of in family])
    assert [decisions[o].p_value for o in (triplet, scl)] == pytest.approx(corrected)
    assert {decisions[o].family for o in (triplet, scl)} == {2}

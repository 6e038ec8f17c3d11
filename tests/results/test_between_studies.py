"""One loss in two studies: what is paired, and the intervals against a loop over planted queries."""

from __future__ import annotations

import numpy as np
import pytest

from lossgauge.errors import InputError
from lossgauge.results.between_studies import (
    SAME_RUNS,
    SharedDataset,
    check_shared,
    difference,
    environment_differences,
    losses_of,
    shared_datasets,
    shared_losses,
)
from lossgauge.results.view import Loss, StudyView
from lossgauge.stats.crossed import crossed, crossed_interval
from lossgauge.stats.two_samples import other_queries, other_seeds
from tests.support.planted_studies import planted_study

TRIPLET = Loss("triplet", "triplet")


def between(first: StudyView, second: StudyView, column: str = "recall_at_1", loss: Loss = TRIPLET):
    (shared,) = shared_datasets(first, second)
    return difference(first, second, shared, (loss, loss), column)


def answers(view: StudyView, name: str = "hit_at_1") -> np.ndarray:
    """Seeds × queries of triplet, one query at a time."""
    rows = sorted(view.runs(view.datasets[0], TRIPLET).items())
    tables = [view.files.tables[row["run"]].to_pylist() for _, row in rows]
    return np.array([[float(query[name]) for query in table] for table in tables])


def labels(view: StudyView) -> np.ndarray:
    row = view.runs(view.datasets[0], TRIPLET)[min(view.runs(view.datasets[0], TRIPLET))]
    return np.array([query["label"] for query in view.files.tables[row["run"]].to_pylist()])


@pytest.mark.parametrize(
    ("column", "of_query"), [("recall_at_1", "hit_at_1"), ("map_at_r", "ap_at_r")]
)
def test_the_same_queries_and_seeds_are_paired_by_both(column, of_query):
    first, second = planted_study({"triplet": 0.5}), planted_study({"triplet": 0.8}, luck=1)
    found = between(first, second, column)
    values = answers(second, of_query) - answers(first, of_query)
    wanted = crossed_interval(
        crossed(values, drawn="queries within classes", classes=labels(first))
    )
    assert found.paired == "seeds and queries"
    assert found.interval.mean == pytest.approx(values.mean())
    assert found.interval.half_width == pytest.approx(wanted.half_width)
    assert found.interval.over == "new seeds and new queries of the same classes"
    assert found.interval.low > 0  # the second is better, as planted
    turned = between(second, first, column).interval
    assert turned.mean == pytest.approx(-found.interval.mean)
    assert turned.half_width == pytest.approx(found.interval.half_width)


def test_only_shared_seeds_count_where_there_are_two():
    first = planted_study({"triplet": 0.5}, seeds=(0, 1, 2))
    second = planted_study({"triplet": 0.8}, seeds=(1, 2, 3), luck=1)
    found = between(first, second)
    values = answers(second)[:2] - answers(first)[1:]
    assert (found.paired, found.interval.size) == ("seeds and queries", 2)
    assert found.interval.mean == pytest.approx(values.mean())
    assert found.interval.approximate == "two seeds"


def test_other_seeds_are_paired_by_query_alone():
    first = planted_study({"triplet": 0.5}, seeds=(0, 1, 2))
    second = planted_study({"triplet": 0.8}, seeds=(2, 7, 8), luck=1)
    found = between(first, second)
    wanted = other_seeds(
        answers(first), answers(second), drawn="queries within classes", classes=labels(first)
    )
    assert (found.paired, found.interval.size) == ("queries", 3)
    assert found.interval == wanted
    assert between(first, second, "test_intra").paired == "nothing"


def test_a_single_seed_that_is_shared_is_over_the_trained_heads():
    first = planted_study({"triplet": 0.5}, seeds=(0,))
    second = planted_study({"triplet": 0.8}, seeds=(0, 1, 2), luck=1)
    found = between(first, second)
    assert found.interval.over == "these trained heads on new queries of the same classes"
    assert found.interval.mean == pytest.approx(answers(second)[0].mean() - answers(first).mean())


@pytest.mark.parametrize("what", ["fingerprint", "first_query"])
def test_other_rows_are_not_paired(what):
    # the same numbers of rows do not make the same rows
    other = {"fingerprint": "beef"} if what == "fingerprint" else {"first_query": 400}
    first = planted_study({"triplet": 0.5})
    second = planted_study({"triplet": 0.9}, luck=1, **other)
    found = between(first, second)
    wanted = other_queries(
        answers(first),
        answers(second),
        drawn="queries within classes",
        classes=(labels(first), labels(second)),
    )
    assert found.paired == "nothing"
    assert found.interval == wanted
    # with equal numbers of queries and seeds too, no pairing by position
    paired = between(first, planted_study({"triplet": 0.9}, luck=1))
    assert paired.interval.half_width < found.interval.half_width


def test_geometry_is_paired_by_seed_and_otherwise_welch():
    from scipy import stats

    first, second = planted_study({"triplet": 0.5}), planted_study({"triplet": 0.8}, luck=1)
    a, b = (list(v.values("digits", TRIPLET, "test_intra").values()) for v in (first, second))
    found = between(first, second, "test_intra")
    assert found.paired == "seeds"
    assert found.interval.p_value == pytest.approx(stats.ttest_rel(b, a).pvalue)
    other = planted_study({"triplet": 0.8}, luck=1, fingerprint="beef")
    found = between(first, other, "test_intra")
    assert found.paired == "nothing"
    assert found.interval.p_value == pytest.approx(stats.ttest_ind(b, a, equal_var=False).pvalue)


def test_the_same_run_in_both_is_said_and_a_missing_number_is_not_compared():
    view, again = planted_study({"triplet": 0.5}), planted_study({"triplet": 0.5})
    found = between(view, again).interval
    assert (found.mean, found.half_width, found.missing) == (0, None, SAME_RUNS)
    assert between(view, again, "test_margin").interval is None
    with pytest.raises(InputError, match="unknown column 'recal'"):
        between(view, again, "recal")


def test_datasets_belong_together_by_name_and_then_by_their_rows():
    one = planted_study({"triplet": 0.5})
    assert shared_datasets(one, planted_study({"scl": 0.5}, fingerprint="beef")) == [
        SharedDataset("digits", "digits", False)
    ]
    other = planted_study({"triplet": 0.5}, dataset="after", luck=1)
    assert shared_datasets(one, other) == [SharedDataset("digits", "after", True)]
    assert between(one, other).paired == "seeds and queries"
    with pytest.raises(InputError, match=r"first has digits; the second has after\)"):
        check_shared(one, planted_study({"triplet": 0.5}, dataset="after", fingerprint="beef"))


def test_losses_belong_together_by_title_and_then_by_the_only_one_of_a_name():
    of = [
        losses_of(planted_study(dict.fromkeys(titles, 0.5)), "digits")
        for titles in (
            ["triplet", "scl", "arcface", "ccl"],
            ["triplet(margin=0.5)", "scl", "ccl(scale=2.0)", "ccl(scale=4.0)"],
        )
    ]
    pairs = [(one.base, other.base) for one, other in shared_losses(*of)]
    assert pairs == [("triplet", "triplet(margin=0.5)"), ("scl", "scl")]


def test_versions_and_code_that_differ_are_named():
    first = planted_study({"triplet": 0.5})
    second = planted_study({"triplet": 0.5}, environment={"lossgauge": "0.1.0", "torch": "2.14.0"})
    assert environment_differences([first, second]) == {"torch": ("2.13.0", "2.14.0")}
    for config in second.files.configs.values():
        config["code"] = "c0ffee"
    found = environment_differences([first, second])
    assert found["code"][0] != found["code"][1]
    assert len(found["code"][0]) == 8

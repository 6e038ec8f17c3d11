"""Whether training is worth it: each answer from a made-up study, and its family."""

from __future__ import annotations

import math

import pytest

from lossgauge.diagnostics.references import FROZEN
from lossgauge.report.text.not_training import (
    CEILING,
    UNTRAINED_HEAD,
    compared,
    comparisons,
    measures,
    sentences,
)
from lossgauge.results.view import BASELINE, Loss, StudyView
from lossgauge.stats.decisions import decide
from lossgauge.types import Record, Results
from tests.support.made_up_study import columns_of

LOSSES = ("triplet", "scl", "ccl")


def study(
    recall: dict[str, float],
    precision: dict[str, float],
    *,
    frozen: tuple[float, float] | None = (0.6, 0.4),
    seeds: int = 4,
) -> StudyView:
    """R@1 and MAP@R of each loss and of `untrained`, with a small spread over seeds that tells 2 points apart."""
    rows: list[Record] = [
        {
            **columns_of("b", loss, seed),
            "recall_at_1": recall[loss] + 0.0005 * math.sin(3 * seed + 2 * place),
            "map_at_r": precision[loss] + 0.0005 * math.sin(2 * seed + 3 * place),
        }
        for place, loss in enumerate(recall)
        for seed in range(seeds)
    ]
    references: list[Record] = []
    if frozen is not None:
        row = {"dataset": "b", "reference": FROZEN, "recall_at_1": frozen[0], "map_at_r": frozen[1]}
        references.append(row)
    return StudyView(Results({}, {}, rows, [], references, [], [], {}))


def level(of_losses: float, untrained: float = 0.5, **others: float) -> dict[str, float]:
    return {**dict.fromkeys(LOSSES, of_losses), **others, "untrained": untrained}


def first(view: StudyView) -> str:
    return sentences(view, "b")[0]


def test_training_that_helps_is_said_with_the_losses():
    assert first(study(level(0.7), level(0.6))) == (
        "Training helps by R@1: all 3 losses are better than the frozen features and the untrained head"
    )
    view = study(level(0.7, ccl=0.55), level(0.6))
    assert first(view) == (
        "Training helps by R@1: triplet and scl are better than the frozen features and the untrained head; "
        "ccl is worse than the frozen features or the untrained head"
    )
    assert sentences(view, "b")[1].startswith("By MAP@R, all 3 losses are better than")


def test_do_not_train_is_an_answer():
    view = study(level(0.55), level(0.3, untrained=0.2))
    assert first(view) == (
        "Do not train: the frozen features are better than every loss by R@1 "
        "(60.0\u00a0% against at most 55.0\u00a0%)"
    )
    assert sentences(view, "b")[1] == (
        "By MAP@R, all 3 losses are worse than the frozen features or the untrained head"
    )
    view = study(level(0.55, untrained=0.7), level(0.3), frozen=None)
    assert first(view).startswith(
        "Do not train: the untrained head is better than every loss by R@1"
    )


def test_the_advice_not_to_train_needs_both_measures():
    view = study(level(0.55), level(0.6))
    assert first(view).startswith("The frozen features are better than every loss by R@1 (60.0")
    assert sentences(view, "b")[1].startswith("By MAP@R, all 3 losses are better than")


def test_where_nothing_is_clearly_better_it_is_said():
    assert first(study(level(0.55, ccl=0.601), level(0.3))) == (
        "No loss is clearly better than the frozen features and the untrained head by R@1; "
        "triplet and scl are worse than the frozen features or the untrained head"
    )


def test_at_the_ceiling_of_r_at_1_map_at_r_leads_and_the_page_says_so():
    view = study(level(0.985), level(0.6), frozen=(0.987, 0.4))
    assert measures(view, "b") == ("map_at_r", "recall_at_1")
    words = sentences(view, "b")
    assert words[0].startswith("Training helps by MAP@R: all 3 losses are better")
    assert words[-1] == "R@1 is at its ceiling (98.7\u00a0% without training), so MAP@R leads"
    below = study(level(0.985), level(0.6), frozen=(CEILING - 0.01, 0.4))
    assert measures(below, "b") == ("recall_at_1", "map_at_r")
    assert "ceiling" not in " ".join(sentences(below, "b"))


def test_a_single_loss_is_compared_by_its_name():
    view = study({"scl": 0.55, "untrained": 0.5}, {"scl": 0.3, "untrained": 0.2})
    assert first(view).startswith(
        "Do not train: the frozen features are better than scl by R@1 (60.0"
    )
    assert "at most" not in first(view)
    view = study({"scl": 0.6002, "untrained": 0.5}, {"scl": 0.3, "untrained": 0.2})
    assert first(view) == (
        "scl is not clearly better than the frozen features and the untrained head by R@1"
    )


def test_one_seed_leaves_it_open():
    view = study(level(0.9), level(0.9), seeds=1)
    assert first(view) == "It is open whether training helps by R@1: one seed shows no spread"


def test_nothing_to_compare_gives_no_sentence():
    rows = [{**columns_of("b", "scl", 0), "recall_at_1": 0.5}]
    assert sentences(StudyView(Results({}, {}, rows, [], [], [], [], {})), "b") == []
    assert comparisons(StudyView(Results({}, {}, [], [], [], [], [], {})), "b") == []


def test_the_family_is_every_loss_against_every_reference_by_one_measure():
    view = study(level(0.7, ccl=0.598), level(0.6, scl=0.41))
    for column in ("recall_at_1", "map_at_r"):
        of = compared(view, "b", column)
        assert of is not None
        assert of.family == 6
        losses = [Loss(name, name) for name in LOSSES]
        assert set(of.losses) == set(losses)
        frozen = next(r for r in view.references("b"))[column]
        for loss in losses:
            by_hand = [row[column] - frozen for row in view.runs("b", loss).values()]
            mean = sum(by_hand) / len(by_hand)
            assert of.differences[loss, FROZEN].mean == pytest.approx(mean)
            paired = view.difference("b", loss, BASELINE, column)
            assert of.differences[loss, UNTRAINED_HEAD] == paired
        again = decide(list(of.differences.values()), 0.005)
        assert list(of.decisions.values()) == again


def test_a_difference_inside_the_margin_is_neither_better_nor_worse():
    view = study(level(0.601, untrained=0.6), level(0.401, untrained=0.4))
    assert sentences(view, "b") == [
        "Training does not help here: no loss is clearly better than the frozen features and the untrained head by R@1 or "
        "MAP@R; equivalent to one of them: 3 of 3 losses by R@1 and 3 of 3 losses by MAP@R"
    ]

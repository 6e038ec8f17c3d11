"""Which run gives the head, on made-up studies with planted scores."""

from __future__ import annotations

import re

import pytest

from lossgauge.deployment.choice import choose
from lossgauge.errors import InputError, StudyError
from lossgauge.report.text.short_answer import verdict
from lossgauge.results.view import StudyView
from lossgauge.types import Results
from tests.report.text.test_short_answer import with_values
from tests.support.made_up_study import make_results, no_results

PLAN = {
    "question": "",
    "selection": "last",
    "selection_metric": "map_at_r",
    "validation_share": 0.2,
    "tune": None,
    "sensitivity": [],
}


def planted(
    column: str, scores: dict[tuple[str, int], float], of: Results | None = None
) -> StudyView:
    """Three losses and two seeds on one dataset; `column` of (loss, seed) is as given."""
    made = of or make_results(("digits",), ("triplet", "scl", "ccl"), (4, 5))
    rows = [
        {**row, column: scores.get((row["loss"], row["seed"]), row.get(column))}
        for row in made.summaries
    ]
    return StudyView(made._replace(summaries=rows, plan={**made.plan, **PLAN}))


HIGH = {("triplet", 4): 0.2, ("triplet", 5): 0.3, ("scl", 4): 0.9, ("scl", 5): 0.95}
"""ccl has lost a seed: it takes no part."""


def test_by_test_score_the_best_mean_and_the_first_seed():
    view = planted("map_at_r", {**HIGH, ("ccl", 4): 0.99, ("untrained", 4): 1.0})
    choice = choose(view)
    assert (choice.dataset, choice.loss, choice.seed) == ("digits", "scl", 4)
    assert choice.row["map_at_r"] == 0.9
    assert "highest test MAP@R of 2 losses (92.5" in choice.reason
    assert "would promise too much" in choice.reason


def test_by_validation_where_the_study_has_it_and_the_best_seed():
    view = planted(
        "validation_map_at_r",
        {
            ("triplet", 4): 0.8,
            ("triplet", 5): 0.7,
            ("scl", 4): 0.1,
            ("scl", 5): 0.2,
            ("ccl", 4): 0.1,
        },
    )
    made = [
        {**row, "map_at_r": 0.5 + 0.4 * (row["loss"] == "scl")} for row in view.results.summaries
    ]
    choice = choose(StudyView(view.results._replace(summaries=made)))
    assert (choice.loss, choice.seed) == ("triplet", 4)
    assert "validation MAP@R" in choice.reason
    again = planted("validation_map_at_r", {("triplet", 5): 0.9}, view.results)
    assert choose(again).seed == 5


def test_losses_that_cannot_be_told_apart_are_named():
    view = planted("map_at_r", {k: 0.5 + 0.1 * (k[0] == "scl") * (k[1] == 5) for k in HIGH})
    assert "not clearly above triplet" in choose(view).reason


def test_what_is_asked_for_is_taken_also_by_another_name():
    view = planted("map_at_r", HIGH)
    choice = choose(view, loss="SupCon", seed=5)
    assert (choice.loss, choice.seed, choice.reason) == ("scl", 5, "scl as asked; seed 5 as asked")
    assert choose(view, loss="untrained").loss == "untrained"
    assert choose(view, loss="ccl").seed == 4


def test_in_the_study_of_an_advice_its_run_is_taken():
    view = planted("map_at_r", HIGH)
    answer = {"asked": "", "sentences": [], "loss": "triplet", "seed": 5}
    advised = StudyView(view.results._replace(answer=answer))
    choice = choose(advised)
    assert (choice.loss, choice.seed) == ("triplet", 5)
    assert choice.reason == "triplet is the loss of the advice; seed 5 is the run of the advice"
    assert choose(advised, loss="triplet").seed == 5
    assert choose(advised, seed=4).seed == 4
    assert choose(advised, loss="scl").seed == 4
    older = StudyView(view.results._replace(answer={"asked": "", "sentences": []}))
    assert choose(older).loss == "scl"
    lost = StudyView(view.results._replace(answer={**answer, "seed": 9}))
    assert choose(lost, loss="triplet").seed == 4


def test_the_untrained_head_is_never_suggested():
    made = make_results(("digits",), ("triplet",), (4,))
    with pytest.raises(InputError) as raised:
        choose(StudyView(made._replace(plan={**made.plan, **PLAN})), loss="untrainet")
    assert "untrained" not in str(raised.value)


def test_tuned_losses_take_part_by_their_title():
    made = make_results(("digits",), ("triplet", "scl"), (0, 1), tuned=True)
    rows = [{**r, "map_at_r": 0.9 if r["loss"] == "scl(tuned)" else 0.2} for r in made.summaries]
    view = StudyView(made._replace(summaries=rows, plan={**made.plan, **PLAN}))
    complete = [r for r in view.results.summaries if r["variant"] == "tuned"]
    assert complete
    asked = choose(view, loss="triplet(tuned)")
    assert asked.row["variant"] == "tuned"
    assert choose(view, loss="triplet").row["variant"] == "default"


def with_rates(*rates: float) -> StudyView:
    """A study of triplet with these learning rates, and of scl."""
    made = make_results(("digits",), ("triplet", "scl"), (4, 5))
    rows = [r for r in made.summaries if r["loss"] != "triplet"]
    of_triplet = [r for r in made.summaries if r["loss"] == "triplet"]
    losses = [{"name": "triplet", "settings": {"learning_rate": rate}} for rate in rates]
    for rate in rates:
        title = f"triplet(learning_rate={rate})"
        rows += [{**r, "loss": title, "base": title} for r in of_triplet]
    plan = {**made.plan, **PLAN, "losses": [*losses, {"name": "scl"}]}
    return StudyView(made._replace(summaries=rows, plan=plan))


def test_a_loss_with_settings_is_taken_by_its_name_alone_where_it_is_the_only_one():
    slow, fast = "triplet(learning_rate=0.001)", "triplet(learning_rate=0.01)"
    assert choose(with_rates(0.001), loss="triplet").loss == slow
    two = with_rates(0.001, 0.01)
    assert choose(two, loss=fast).loss == fast
    with pytest.raises(InputError, match=f"2 losses with the name triplet.*{re.escape(fast)}"):
        choose(two, loss="triplet")


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ({"loss": "tripplet"}, InputError, "no finished run of the loss 'tripplet'.*'triplet'"),
        (
            {"seed": 9, "loss": "triplet"},
            InputError,
            r"no finished run of seed 9 \(finished: 4, 5\)",
        ),
        ({"dataset": "digit"}, InputError, "no dataset 'digit'.*'digits'"),
    ],
)
def test_what_the_study_does_not_have_is_an_error(asked, error, words):
    with pytest.raises(error, match=words):
        choose(planted("map_at_r", HIGH), **asked)


def test_several_datasets_or_none_are_an_error():
    view = StudyView(make_results())
    with pytest.raises(
        InputError, match="2 datasets; name one of them with --dataset: digits, orl"
    ):
        choose(view)
    with pytest.raises(InputError, match="0 datasets"):
        choose(StudyView(no_results()))


def test_a_study_without_a_finished_run_or_loss_is_an_error():
    made = make_results(("digits",), ("triplet",), (0,))
    plan = {**made.plan, **PLAN}
    nothing = made._replace(summaries=[], plan=plan)
    with pytest.raises(StudyError, match="no run on digits has finished"):
        choose(StudyView(nothing))
    baseline = [row for row in made.summaries if row["loss"] == "untrained"]
    with pytest.raises(StudyError, match="no loss has finished all its seeds"):
        choose(StudyView(made._replace(summaries=baseline, plan=plan)))


def advised_by_page(validation: dict[str, float], **values: float) -> StudyView:
    """R@1 and MAP@R as given beside frozen features of 50 %, and other scores on the validation slice."""
    made = with_values({"untrained": 0.5, **values}, noise=0.001)
    rows = [{**r, "validation_map_at_r": validation.get(r["loss"])} for r in made.summaries]
    return StudyView(made._replace(summaries=rows, plan={**made.plan, **PLAN}))


def test_the_loss_is_one_that_the_page_advises_whatever_another_has_on_the_slice():
    view = advised_by_page({"scl": 0.6, "triplet": 0.9}, scl=0.7, triplet=0.6)
    assert [loss.name for loss in verdict(view, "d").losses] == ["scl"]
    choice = choose(view)
    assert (choice.loss, choice.caution) == ("scl", "")
    assert choice.reason.startswith("scl is the loss that the page advises (validation MAP@R 60.0")
    other = choose(view, loss="triplet")
    assert other.caution == f"the page of the study says: {verdict(view, 'd').sentence}"
    assert "train with scl" in other.caution


def test_of_several_that_the_page_advises_the_slice_decides():
    slice_scores = {"scl": 0.6, "ccl": 0.65, "triplet": 0.9}
    view = advised_by_page(slice_scores, scl=0.7, ccl=0.7, triplet=0.6)
    assert len(verdict(view, "d").losses) == 2
    choice = choose(view)
    assert choice.loss == "ccl"
    assert "highest validation MAP@R of the 2 losses that the page advises" in choice.reason


def test_the_advice_not_to_train_is_repeated():
    view = advised_by_page({}, scl=0.4, triplet=0.3)
    choice = choose(view)
    assert choice.loss == "scl"
    assert choice.caution.startswith("the page of the study says: On d, do not train")
    said = [{"topic": "Train?", "text": "No, keep the raw model."}]
    answer = {"asked": "", "sentences": said, "loss": "triplet", "seed": None}
    advised = choose(StudyView(view.results._replace(answer=answer)))
    assert (advised.loss, advised.caution) == (
        "triplet",
        "train? The advice says: No, keep the raw model.",
    )
    said[0]["text"] = "Yes. It helps."
    assert not choose(StudyView(view.results._replace(answer=answer))).caution

"""Advice about queries and documents."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lossgauge.advice import phases
from lossgauge.advice.candidates import pair_batchings
from lossgauge.advice.learning_curve import with_less_training
from lossgauge.advice.phases import advise
from lossgauge.advice.question import PAIR_LOSSES, Question, base_plan, check_question, fit_to
from lossgauge.data.pairs import load
from lossgauge.errors import DataError, InputError
from lossgauge.losses.registry import loss_class
from lossgauge.plan.yaml_file import load_plan
from lossgauge.results.reader import read_study
from lossgauge.study import runner


@pytest.fixture
def vectors(tmp_path):
    """Queries that are turned versions of their documents: an adapter can turn them back."""
    generator = np.random.default_rng(0)
    documents = generator.normal(size=(160, 12))
    turn = np.eye(12)[::-1] + 0.3 * generator.normal(size=(12, 12))
    rows = [
        {"query": (row @ turn).round(5).tolist(), "positive": row.round(5).tolist()}
        for row in documents
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_the_question_of_pairs_has_its_own_goals_losses_and_head(vectors):
    question = Question(f"pairs:{vectors}", minutes=1)
    check_question(question)
    assert (question.metric, Question("wordnet", "top1").metric) == ("ndcg_at_10", "recall_at_1")
    with pytest.raises(InputError, match="goal diversity is about classes"):
        check_question(Question("wordnet", "diversity"))
    with pytest.raises(InputError, match=r"for queries and documents pairs:"):
        check_question(Question(str(vectors)))
    plan = base_plan(Question("wordnet"), epochs=3)
    assert plan.backbone_of("wordnet").name == "minilm-l6"
    assert (plan.head, plan.rank, plan.selection_metric) == ("residual", 32, "ndcg_at_10")
    assert tuple(loss.name for loss in plan.losses) == PAIR_LOSSES
    assert all(loss_class(name).pair_form for name in PAIR_LOSSES)
    assert [tuple(one) for one in pair_batchings(2_000)] == [("random", 64), ("random", 256)]
    assert [tuple(one) for one in pair_batchings(10)] == [("random", 10)]
    features = load(vectors)
    assert fit_to(features).samples_per_class == 4
    half, quarter = (with_less_training(features, share).train.tolist() for share in (0.5, 0.25))
    assert (len(half), len(quarter)) == (40, 20)
    assert set(quarter) < set(half) < set(features.train.tolist())


def test_too_few_queries_are_one_error_without_a_word_about_studies(vectors, tmp_path):
    vectors.write_text("\n".join(vectors.read_text().splitlines()[:4]))
    with pytest.raises(DataError, match=r"its 2 training queries, .*: give more queries") as raised:
        advise(Question(f"pairs:{vectors}"), tmp_path / "out")
    assert "study" not in str(raised.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_final_study_that_was_cut_still_counts_its_queries(vectors, tmp_path, monkeypatch):
    """The time ends in the second seed of the finalists: the first one is there."""
    made = phases._finals

    def cut(plan, folder, *others):
        if len(plan.seeds) > 1 and others[-1] > 1:
            return False
        monkeypatch.setattr(runner, "_write_examples", lambda *_: None)  # as if it had been cut
        return made(plan, folder, *others)

    monkeypatch.setattr(phases, "_finals", cut)
    found = advise(Question(f"pairs:{vectors}", minutes=0.5), tmp_path / "out", jobs=1)
    assert not found.complete
    topics = {sentence.topic: sentence.text for sentence in found.sentences}
    assert topics["Queries"].startswith("Of ")
    assert "mean over 1 seed" in topics["Queries"]
    assert topics["Without training"].startswith("Centering the raw model alone")


@pytest.mark.slow
def test_the_answer_compares_with_the_raw_model_and_counts_queries(vectors, tmp_path):
    found = advise(Question(f"pairs:{vectors}", minutes=0.5), tmp_path / "out", jobs=1)
    assert found.train in ("train", "open")  # the time decides how many epochs there are
    assert found.loss in PAIR_LOSSES
    topics = {sentence.topic: sentence.text for sentence in found.sentences}
    assert "Rule of thumb" not in topics
    assert "nDCG@10 is" in topics["Train?"]
    assert "with the raw model and" in topics["Train?"]
    assert "untrained head" not in str(found)
    assert topics["Without training"].startswith("Centering the raw model alone")
    assert topics["Queries"].startswith("Of ")
    view = read_study(tmp_path / "out" / "study")
    raw = next(r for r in view.references(view.datasets[0]) if r["reference"] == "frozen features")
    assert f"{100 * raw['ndcg_at_10']:.1f} %" in topics["Train?"].replace("\u00a0", " ")
    assert load_plan(found.study_file).head == "residual"

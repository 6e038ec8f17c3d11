"""What centering alone gives stands beside the adapter, and the document that is found too often has a name."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from lossgauge.report.text.centering import centering_sentence, hub_sentence
from lossgauge.results.query_changes import Hub, QueryChanges
from lossgauge.results.view import StudyView
from lossgauge.stats.intervals import Interval
from lossgauge.types import Results

COLUMNS = {"variant": "default", "dataset": "d", "fingerprint": "0"}

WRITES = "`lossgauge head FOLDER --out head`, then `lossgauge embed d --frozen --head head --center` writes them centered."


def study(*, adapter: float, centered: float | None) -> StudyView:
    rows = [
        {**COLUMNS, "run": f"mnrl-{seed}", "loss": "mnrl", "base": "mnrl", "seed": seed}
        | {"ndcg_at_10": adapter}
        for seed in (0, 1)
    ]
    references = [{"dataset": "d", "reference": "frozen features", "ndcg_at_10": 0.55}]
    if centered is not None:
        references.append(
            {"dataset": "d", "reference": "centered raw model", "ndcg_at_10": centered}
        )
    plan = {"datasets": ["d"], "losses": [{"name": "mnrl", "settings": {}}]}
    return StudyView(Results(plan, {}, rows, [], references, [], [], {}))


@pytest.mark.parametrize(
    ("adapter", "centered", "end"),
    [
        (
            0.621,
            0.607,
            "gives nDCG@10 60.7 % (+5.7 points, no interval was measured); the adapter with mnrl gives +7.1 points. "
            + WRITES,
        ),
        (
            0.56,
            0.607,
            "(+5.7 points, no interval was measured); the adapter with mnrl gives +1.0 points. "
            + WRITES,
        ),
        (
            0.53,
            0.54,
            "(−1.0 points, no interval was measured); the adapter with mnrl gives −2.0 points.",
        ),
    ],
)
def test_centering_is_compared_with_the_best_loss(adapter, centered, end):
    words = centering_sentence(study(adapter=adapter, centered=centered), "d", "ndcg_at_10")
    assert words.replace("\u00a0", " ").endswith(end)


@pytest.mark.parametrize("side", ["open", "higher"])
def test_a_gain_that_the_correction_leaves_open_says_so(side, monkeypatch):
    view = study(adapter=0.621, centered=0.54)
    gain, (mnrl,) = Interval(0.02, 0.01, 2), view.losses
    monkeypatch.setattr(view, "contrast", lambda *_: gain)
    family = SimpleNamespace(
        losses=(mnrl,),
        means={mnrl: 0.621},
        differences={(mnrl, "raw model"): gain},
        decisions={(mnrl, "raw model"): SimpleNamespace(side=side)},
    )
    monkeypatch.setattr("lossgauge.report.text.centering.compared", lambda *_: family)
    words = centering_sentence(view, "d", "ndcg_at_10")
    assert "gives +2.0 ± 1.0 points" in words
    assert ("not clear after the correction for all losses" in words) is (side == "open")


def test_an_older_study_without_the_centered_model_says_nothing():
    assert centering_sentence(study(adapter=0.6, centered=None), "d", "ndcg_at_10") == ""


def test_a_hub_is_named_with_the_start_of_its_text():
    evidence = "document d261 is among the 10 nearest of 73 of 100 queries (73.0%)"
    hub = Hub(document="d261", text="x" * 300, evidence=evidence)
    counts = {"seeds": 1, "better_count": 0, "worse_count": 0, "query_count": 0}
    of = QueryChanges(dataset="d", loss="mnrl", better=[], worse=[], hub=hub, **counts)
    words = hub_sentence(of)
    assert words.startswith("Read document d261 ('xxx")
    assert words.endswith("first: it is among the 10 nearest of 73 of 100 queries (73.0%).")
    assert len(words) < 180

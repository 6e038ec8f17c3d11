"""Finalists with planted numbers: which loss is best, by how much, and how sure that is, is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lossgauge.results.view import StudyView
from lossgauge.types import Record, Results

DATASET = "planted"


def finals(
    levels: Mapping[str, Sequence[float]],
    *,
    frozen: float = 0.5,
    intra: Mapping[str, float] | None = None,
    curves: Mapping[str, Sequence[float]] | None = None,
    titles: Mapping[str, str] | None = None,
) -> StudyView:
    """A study of losses whose MAP@R is `levels` by seed; R@1 is 0.1 more, intra as given.

    `curves` has the MAP@R of each epoch on the validation slice, from 0 on, the same for every seed but for 0.0001.
    """
    summaries: list[Record] = []
    epochs: list[Record] = []
    titles = titles or {}
    seeds = len(next(iter(levels.values())))
    for loss, values in {"untrained": [0.3] * seeds, **levels}.items():
        title = titles.get(loss, loss)
        for seed, value in enumerate(values):
            row = {
                "run": f"{loss}-{seed}",
                "dataset": DATASET,
                "loss": title,
                "base": title,
                "variant": "default",
                "seed": seed,
                "fingerprint": "0",
            }
            wobble = 0.0001 * seed
            numbers = {
                "map_at_r": value + wobble,
                "recall_at_1": value + 0.1 + wobble,
                "test_intra": (intra or {}).get(loss, 0.2) + wobble,
            }
            summaries.append({**row, **numbers})
            for epoch, score in enumerate((curves or {}).get(loss, ())):
                epochs.append({**row, "epoch": epoch, "validation_map_at_r": score + wobble})
    references = [
        {
            "dataset": DATASET,
            "reference": "frozen features",
            "map_at_r": frozen,
            "recall_at_1": frozen + 0.1,
        }
    ]
    losses = []
    for loss in levels:
        title = titles.get(loss, loss)
        inside = title.partition("(")[2].rstrip(")")
        settings = dict(part.split("=") for part in inside.split(", ")) if inside else {}
        losses.append({"name": loss, "settings": {k: float(v) for k, v in settings.items()}})
    plan = {"datasets": [DATASET], "losses": losses}
    return StudyView(Results(plan, {}, summaries, epochs, references, [], [], {}))

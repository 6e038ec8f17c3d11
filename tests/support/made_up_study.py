"""A made-up study that looks like a real one: two datasets, seven losses, three seeds, thirty epochs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lossgauge.types import Record, Results
from tests.support.made_up_variants import with_sensitivity, with_tuned

EPOCHS = 30
SEEDS = (0, 1, 2)
SHAPES: dict[str, dict[str, Any]] = {
    # end of intra, epochs of compaction's time scale, gradient, R@1 gained, term ratio at the end
    "contrastive": {"intra": 0.07, "scale": 2.2, "gradient": 9e-4, "gain": 0.02, "terms": 0.55},
    "triplet": {"intra": 0.31, "scale": 6.5, "gradient": 2.6e-3, "gain": 0.055, "terms": 0.08},
    "n_pair": {"intra": 0.36, "scale": 7.5, "gradient": 6e-4, "gain": 0.04, "terms": 1.0},
    "info_nce": {"intra": 0.12, "scale": 3.0, "gradient": 1.4e-3, "gain": 0.05, "terms": 0.97},
    "arcface": {"intra": 0.16, "scale": 4.4, "gradient": 3.9e-2, "gain": 0.045, "terms": 0.99},
    "scl": {"intra": 0.24, "scale": 5.2, "gradient": 1.1e-3, "gain": 0.058, "terms": 1.0},
    "ccl": {"intra": 0.10, "scale": 3.6, "gradient": 1.9e-2, "gain": 0.03, "terms": 0.99},
}


def make_results(
    datasets: tuple[str, ...] = ("digits", "orl-faces"),
    losses: tuple[str, ...] = tuple(SHAPES),
    seeds: tuple[int, ...] = SEEDS,
    *,
    tuned: bool = False,
    factors: tuple[float, ...] = (),
    protocols: tuple[str, ...] = (),
) -> Results:
    """Like a study's records: the last loss fails on the first dataset for the last seed.

    `tuned`, `factors` (of the sensitivity) and `protocols` (one a dataset) add what such a study has more.
    """
    summaries: list[Record] = []
    epochs: list[Record] = []
    failures: list[Record] = []
    references: list[Record] = []
    for number, dataset in enumerate(datasets):
        base = 0.91 - 0.11 * number
        references += _references(dataset, base)
        for seed in seeds:
            generator = np.random.default_rng([number, seed])
            start = {"intra": 0.52 + 0.05 * number, "recall": base - 0.02 * generator.random()}
            row = {**columns_of(dataset, "untrained", seed), **_geometry(start["intra"])}
            row |= _retrieval(start["recall"]) | {"epochs": 0, "fingerprint": f"f00d{number}"}
            summaries.append(row)
            epochs.append({**row, "epoch": 0})
            for loss in losses:
                columns = columns_of(dataset, loss, seed)
                if number == 0 and loss == losses[-1] and seed == seeds[-1] and len(seeds) > 1:
                    failures.append({**columns, "error": "the loss became NaN in epoch 4"})
                    continue
                rows = _epochs(SHAPES[loss], start, generator, final=base)
                epochs += [{**columns, **row} for row in rows]
                summaries.append(
                    {**columns, **_summary(loss, rows), "fingerprint": f"f00d{number}"}
                )
    if protocols:
        of_dataset = dict(zip(datasets, protocols, strict=True))
        summaries = [{**row, "protocol": of_dataset[row["dataset"]]} for row in summaries]
    made = Results(
        plan={
            "datasets": [*datasets, "cars196"],
            "losses": [{"name": loss, "settings": {}} for loss in losses],
            "seeds": list(seeds),
            "epochs": EPOCHS,
            "batch_size": 256,
            "learning_rate": 1e-3,
        },
        assumptions={
            "head": "one linear layer to 128: the smallest head",
            "reducer": "the mean over all valid terms, for every loss",
        },
        summaries=summaries,
        epochs=epochs,
        references=references,
        left_out=[{"dataset": "cars196", "reason": "not found under /data/cars196"}],
        failures=failures,
        environment={"lossgauge": "0.1.0", "torch": "2.13.0", "python": "3.12.1", "threads": 2},
    )
    made = with_tuned(made) if tuned else made
    return with_sensitivity(made, factors) if factors else made


def columns_of(dataset: str, loss: str, seed: int, variant: str = "default") -> Record:
    """The columns of every row of a run; `loss` is the loss as in the plan."""
    tuned = variant == "tuned"
    return {
        "run": f"{dataset}_{loss}_{seed}{'_tuned' if tuned else ''}",
        "dataset": dataset,
        "loss": f"{loss}(tuned)" if tuned else loss,
        "base": loss,
        "variant": variant,
        "seed": seed,
    }


def no_results() -> Results:
    """A study without a row."""
    return Results({}, {}, [], [], [], [], [], {})


def _epochs(
    shape: dict[str, Any], start: Record, generator: np.random.Generator, *, final: float
) -> list[Record]:
    jitter = 1 + 0.05 * generator.standard_normal()
    rows: list[Record] = []
    for epoch in range(EPOCHS + 1):
        done = 1 - math.exp(-epoch / (shape["scale"] * jitter))
        intra = start["intra"] + (shape["intra"] * jitter - start["intra"]) * done
        recall = start["recall"] + (final * 0.02 + shape["gain"] - 0.012) * done
        row: Record = {"epoch": epoch, **_geometry(intra)}
        measured = epoch % 2 == 0
        noise = 0.004 * generator.standard_normal()
        row |= _retrieval(min(1.0, recall + noise)) if measured else _retrieval(None)
        if epoch:
            row |= {
                "loss_value": 2.0 * (1 - done) + 0.3,
                "term_active_ratio": 1 - (1 - shape["terms"]) * done,
                "gradient_active_ratio": 1 - 0.5 * done * (1 - shape["intra"]),
                "gradient_active_ratio_low": 1 - 0.2 * done,
                "gradient_active_ratio_high": 1 - 0.9 * done,
                "mean_weight": 1 - 0.8 * done,
                "effective_share": 0.4,
                "embedding_gradient": shape["gradient"] * (1 - 0.8 * done) * jitter,
                "head_gradient": shape["gradient"] * 40,
                "loss_gradient": 0.02 if shape["gradient"] > 0.01 else None,
                "gradient_per_active": shape["gradient"],
                "pull": shape["gradient"] * 0.6,
                "push": shape["gradient"] * 0.5,
                "skipped_anchor_ratio": 0.01,
                "seconds": 0.4,
            }
        rows.append(row)
    return rows


def _summary(loss: str, rows: list[Record]) -> Record:
    trained = rows[1:]
    dynamic = [key for key in trained[0] if key not in rows[0] and key != "seconds"]
    means = {
        key: None if trained[0][key] is None else float(np.mean([row[key] for row in trained]))
        for key in dynamic
    }
    intra = [row["train_intra"] for row in rows]
    level = intra[0] - 0.9 * (intra[0] - intra[-1])
    return {
        **{key: value for key, value in rows[-1].items() if key not in ("epoch", "seconds")},
        **means,
        "epochs": EPOCHS,
        "settings": f"margin=0.2, reduction=mean, tolerance=1e-06 ({loss})",
        "loss_value": trained[-1]["loss_value"],
        "decay_epochs": None if loss in ("scl", "n_pair") else 11.5,
        "floor_decay_epochs": 14.0,
        "compaction_epochs": float(next(e for e, value in enumerate(intra) if value <= level)),
        "step_milliseconds": 4.1,
        "probe_share": 0.06,
        "seconds": 12.0,
    }


def _geometry(intra: float) -> Record:
    offset = 0.6 * intra
    both = {
        "intra": intra,
        "inter": 2.2 * (1 - intra - offset),
        "offset": offset,
        "spacing_mean": 1.1,
        "spacing_cv": 0.1 + 0.1 * intra,
        "spacing_min_ratio": 0.6,
        "margin": 0.9 - 2 * math.sqrt(intra),
        "intra_inter_ratio": intra / 2,
        "cdnv": intra / 2,
        "effective_rank": 9.5,
        "alignment": 2 * intra,
        "uniformity": -2.4,
        "class_count": 10,
        "sample_count": 200,
    }
    return {f"{side}_{name}": value for side in ("train", "test") for name, value in both.items()}


def _retrieval(recall: float | None) -> Record:
    if recall is None:
        return dict.fromkeys(
            (*(f"recall_at_{k}" for k in (1, 2, 4, 5, 8, 10)), "r_precision", "map_at_r")
        )
    return {
        **{f"recall_at_{k}": min(1.0, recall + 0.01 * k) for k in (1, 2, 4, 5, 8, 10)},
        "r_precision": recall - 0.1,
        "map_at_r": recall - 0.15,
    }


def _references(dataset: str, recall: float) -> list[Record]:
    spaces = (("frozen features", 0.44, recall), ("random unit vectors", 0.99, 0.1))
    rows = [
        {
            "dataset": dataset,
            "reference": name,
            **{k.removeprefix("test_"): v for k, v in _geometry(intra).items() if "test" in k},
            **_retrieval(found),
        }
        for name, intra, found in spaces
    ]
    collapse = {"dataset": dataset, "reference": "full collapse", "intra": 0.0, "inter": 0.0}
    return [*rows, {**collapse, "offset": 1.0, "spacing_cv": None, "recall_at_1": None}]

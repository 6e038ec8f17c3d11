"""The regret of `lossgauge advise` by replay, against random search and the triplet loss with its defaults.

    python -m benchmarks.advise_regret grid      # about 15 minutes of one core; continues where it stopped
    python -m benchmarks.advise_regret replay    # seconds

`grid` trains every candidate of every loss on four datasets and keeps the MAP@R of every epoch, on the validation slice and on
the test side. A schedule is then replayed on the table: it sees the slice, and its choice is judged by the test side. The learning rate is constant, so
the first epochs of a long run are those of a short one.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

FOLDER = Path(__file__).parent / "advise_regret"
DATASETS = {"digits": None, "orl-faces": None, "mnist-5k": 4_000, "fashion-mnist": 4_000}
"""Name → rows of a class-balanced sample; None: all."""

COUNT, EPOCHS = 12, 27


def grid() -> None:
    """Train what is missing, one file for each loss and dataset."""
    from lossgauge.advice.candidates import batchings, candidates
    from lossgauge.advice.question import Question, base_plan, several_of, training_labels
    from lossgauge.losses.registry import LOSSES
    from lossgauge.study.prepare import prepare
    from lossgauge.study.progress import Progress

    torch.set_num_threads(1)
    for name, sample in DATASETS.items():
        question = Question(name)
        plan = base_plan(question, epochs=EPOCHS, sample=sample)
        (features,), _ = prepare(plan, progress=Progress())
        plan = base_plan(question, epochs=EPOCHS, sample=sample, several=several_of(features))
        tried = batchings(training_labels(features))
        for loss in LOSSES:
            file = FOLDER / f"{name}.{loss}.parquet"
            if file.exists():
                continue
            began = time.monotonic()
            rows = []
            for number, candidate in enumerate(candidates(loss, plan, tried, COUNT)):
                rows += _curve(plan, features, candidate, number)
            temporary = file.with_suffix(".part")
            pq.write_table(pa.Table.from_pylist(rows), temporary)
            temporary.rename(file)
            print(f"{name} {loss}: {time.monotonic() - began:.0f} s", flush=True)


def _curve(plan, features, candidate, number):
    """One row for each epoch of a candidate; epoch 0 is the untrained head."""
    from lossgauge.errors import RunError
    from lossgauge.plan.study import FIRST_TRIAL_SEED
    from lossgauge.study.run.measure import ranked
    from lossgauge.study.run.setup import set_up
    from lossgauge.study.schedule.runs import Run
    from lossgauge.training import embed, seeded, train_epoch

    run = Run.default(plan, features, candidate, FIRST_TRIAL_SEED)
    setup, rows = set_up(run, features), []
    on = setup.features

    def score(side):
        return round(
            ranked(embed(setup.training.head, on.features, side), on.labels[side]).map_at_r, 6
        )

    for epoch in range(plan.epochs + 1):
        if epoch:
            try:
                with seeded(FIRST_TRIAL_SEED * 1_000_003 + epoch):
                    train_epoch(
                        setup.training,
                        on.features,
                        setup.class_numbers,
                        setup.batches(epoch),
                        on_step=lambda _: None,
                    )
            except RunError:
                break
        rows.append(
            {
                "dataset": plan.datasets[0], "loss": candidate.name, "candidate": number, "settings": str(candidate.settings),
                "epoch": epoch, "validation": score(on.validation), "test": score(on.test),
            }
        )  # fmt: skip
    return rows


if __name__ == "__main__":
    {"grid": grid}[sys.argv[1] if len(sys.argv) > 1 else "grid"]()

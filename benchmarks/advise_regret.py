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
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from lossgauge.advice.halving import Score, best_of_losses, epochs_of_rungs, survivors
from lossgauge.advice.schedule import rung_sizes

FOLDER = Path(__file__).parent / "advise_regret"
DATASETS = {"digits": None, "orl-faces": None, "mnist-5k": 4_000, "fashion-mnist": 4_000}
"""Name → rows of a class-balanced sample; None: all."""

EARLIER = ("orl-faces-fifth",)
"""Tables that `grid` does not make any more: a fifth of the training classes, 4 of 20, was held out."""

COUNT, EPOCHS = 12, 27


def grid() -> None:
    """Train what is missing, one file for each loss and dataset."""
    from lossgauge.advice.candidates import batchings, candidates
    from lossgauge.advice.question import Question, base_plan, fit_to, training_labels
    from lossgauge.losses.registry import LOSSES
    from lossgauge.study.prepare import prepare
    from lossgauge.study.progress import Progress

    torch.set_num_threads(1)
    for name, sample in DATASETS.items():
        question = Question(name)
        plan = base_plan(question, epochs=EPOCHS, sample=sample)
        (features,), _ = prepare(plan, progress=Progress())
        plan = base_plan(question, epochs=EPOCHS, sample=sample, fit=fit_to(features))
        tried = batchings(training_labels(features, plan.validation_share))
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


def replay() -> None:
    """Print the regret of each schedule as the table of docs/advise.md: mean over draws, and the 90 % quantile."""
    names = [*DATASETS, *EARLIER]
    cells: dict[str, list[str]] = {}
    for name in names:
        table = Table.read(name)
        for title, epochs, values in schedules(table, np.random.default_rng(0)):
            lost = 100 * (table.best - np.array(values))
            spread = f" ({np.quantile(lost, 0.9):.1f})" if len(values) > 1 else ""
            cells.setdefault(f"{title} | {epochs:,}", []).append(f"{lost.mean():.1f}{spread}")
    print(f"| schedule | epochs | {' | '.join(names)} |\n|{'---|' * (2 + len(names))}")
    for title, row in cells.items():
        print(f"| {title} | {' | '.join(row)} |")


DRAWS = 500


class Table(NamedTuple):
    """All candidates of a dataset: MAP@R of each epoch from 0 on; a run that diverged keeps its last values."""

    losses: list[str]
    numbers: list[int]
    """Of each candidate, within its loss; 0 is the default."""
    validation: np.ndarray
    """(candidates × epochs)"""
    test: np.ndarray

    @classmethod
    def read(cls, name: str) -> Table:
        losses, numbers, validation, test = [], [], [], []
        for file in sorted(FOLDER.glob(f"{name}.*.parquet")):
            rows = pq.read_table(file).to_pylist()
            for number in range(COUNT):
                own = [row for row in rows if row["candidate"] == number]
                own += [own[-1]] * (EPOCHS + 1 - len(own))
                losses.append(own[0]["loss"])
                numbers.append(number)
                validation.append([row["validation"] for row in own])
                test.append([row["test"] for row in own])
        return cls(losses, numbers, np.array(validation), np.array(test))

    def seen(self, candidate: int, epochs: int) -> float:
        """What a trial of so many epochs is judged by: its best epoch on the slice."""
        return float(self.validation[candidate, : epochs + 1].max())

    def kept(self, candidate: int, epochs: int = EPOCHS) -> float:
        """MAP@R on the test side of the epoch that the slice picks."""
        return float(self.test[candidate, self.validation[candidate, : epochs + 1].argmax()])

    @property
    def best(self) -> float:
        """Of any candidate."""
        return max(map(self.kept, range(len(self.losses))))


def schedules(table: Table, generator: np.random.Generator):
    """Title, epochs of training, and the MAP@R of the choice in each of `DRAWS` draws of candidates."""
    names = sorted(set(table.losses))
    own = {loss: [n for n, other in enumerate(table.losses) if other == loss] for loss in names}
    defaults = [n for n, number in enumerate(table.numbers) if number == 0]
    by_slice = lambda chosen: max(chosen, key=lambda n: table.seen(n, EPOCHS))  # noqa: E731
    for count in (12, 6, 3):
        picked, of_three = [], []
        for _ in range(DRAWS if count < COUNT else 1):
            drawn = [
                n
                for loss in names
                for n in (own[loss][0], *generator.choice(own[loss][1:], count - 1, replace=False))
            ]
            standing = halve(table, drawn)
            picked.append(table.kept(standing[0].candidate))
            of_three.append(max(table.kept(one.candidate) for one in standing[:3]))
        spent = sum(
            size * epochs
            for size, epochs in zip(
                rung_sizes(len(names), count, 3), epochs_of_rungs(EPOCHS), strict=True
            )
        )
        yield f"advise, {count} of each loss", spent, picked
        yield f"advise, {count}: the best of its three finalists", spent, of_three
        size = min(spent // EPOCHS, len(table.losses))
        random = [
            table.kept(by_slice(generator.choice(len(table.losses), size, replace=False)))
            for _ in range(DRAWS)
        ]
        yield f"random search, {size} candidates", size * EPOCHS, random
    yield "every loss with its defaults", len(defaults) * EPOCHS, [table.kept(by_slice(defaults))]
    triplet = next(n for n in defaults if table.losses[n] == "triplet")
    yield "always triplet with its defaults", EPOCHS, [table.kept(triplet)]


def halve(table: Table, candidates: list[int]) -> list[Score]:
    """The best candidate of each loss in the last rung, best first: as `HalvingSearch` does it, on the table."""
    rungs = epochs_of_rungs(EPOCHS)
    for number, epochs in enumerate(rungs):
        scores = [Score(n, table.losses[n], table.seen(n, epochs)) for n in candidates]
        if number < len(rungs) - 1:
            candidates = survivors(scores, after_first=number == 0)
    return best_of_losses(scores, len(scores))


if __name__ == "__main__":
    {"grid": grid, "replay": replay}[sys.argv[1] if len(sys.argv) > 1 else "replay"]()

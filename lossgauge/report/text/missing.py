"""How much of a study is there, and what is not: runs that failed, trials that failed, runs that wait."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from lossgauge.portable import without_folders
from lossgauge.report.naming import display_name
from lossgauge.results.view import Loss, StudyView, in_order
from lossgauge.stats.number_format import counted
from lossgauge.types import Record


class Missing(NamedTuple):
    header: tuple[str, ...]
    """How much there is, in a few words each."""
    lost: tuple[str, ...]
    """What is missing, in a few words each."""
    failed: tuple[tuple[str, str], ...]
    """A run, and why it failed."""
    trials: tuple[tuple[str, str], ...]
    """A loss on a dataset, and how many of its trials failed, with the first reason."""
    waiting: tuple[tuple[str, str], ...]
    """A loss on a dataset, and which of its runs wait."""


def missing(view: StudyView) -> Missing:
    """What the top of the page says about the size of a study, and the list of what is missing."""
    results = view.results
    finished = [*results.summaries, *results.sensitivity, *results.trials]
    done = _runs(row for row in finished if not row.get("error"))
    trials = _runs(row for row in results.trials if not row.get("error"))
    failed = _runs([*results.failures, *(row for row in results.trials if row.get("error"))])
    waiting = _runs(results.waiting)
    known = len(done) + len(failed) + len(waiting)
    unscheduled = max(0, (view.expected or 0) - known)
    words = f"{counted(len(done), 'run')} finished"
    if waiting or unscheduled:
        words = f"{len(done):,} of {counted(known + unscheduled, 'run')} finished"
    if trials:
        words += f", {len(trials):,} of them trials"
    lost = [f"{len(failed):,} failed"] if failed else []
    lost += [f"{len(waiting) + unscheduled:,} waiting"] if waiting or unscheduled else []
    left_out, notes = len(datasets_left_out(view)), len(notes_on_data(view))
    lost += [f"{counted(left_out, 'dataset')} left out"] if left_out else []
    lost += [f"{counted(notes, 'note')} on the data"] if notes else []
    return Missing(
        (counted(len(view.datasets), "dataset"), *_losses_and_seeds(view), words),
        tuple(lost),
        tuple((_run(view, row), str(row.get("error") or "")) for row in results.failures),
        tuple(_failed_trials(view)),
        tuple(_waiting(view, unscheduled)),
    )


def _losses_and_seeds(view: StudyView) -> tuple[str, ...]:
    seeds = len({row["seed"] for row in view.results.summaries})
    if not view.losses or not seeds:
        return ()
    return counted(len(view.losses), "loss"), counted(seeds, "seed")


def datasets_left_out(view: StudyView) -> list[Record]:
    """`dataset` and `reason` of datasets that are not in the study at all."""
    absent = view.absent_datasets.items()
    return [{"dataset": dataset, "reason": reason} for dataset, reason in absent]


def notes_on_data(view: StudyView) -> list[Record]:
    """`dataset` and `reason` where only a part of a dataset is left out or doubtful."""
    return [row for row in view.left_out if row.get("extent", "whole") != "whole"]


def _runs(rows: Iterable[Record]) -> set[str]:
    return {str(row.get("run")) for row in rows}


def _run(view: StudyView, row: Record) -> str:
    if row["variant"] in ("default", "tuned"):
        name = display_name(view.loss_of(row))
    else:
        name = without_folders(str(row["loss"]))
    return f"{name} on {row['dataset']}, seed {row['seed']}"


def _failed_trials(view: StudyView) -> list[tuple[str, str]]:
    lines = []
    for (dataset, loss), trials in _by_loss(view, view.results.trials).items():
        errors = [str(row["error"]) for row in trials if row.get("error")]
        if errors:
            count = f"{len(errors)} of {counted(len(trials), 'trial')}"
            lines.append((f"{display_name(loss)} on {dataset}", f"{count}: {errors[0]}"))
    return lines


def _waiting(view: StudyView, unscheduled: int) -> list[tuple[str, str]]:
    lines = []
    for (dataset, loss), rows in _by_loss(view, view.results.waiting).items():
        parts = []
        for variant, name, key in (
            ("default", "seed", "seed"),
            ("tuned", "tuned, seed", "seed"),
            ("trial", "trial", "trial"),
        ):
            numbers = [str(row.get(key)) for row in rows if row["variant"] == variant]
            if numbers:
                parts.append(f"{name}{'' if len(numbers) == 1 else 's'} {', '.join(numbers)}")
        varied = sum(row["variant"] == "sensitivity" for row in rows)
        parts += [f"{counted(varied, 'run')} at other settings"] if varied else []
        lines.append((f"{display_name(loss)} on {dataset}", "; ".join(parts)))
    if unscheduled:
        lines.append(("Searches", f"{counted(unscheduled, 'run')} not scheduled yet"))
    return lines


def _by_loss(view: StudyView, rows: Iterable[Record]) -> dict[tuple[str, Loss], list[Record]]:
    """Rows by dataset and loss, whatever their variant, in the order of the tables."""
    groups: dict[str, dict[Loss, list[Record]]] = {}
    for row in rows:
        of_dataset = groups.setdefault(str(row["dataset"]), {})
        of_dataset.setdefault(view.planned_loss(row), []).append(row)
    return {
        (dataset, loss): of_dataset[loss]
        for dataset, of_dataset in groups.items()
        for loss in in_order(of_dataset)
    }

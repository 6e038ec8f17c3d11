"""How much of a study is there, and what is not: runs that failed, trials that failed, runs that wait."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from lossgauge.claims.variants import base_of, variant_of
from lossgauge.report.contents import datasets_of
from lossgauge.report.naming import display_name, loss_order
from lossgauge.stats.number_format import counted
from lossgauge.types import Record, Results


class Missing(NamedTuple):
    header: tuple[str, ...]
    """How much there is, in a few words each."""
    lost: tuple[str, ...]
    """Those of the header that tell what is missing."""
    failed: tuple[tuple[str, str], ...]
    """A run, and why it failed."""
    trials: tuple[tuple[str, str], ...]
    """A loss on a dataset, and how many of its trials failed, with the first reason."""
    waiting: tuple[tuple[str, str], ...]
    """A loss on a dataset, and which of its runs wait."""


def missing(results: Results) -> Missing:
    """What the top of the page says of a study, and its list of what is not there."""
    there = (*results.summaries, *results.sensitivity, *results.trials)
    done = {str(row.get("run")) for row in there if not row.get("error")}
    trials = {str(row.get("run")) for row in results.trials if not row.get("error")}
    lost_trials = [row for row in results.trials if row.get("error")]
    failed = len({str(row.get("run")) for row in (*results.failures, *lost_trials)})
    waits = len({str(row.get("run")) for row in results.waiting})
    ahead = 0 if results.expected is None else max(0, results.expected - len(done) - failed - waits)
    finished = f"{counted(len(done), 'run')} finished"
    if waits or ahead:
        finished = f"{len(done):,} of {counted(len(done) + failed + waits + ahead, 'run')} finished"
    if trials:
        finished += f", {len(trials):,} of them trials"
    lost = [f"{failed:,} failed"] if failed else []
    lost += [f"{waits + ahead:,} waiting"] if waits or ahead else []
    left = len(whole_datasets(results.left_out))
    notes = len(results.left_out) - left
    lost += [f"{counted(left, 'dataset')} left out"] if left else []
    lost += [f"{counted(notes, 'note')} on the data"] if notes else []
    return Missing(
        (counted(len(datasets_of(results)), "dataset"), finished),
        tuple(lost),
        tuple((_run(row), str(row.get("error") or "")) for row in results.failures),
        tuple(_failed_trials(results.trials)),
        tuple(_waiting(results.waiting, ahead)),
    )


def whole_datasets(left_out: Iterable[Record]) -> list[Record]:
    """Of the rows of `Results.left_out`, those of datasets that are not there at all."""
    return [row for row in left_out if row.get("extent", "whole") == "whole"]


def _run(row: Record) -> str:
    return f"{display_name(str(row.get('loss')))} on {row.get('dataset')}, seed {row.get('seed')}"


def _failed_trials(rows: Iterable[Record]) -> list[tuple[str, str]]:
    told = []
    for (dataset, base), of_search in _by_loss(rows).items():
        errors = [str(row["error"]) for row in of_search if row.get("error")]
        if errors:
            count = f"{len(errors)} of {counted(len(of_search), 'trial')}"
            told.append((f"{display_name(base)} on {dataset}", f"{count}: {errors[0]}"))
    return told


def _waiting(rows: Iterable[Record], ahead: int) -> list[tuple[str, str]]:
    names = {"default": "seed", "tuned": "tuned, seed", "trial": "trial"}
    told = []
    for (dataset, base), of_loss in _by_loss(rows).items():
        parts = []
        for variant, name in names.items():
            key = "trial" if variant == "trial" else "seed"
            numbers = [str(row.get(key)) for row in of_loss if variant_of(row) == variant]
            if numbers:
                parts.append(f"{name}{'' if len(numbers) == 1 else 's'} {', '.join(numbers)}")
        varied = sum(variant_of(row) == "sensitivity" for row in of_loss)
        parts += [f"{counted(varied, 'run')} at other settings"] if varied else []
        told.append((f"{display_name(base)} on {dataset}", "; ".join(parts)))
    if ahead:
        told.append(("A search", f"has still to name {counted(ahead, 'run')}"))
    return told


def _by_loss(rows: Iterable[Record]) -> dict[tuple[str, str], list[Record]]:
    found: dict[tuple[str, str], list[Record]] = {}
    for row in rows:
        found.setdefault((str(row.get("dataset")), base_of(row)), []).append(row)
    datasets = list(dict.fromkeys(dataset for dataset, _ in found))
    return {
        (dataset, base): found[dataset, base]
        for dataset in datasets
        for base in loss_order(b for d, b in found if d == dataset)
    }

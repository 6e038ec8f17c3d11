"""Which run of a study gives the head, and why."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from lossgauge.errors import InputError, StudyError, nearest
from lossgauge.losses.registry import our_name
from lossgauge.report.text.short_answer import verdict
from lossgauge.results.columns import COLUMNS
from lossgauge.results.view import BASELINE, Loss, StudyView
from lossgauge.stats.intervals import known
from lossgauge.stats.number_format import counted, shown
from lossgauge.types import Record


class Choice(NamedTuple):
    """A finished run, and why it was chosen."""

    dataset: str
    loss: str
    """As tables show it: `triplet`, `triplet(tuned)`."""
    seed: int
    row: Record
    """The row of the run in the view."""
    reason: str
    caution: str
    """What the page, or the advice, of the study says where it does not say to train with this loss; else empty."""


class _Rule(NamedTuple):
    """What losses are compared by."""

    column: str
    title: str
    on_validation: bool


def choose(
    view: StudyView, *, dataset: str | None = None, loss: str | None = None, seed: int | None = None
) -> Choice:
    """The run of this dataset, loss and seed; what is not given is chosen.

    In the study of `lossgauge advise`, the loss of its answer, and of this loss the run that stands for the answer. Else, of the losses that
    the page of the study advises (of all, if it advises none), the one with the highest mean over seeds of the study's selection metric: on the
    validation slice where the study has one, else on the test side. The seed with the highest value on the slice, else the first:
    the best test score of several seeds would promise too much. Raises InputError for a name that the study does not
    have, StudyError if no run has finished.
    """
    dataset = _dataset(view, dataset)
    runs = {
        str(next(iter(rows.values()))["loss"]): (one, rows)
        for one in (*view.losses_and_tuned, BASELINE)
        if (rows := view.runs(dataset, one))
    }
    if not runs:
        raise StudyError(
            f"no run on {dataset} has finished; `lossgauge status FOLDER` shows what is left to do"
        )
    rule = _rule(view, [row for _, rows in runs.values() for row in rows.values()])
    advised, advised_seed = _advised(view, runs)
    page = verdict(view, dataset)
    bases = {one.base for one in page.losses}
    by_page = {title for title, (one, _) in runs.items() if one.base in bases}
    reasons = []
    if loss is None and advised is not None:
        loss = advised
        reasons.append(f"{loss} is the loss of the advice")
    elif loss is None:
        loss, reason = _best_loss(view, dataset, runs, rule, by_page)
        reasons.append(reason)
    else:
        loss = _named(loss, runs)
        reasons.append(f"{loss} as asked")
    rows = runs[loss][1]
    if seed is None and loss == advised and advised_seed is not None and advised_seed in rows:
        seed = advised_seed
        reasons.append(f"seed {seed} is the run of the advice")
    elif seed is None:
        seed, reason = _best_seed(rows, rule)
        reasons.append(reason)
    elif seed not in rows:
        there = ", ".join(map(str, sorted(rows)))
        raise InputError(
            f"{loss} on {dataset} has no finished run of seed {seed} (finished: {there})"
        )
    else:
        reasons.append(f"seed {seed} as asked")
    caution = _advice_against(view)
    if view.results.answer is None and loss not in by_page:
        caution = f"the page of the study says: {page.sentence}"
    return Choice(dataset, loss, seed, rows[seed], "; ".join(reasons), caution)


def _advice_against(view: StudyView) -> str:
    """What the answer of `lossgauge advise` says about training, unless it is yes; empty without an answer."""
    of_answer = (view.results.answer or {}).get("sentences", ())
    said = next((str(one["text"]) for one in of_answer if one["topic"] == "Train?"), "Yes")
    return "" if said.startswith("Yes") else f"train? The advice says: {said}"


def _advised(
    view: StudyView, runs: Mapping[str, tuple[Loss, object]]
) -> tuple[str | None, int | None]:
    """The loss, as tables show it, and the seed of the answer of `lossgauge advise`; None where it has none."""
    answer = view.results.answer or {}
    for title, (loss, _) in runs.items():
        if loss.base == answer.get("loss") and not loss.tuned:
            return title, answer.get("seed")
    return None, None


def _dataset(view: StudyView, name: str | None) -> str:
    if name is None and len(view.datasets) == 1:
        return view.datasets[0]
    if name is None:
        raise InputError(
            f"the study has {counted(len(view.datasets), 'dataset')}; name one of them with --dataset: {', '.join(view.datasets)}"
        )
    if name not in view.datasets:
        raise InputError(f"the study has no dataset {name!r}{nearest(name, view.datasets)}")
    return name


def _named(asked: str, runs: Mapping[str, tuple[Loss, object]]) -> str:
    """The title of the loss, also by another name of it, or by its name without settings if no other run has that name."""
    if asked in runs:
        return asked
    try:
        ours = our_name(asked)
    except InputError:
        ours = asked
    if ours in runs:
        return ours
    of_name = {title: loss for title, (loss, _) in runs.items() if loss.name == ours}
    # as with the full name, the loss without its tuned settings comes first
    titles = [title for title, loss in of_name.items() if not loss.tuned] or list(of_name)
    if len(titles) == 1:
        return titles[0]
    if titles:
        raise InputError(
            f"the study has {len(titles)} losses with the name {ours}; name one of them with --loss: {'; '.join(titles)}"
        )
    trained = [title for title, (loss, _) in runs.items() if loss != BASELINE]
    raise InputError(
        f"the study has no finished run of the loss {asked!r}{nearest(asked, trained)}"
    )


def _rule(view: StudyView, rows: Sequence[Record]) -> _Rule:
    metric = view.typed_plan.selection_metric
    title, held_out = COLUMNS[metric].title, f"validation_{metric}"
    trained = [row for row in rows if row["base"] != BASELINE.base]
    if trained and all(known(row.get(held_out)) is not None for row in trained):
        return _Rule(held_out, f"validation {title}", True)
    return _Rule(metric, f"test {title}", False)


def _best_loss(
    view: StudyView,
    dataset: str,
    runs: Mapping[str, tuple[Loss, Mapping[int, Record]]],
    rule: _Rule,
    by_page: Collection[str],
) -> tuple[str, str]:
    settled = view.settled_seeds(dataset)
    means: dict[str, float] = {}
    for title, (loss, rows) in runs.items():
        values = [known(row.get(rule.column)) for row in rows.values()]
        if loss == BASELINE or not settled <= rows.keys() or None in values:
            continue
        means[title] = fmean(value for value in values if value is not None)
    if not means:
        raise StudyError(
            f"no loss has finished all its seeds on {dataset}; run the same `lossgauge study` command again, or name "
            "a loss with --loss"
        )
    if len(means) == 1:
        (best,) = means
        return best, f"{best} is the only loss with all its seeds"
    among = counted(len(means), "loss")
    if of_page := [title for title in means if title in by_page]:
        means = {title: means[title] for title in of_page}
        among = f"the {counted(len(means), 'loss')} that the page advises"
    best = max(means, key=lambda title: means[title])
    seeds = counted(len(runs[best][1]), "seed")
    if len(of_page) == 1:
        return (
            best,
            f"{best} is the loss that the page advises ({rule.title} {shown(means[best], 'percent')}, {seeds})",
        )
    words = (
        f"{best} has the highest {rule.title} of {among} ({shown(means[best], 'percent')}, {seeds})"
    )
    metric = view.typed_plan.selection_metric
    equal = [
        one.base
        for one in view.candidates(dataset, metric, highest=True)
        if one != runs[best][0] and one.base in means
    ]
    if equal:
        words += (
            f", not clearly above {', '.join(equal[:3])}{' and others' if len(equal) > 3 else ''}"
        )
    return best, words


def _best_seed(rows: Mapping[int, Record], rule: _Rule) -> tuple[int, str]:
    if len(rows) == 1:
        (seed,) = rows
        return seed, f"seed {seed} is its only one"
    if rule.on_validation:
        values = {seed: known(row.get(rule.column)) for seed, row in rows.items()}
        best = max(sorted(rows), key=lambda seed: values[seed] or 0.0)
        return best, f"seed {best} has its highest {rule.title}"
    first = min(rows)
    return first, f"seed {first} is the first (the best test score would promise too much)"

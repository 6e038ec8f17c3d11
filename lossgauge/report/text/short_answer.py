"""The answer of the first screen: whether to train on each dataset, and with which loss, in at most three sentences.

It says less than `answer`, from the same comparisons: a loss is only advised if it is clearly better than not training, and none
of the others is clearly better than it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from lossgauge.report.naming import cut, short_name
from lossgauge.report.text.centering import free_baseline
from lossgauge.report.text.not_training import Compared, comparisons, measures, nothing_helps
from lossgauge.report.text.rankings import ranking
from lossgauge.report.text.selection import picks_the_start
from lossgauge.report.text.short_training import of_the_best
from lossgauge.results.columns import COLUMNS
from lossgauge.results.view import Loss, StudyView
from lossgauge.stats.number_format import counted, shown

Advice = Literal["train", "do not train", "open", "nothing"]

MOST_SENTENCES = 3
MOST_NAMES = 3
"""Losses that are named; of more, the best two and how many others."""
LONGEST_NAME = 40


class Verdict(NamedTuple):
    """What to do on one dataset."""

    dataset: str
    advice: Advice
    """`nothing` if nothing was measured."""
    losses: tuple[Loss, ...]
    """Those to take, the best first; empty if none is advised."""
    sentence: str


def verdict(view: StudyView, dataset: str) -> Verdict:
    """The advice for one dataset, with its numbers."""
    where, of_all = f"On {_short(dataset)}", comparisons(view, dataset)
    if not of_all:
        return _without_a_reference(view, dataset, where)
    for of in of_all:
        if better := of.gained("better"):
            take, by = _best_of(view, dataset, of, better)
            tie = " (no clear difference)" if len(take) > 1 else ""
            sizes = {of.differences[loss, name].size for loss in better for name in of.levels}
            if len(view.losses) > 1 and sizes == {1}:  # it says nothing about losses
                with_one = f"{_rise(of, take[0])} with {_name(view, take[0])}"
                words = f"{where}, train; one seed cannot tell with which loss: {with_one}."
                return Verdict(dataset, "train", take, words)
            gains = " and ".join(_rise(one, take[0]) for one in by)
            words = f"{where}, train with {_either(view, take)}{tie}: {gains}."
            return Verdict(dataset, "train", take, words)
    lead = of_all[0]
    if short := of_the_best(view, dataset, lead):  # the loss whose level the sentence shows
        words = f"{where}, too little training to tell whether it helps: {short} ({_levels(view, lead)})."
        return Verdict(dataset, "open", (), words)
    if picks_the_start(view, dataset, lead.losses):
        words = f"{where}, do not train: on the validation slice, no epoch of any loss is better than the {view.measures.raw} ({lead.title} {shown(max(lead.levels.values()), 'percent')})."
        return Verdict(dataset, "do not train", (), words)
    margin = COLUMNS[lead.column].margin or 0.0
    if view.of_pairs and lead.levels.get(view.measures.raw, 0.0) >= 1 - margin:
        words = f"{where}, do not train: the {view.measures.raw} already finds everything ({_levels(view, lead)})."
        return Verdict(dataset, "do not train", (), words)
    if all(decision.p_value is None for decision in lead.decisions.values()):
        reason = next(iter(lead.decisions.values())).reason
        return Verdict(
            dataset, "open", (), f"{where}, it is open whether training helps: {reason}."
        )
    for reference in lead.levels:
        if lead.beats_all(reference):
            numbers = f"{lead.title} {shown(lead.levels[reference], 'percent')} against at most {shown(max(lead.means.values()), 'percent')}"
            words = f"{where}, do not train: the {reference} beat every loss ({numbers})."
            return Verdict(dataset, "do not train", (), words)
    numbers = _levels(view, lead)
    if nothing_helps(of_all):
        words = (
            f"{where}, do not train: no loss is clearly better than {lead.references} ({numbers})."
        )
        return Verdict(dataset, "do not train", (), words)
    more = "; more seeds or more test queries would tell" if lead.may_gain() else ""
    words = f"{where}, it is open whether training helps: no loss is clearly better than {lead.references} ({numbers}){more}."
    return Verdict(dataset, "open", (), words)


def _levels(view: StudyView, of: Compared) -> str:
    """`R@1 89.6 % without training, 88.0 % with scl`: the better space without training, and the highest loss."""
    top = max(of.means, key=lambda loss: of.means[loss])
    before, after = shown(max(of.levels.values()), "percent"), shown(of.means[top], "percent")
    return f"{of.title} {before} without training, {after} with {_name(view, top)}"


def short_answer(view: StudyView) -> list[str]:
    """At most three sentences for the whole study: one for each dataset, or of more than three one for each advice.

    With one dataset of queries and documents, also what centering alone gives, and the hub.
    """
    verdicts = [verdict(view, dataset) for dataset in view.datasets]
    if len(verdicts) == 1:
        (of,) = verdicts
        return [of.sentence, *free_baseline(view, of.dataset, measures(view, of.dataset)[0])]
    if len(verdicts) <= MOST_SENTENCES:
        return [of.sentence for of in verdicts]
    groups: dict[Advice, list[Verdict]] = {}
    for of in verdicts:
        groups.setdefault(of.advice, []).append(of)
    starts: Mapping[Advice, str] = {
        "train": "Train",
        "do not train": "Do not train",
        "open": "It is open whether training helps",
        "nothing": "Nothing can be said yet",
    }
    sentences = []
    for advice, words in starts.items():
        if of_advice := groups.get(advice):
            names = _some([_short(of.dataset) for of in of_advice])
            line = f"{words} on {len(of_advice)} of {counted(len(verdicts), 'dataset')} ({names})"
            sentences.append(f"{line}{_most_often(view, of_advice)}.")
    return sentences[:MOST_SENTENCES]


def _without_a_reference(view: StudyView, dataset: str, where: str) -> Verdict:
    """Nothing to compare the losses with: only which of them leads."""
    ranked = ranking(view, dataset, view.retrieval[0].name, highest_first=True)
    if ranked is None:
        return Verdict(dataset, "nothing", (), f"{where}, no run has finished yet.")
    leading = _short(ranked.leading())
    words = f"{where}, the best by {COLUMNS[ranked.column].title}: {leading}; not training was not measured."
    return Verdict(dataset, "open", (), words)


def _best_of(
    view: StudyView, dataset: str, of: Compared, better: Sequence[Loss]
) -> tuple[tuple[Loss, ...], tuple[Compared, ...]]:
    """The losses that gain and may be the best by a measure, the best first, and the measures by which they are.

    If some of them gain and may be the best by the other measure too, only these.
    """
    take = _leading(view, dataset, of, better) or list(better)
    by = [of]
    for other in comparisons(view, dataset):
        both = _leading(view, dataset, other, other.gained("better"))
        if other.column != of.column and (shared := [loss for loss in take if loss in both]):
            take = shared
            by.append(other)
    return tuple(sorted(take, key=lambda loss: -of.means[loss])), tuple(by)


def _leading(view: StudyView, dataset: str, of: Compared, losses: Sequence[Loss]) -> list[Loss]:
    may_be = view.candidates(dataset, of.column, highest=True)
    return [loss for loss in losses if loss in may_be]


def _rise(of: Compared, loss: Loss) -> str:
    """`R@1 89.6 % → 95.0 %`: the better space without training, and the loss that is named first."""
    before = shown(max(of.levels.values()), "percent")
    return f"{of.title} {before} → {shown(of.means[loss], 'percent')}"


def _most_often(view: StudyView, verdicts: Sequence[Verdict]) -> str:
    """`, most often with scl (4 of 6)`: among those that are advised; empty if none is."""
    counts: dict[Loss, int] = {}
    for of in verdicts:
        for loss in of.losses:
            counts[loss] = counts.get(loss, 0) + 1
    if not counts:
        return ""
    best = max(counts, key=lambda loss: counts[loss])
    return f", most often with {_name(view, best)} ({counts[best]} of {len(verdicts)})"


def _either(view: StudyView, losses: Sequence[Loss]) -> str:
    names = [_name(view, loss) for loss in losses]
    if len(names) > MOST_NAMES:
        return f"{names[0]}, {names[1]} or one of {len(names) - 2} others"
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _some(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _name(view: StudyView, loss: Loss) -> str:
    return _short(short_name(loss, view.losses))


def _short(name: str) -> str:
    return cut(name, LONGEST_NAME)

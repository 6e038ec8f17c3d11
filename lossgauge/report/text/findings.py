"""Findings on one dataset: for each topic a sentence about what the seeds show, and its evidence."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from lossgauge.claims.contrasts import order
from lossgauge.claims.statements import Ordering
from lossgauge.report.naming import display_name, key_of, listed
from lossgauge.report.text.health_warnings import still_falling
from lossgauge.report.text.not_training import comparisons, evidence, groups, measures
from lossgauge.report.text.rankings import Ranking, clearly_different, in_points, ranking
from lossgauge.results.columns import COLUMNS
from lossgauge.results.view import BASELINE, Loss, StudyView
from lossgauge.stats.number_format import in_p, rounded

ALIKE = 0.02
"""Active ratios closer than this count as the same: our choice."""


class TopicAnswer(NamedTuple):
    topic: str
    sentence: str
    evidence: str


def by_retrieval(view: StudyView, dataset: str) -> Ranking | None:
    """Losses by R@1, or by MAP@R where R@1 is at its ceiling, the highest first."""
    return ranking(view, dataset, measures(view, dataset)[0], highest_first=True)


def by_intra(view: StudyView, dataset: str) -> Ranking | None:
    """Losses by intra on the test side, the highest first; None of queries and documents, which have no classes."""
    if not view.measures.judges_classes:
        return None
    return ranking(view, dataset, "test_intra", highest_first=True)


def by_compaction(view: StudyView, dataset: str) -> Ranking | None:
    """Losses by compaction epoch, the earliest first; None of queries and documents: classes become compact."""
    if not view.measures.judges_classes:
        return None
    return ranking(view, dataset, "compaction_epochs", highest_first=False)


def retrieval(view: StudyView, dataset: str) -> TopicAnswer | None:
    """Which loss has the highest R@1 or MAP@R, and whether it differs clearly from the second."""
    ranked = by_retrieval(view, dataset)
    if ranked is None:
        return None
    title = COLUMNS[ranked.column].title
    best = display_name(ranked.losses[0])
    if len(ranked.losses) == 1:
        sentence = f"{best} is the only loss measured{' in every seed' if ranked.partial else ''}."
    elif ranked.seed_count == 1:
        sentence = (
            f"{best} has the highest {title}, but one seed shows no spread, "
            "so it is not known whether the difference is due to chance."
        )
    elif ranked.ties:
        sentence = (
            f"{best} has the highest mean {title}, but {ranked.seed_count} seeds show no clear "
            f"difference from {listed(ranked.ties)}."
        )
    else:
        gap = view.difference(dataset, ranked.losses[0], ranked.losses[1], ranked.column)
        by = f", by {in_points(gap).lstrip('+')} points over {gap.size} paired seeds" if gap else ""
        sentence = f"{best} has the highest {title}, clearly above {display_name(ranked.losses[1])}, the second{by}."
    return TopicAnswer("Retrieval", sentence, f"{title}: {ranked.values()}")


def gain_over_not_training(view: StudyView, dataset: str) -> TopicAnswer | None:
    """The difference of each loss from the frozen features and from the untrained head, by both measures."""
    of_all = comparisons(view, dataset)
    if not of_all:
        return None
    return TopicAnswer(
        "Compared with no training",
        " ".join(f"By {of.title}, {'; '.join(groups(of))}." for of in of_all),
        ". ".join(map(evidence, of_all)),
    )


def variance(view: StudyView, dataset: str) -> TopicAnswer | None:
    """Which losses keep the most and the least variance inside classes."""
    ranked = by_intra(view, dataset)
    if ranked is None or len(ranked.losses) < 2:
        return None
    first, last = display_name(ranked.losses[0]), display_name(ranked.losses[-1])
    sentence = f"{first} keeps the most variance inside classes{ranked.doubt()}"
    if ranked.seed_count > 1:
        sentence += f"; {last} keeps the least{ranked.doubt_of_last()}"
    untrained = view.interval(dataset, BASELINE, ranked.column)
    evidence = f"intra (test): {ranked.values()}"
    evidence += f"; untrained {untrained.mean:.3f}" if untrained else ""
    return TopicAnswer("Variance kept", f"{sentence}.", evidence)


def compaction(view: StudyView, dataset: str) -> TopicAnswer | None:
    """Which losses compact first and last."""
    ranked = by_compaction(view, dataset)
    if ranked is None or len(ranked.losses) < 2:
        return None
    first, last = display_name(ranked.losses[0]), display_name(ranked.losses[-1])
    sentence = f"{first} compacts first{ranked.doubt()}"
    if ranked.seed_count > 1:
        sentence += f"; {last} compacts last{ranked.doubt_of_last()}"
    if ranked.partial:
        sentence += f"; {listed(ranked.partial)} did not compact in every seed"
    falling = [loss for loss in ranked.losses if still_falling(view, dataset, loss)]
    open_end = ""
    if falling:
        which = "all" if len(falling) == len(ranked.losses) else listed(falling)
        open_end = f"; it was still falling at the end of training for {which}"
    return TopicAnswer(
        "Compaction",
        f"{sentence}. Compaction is measured by the fall of each loss's own intra{open_end}.",
        f"epochs until 90 % of the total fall (training side): {ranked.values()}",
    )


def updates(view: StudyView, dataset: str) -> TopicAnswer | None:
    """Which losses make many small updates, and which make few large ones."""
    active = ranking(view, dataset, "gradient_active_ratio", highest_first=True)
    size = ranking(view, dataset, "embedding_gradient", highest_first=False)
    if active is None or size is None:
        return None
    by_share = [loss for loss in active.losses if loss in size.losses]
    if len(by_share) < 3:
        return None
    values = ", ".join(
        f"{display_name(loss)} {active.value(loss)} and {size.value(loss)}" for loss in by_share
    )
    evidence = f"active ratio (gradient rule) and gradient at the embedding: {values}"
    if size.seed_count == 1:
        words = "One seed shows no spread, so it is not known which losses have clearly smaller gradients."
        return TopicAnswer("Updates", words, evidence)
    shares = {loss: active.intervals[loss].mean for loss in by_share}
    if max(shares.values()) - min(shares.values()) < ALIKE:
        parts = [
            "all losses have about the same active ratio",
            f"{display_name(size.losses[0])} has the smallest gradient{size.doubt()}",
            f"{display_name(size.losses[-1])} has the largest{size.doubt_of_last()}",
        ]
    else:
        parts = _many_small_few_large(view, dataset, size, shares)
    parts += _most_selective(view, dataset)
    return TopicAnswer(
        "Updates",
        _sentence(parts or ["no loss clearly makes many small updates or few large ones"])
        + " Small and large are relative to the other losses of this study; temperature, scale and reduction also change the size of a gradient.",
        evidence,
    )


def _many_small_few_large(
    view: StudyView, dataset: str, size: Ranking, shares: dict[Loss, float]
) -> list[str]:
    by_size = [loss for loss in size.losses if loss in shares]
    middle, half = median(shares.values()), len(by_size) // 2
    many_small = [loss for loss in by_size[:half] if shares[loss] > middle - ALIKE]
    few_large = [loss for loss in by_size[-half:] if shares[loss] <= middle - ALIKE]
    # a small one must differ clearly from each of the large ones, and a large one from each of the small ones
    large, small = few_large or by_size[-1:], many_small or by_size[:1]
    many_small = [loss for loss in many_small if _differs_from_all(view, dataset, loss, large)]
    few_large = [loss for loss in few_large if _differs_from_all(view, dataset, loss, small)]
    parts = [f"many small updates: {listed(many_small)}"] if many_small else []
    return parts + ([f"few large updates: {listed(few_large)}"] if few_large else [])


def _differs_from_all(view: StudyView, dataset: str, loss: Loss, others: Sequence[Loss]) -> bool:
    return all(clearly_different(view, dataset, loss, o, "embedding_gradient") for o in others)


def _most_selective(view: StudyView, dataset: str) -> list[str]:
    """The loss with the lowest active ratio of terms; empty if each loss uses all its terms, as softmax losses do."""
    terms = ranking(view, dataset, "term_active_ratio", highest_first=False)
    if terms is None or terms.intervals[terms.losses[0]].mean > 1 - ALIKE:
        return []
    least = terms.losses[0]
    if terms.ties:
        names = listed([least, *terms.ties])
        return [f"{names} use the smallest shares of their terms, without a clear difference"]
    return [f"{display_name(least)} uses the smallest share of its terms, {terms.value(least)}"]


def tradeoff(view: StudyView, dataset: str) -> TopicAnswer | None:
    """Whether losses that compact earlier keep less variance, by the rule of claim 7a."""
    if not view.measures.judges_classes:
        return None
    runs = {key_of(loss): rows for loss in view.losses if (rows := view.runs(dataset, loss))}
    result = order(Ordering("compaction_epochs", "test_intra", tuple(runs)), runs)
    correlation = result.correlation
    if correlation is None:
        return None
    verdict = {
        "for": "In line with the trade-off: losses that compact earlier end with less variance",
        "against": "Against the trade-off: losses that compact earlier end with more variance",
        "open": f"It is open whether losses that compact earlier end with less variance: {result.reason}",
    }[result.side]
    return TopicAnswer(
        "Trade-off",
        f"{verdict}. This rests on {correlation.size} points, one for each loss, on one dataset: it is a hint, not a law.",
        "rank correlation of compaction epoch and final intra "
        f"{rounded(correlation.value, 2, signed=True)}, n = {correlation.size} losses, "
        f"{in_p('p', correlation.p_value)}",
    )


def _sentence(parts: Sequence[str]) -> str:
    """The parts as one sentence. It begins with a capital letter, unless its first word is the name of a loss."""
    text = "; ".join(parts)
    starts = ("all ", "many ", "few ", "no ", "none ")
    return (text[0].upper() + text[1:] if text.startswith(starts) else text) + "."

"""What was found on one dataset, topic by topic: a sentence that says what the seeds show, and its evidence."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from lossgauge.claims.comparisons import order
from lossgauge.claims.statements import Ordering
from lossgauge.report.contents import losses_of
from lossgauge.report.naming import UNTRAINED, display_name
from lossgauge.report.rankings import Ranking, difference, in_points, in_words, ranking, told_apart
from lossgauge.report.tables import measured
from lossgauge.report.text.health_warnings import still_falling
from lossgauge.stats.number_format import in_p, rounded
from lossgauge.types import Results

ALIKE = 0.02
"""Active ratios nearer than this count as the same: our choice."""


class Finding(NamedTuple):
    topic: str
    sentence: str
    evidence: str


def by_recall(results: Results, dataset: str) -> Ranking | None:
    """Losses by R@1, the highest first."""
    return ranking(results, dataset, "recall_at_1", highest_first=True)


def by_intra(results: Results, dataset: str) -> Ranking | None:
    """Losses by variance kept, the most first."""
    return ranking(results, dataset, "test_intra", highest_first=True)


def by_soonest(results: Results, dataset: str) -> Ranking | None:
    """Losses by compaction, the soonest first."""
    return ranking(results, dataset, "compaction_epochs", highest_first=False)


def retrieval(results: Results, dataset: str) -> Finding | None:
    """Who retrieves best, and whether the next can be told from it."""
    found = by_recall(results, dataset)
    if found is None:
        return None
    best = display_name(found.losses[0])
    if len(found.losses) == 1:
        sentence = f"{best} is the only loss measured{' in every seed' if found.partial else ''}."
    elif found.seed_count == 1:
        sentence = (
            f"{best} has the highest R@1, but one seed shows no spread: "
            "nothing can be said about who is ahead."
        )
    elif found.ties:
        sentence = (
            f"{best} has the highest mean R@1, but with {found.seed_count} seeds it cannot be "
            f"told apart from {in_words(found.ties)}."
        )
    else:
        gap = difference(results, dataset, found.losses[0], found.losses[1], found.column)
        by = f" by {in_points(gap).lstrip('+')} points over {gap.size} paired seeds" if gap else ""
        sentence = f"{best} is ahead of {display_name(found.losses[1])}, the next in R@1,{by}."
    return Finding("Retrieval", sentence, "R@1: " + found.listed())


def baseline(results: Results, dataset: str) -> Finding | None:
    """What training gained over the untrained head, loss by loss."""
    found = by_recall(results, dataset)
    untrained = measured(results, dataset, UNTRAINED, "recall_at_1")
    if found is None or untrained is None:
        return None
    losses = (*found.losses, *found.partial)
    gaps = {loss: difference(results, dataset, loss, UNTRAINED, found.column) for loss in losses}
    seen = {loss: gap for loss, gap in gaps.items() if gap and gap.excludes_zero}
    groups = (
        ("better than the untrained head", [loss for loss in seen if seen[loss].mean > 0]),
        ("worse than the untrained head", [loss for loss in seen if seen[loss].mean < 0]),
        ("not told apart from the untrained head", [loss for loss in gaps if loss not in seen]),
    )
    told = []
    if not seen and len(gaps) > 1:
        told.append(f"none of the {len(gaps)} losses is told apart from the untrained head")
    for verdict, group in groups if told == [] else ():
        if group and len(group) == len(losses) > 1:
            told.append(f"all {len(group)} losses are {verdict}")
        elif group:
            told.append(f"{in_words(group)} {'is' if len(group) == 1 else 'are'} {verdict}")
    return Finding(
        "Against no training",
        _in_full("; ".join(told)),
        f"R@1 of the untrained head {100 * untrained.mean:.1f} %; differences in points: "
        + ", ".join(f"{display_name(loss)} {in_points(gap)}" for loss, gap in gaps.items() if gap),
    )


def variance(results: Results, dataset: str) -> Finding | None:
    """Who keeps most and least variance inside classes."""
    found = by_intra(results, dataset)
    if found is None or len(found.losses) < 2:
        return None
    untrained = measured(results, dataset, UNTRAINED, found.column)
    told = f"{display_name(found.losses[0])} keeps the most variance inside classes{found.doubt()}"
    if found.seed_count > 1:
        told += f"; {display_name(found.losses[-1])} keeps the least{found.doubt_of_last()}"
    return Finding(
        "Variance kept",
        f"{told}.",
        f"intra (test): {found.listed()}"
        + (f"; untrained {untrained.mean:.3f}" if untrained else ""),
    )


def compaction(results: Results, dataset: str) -> Finding | None:
    """Who compacts first and last."""
    found = by_soonest(results, dataset)
    if found is None or len(found.losses) < 2:
        return None
    falling = [loss for loss in found.losses if still_falling(results, dataset, loss)]
    open_end = ""
    if falling:
        who = "all" if len(falling) == len(found.losses) else in_words(falling)
        open_end = f", which had not ended with the training for {who}"
    told = f"{display_name(found.losses[0])} compacts soonest{found.doubt()}"
    if found.seed_count > 1:
        told += f"; {display_name(found.losses[-1])} last{found.doubt_of_last()}"
    if found.partial:
        told += f"; {in_words(found.partial)} did not get there in every seed"
    return Finding(
        "Compaction",
        f"{told}. Each is measured by its own fall of intra{open_end}.",
        f"epochs until 90 % of the fall (training side) is done: {found.listed()}",
    )


def updates(results: Results, dataset: str) -> Finding | None:
    """Who does many small updates, who few large ones."""
    active = ranking(results, dataset, "gradient_active_ratio", highest_first=True)
    size = ranking(results, dataset, "embedding_gradient", highest_first=False)
    if active is None or size is None:
        return None
    by_share = [loss for loss in active.losses if loss in size.losses]
    by_size = [loss for loss in size.losses if loss in by_share]
    if len(by_share) < 3:
        return None
    listed = ", ".join(
        f"{display_name(loss)} {active.value(loss)} and {size.value(loss)}" for loss in by_share
    )
    evidence = f"active ratio (gradient rule) and gradient at the embedding: {listed}"
    if size.seed_count == 1:
        words = "One seed shows no spread: who works by small updates and who by large ones cannot be told."
        return Finding("Updates", words, evidence)
    shares = {loss: active.over_seeds[loss].mean for loss in by_share}
    if max(shares.values()) - min(shares.values()) < ALIKE:
        told = [
            f"all losses move about the same share of samples; {display_name(size.losses[0])} has the smallest "
            f"gradient{size.doubt()} and {display_name(size.losses[-1])} the largest{size.doubt_of_last()}"
        ]
    else:
        middle, half = median(shares.values()), len(by_size) // 2
        many_small = [loss for loss in by_size[:half] if shares[loss] > middle - ALIKE]
        few_large = [loss for loss in by_size[-half:] if shares[loss] <= middle - ALIKE]
        # small is what the seeds can tell from each of the large ones, and large the other way round
        large, small = few_large or by_size[-1:], many_small or by_size[:1]
        many_small = [loss for loss in many_small if _all_apart(results, dataset, loss, large)]
        few_large = [loss for loss in few_large if _all_apart(results, dataset, loss, small)]
        told = [f"many small updates: {in_words(many_small)}"] if many_small else []
        told += [f"few large ones: {in_words(few_large)}"] if few_large else []
    told += _most_selective(results, dataset)
    return Finding(
        "Updates",
        _in_full("; ".join(told) or "no loss stands out by many small updates or by few large ones")
        + " Small and large are against the other losses here; temperature, scale and reduction stretch a gradient.",
        evidence,
    )


def _all_apart(results: Results, dataset: str, loss: str, others: Sequence[str]) -> bool:
    return all(told_apart(results, dataset, loss, o, "embedding_gradient") for o in others)


def _most_selective(results: Results, dataset: str) -> list[str]:
    """The loss with the fewest active terms, where a loss leaves any out: softmax losses never do."""
    terms = ranking(results, dataset, "term_active_ratio", highest_first=False)
    if terms is None or terms.over_seeds[terms.losses[0]].mean > 1 - ALIKE:
        return []
    least = terms.losses[0]
    if terms.ties:
        return [f"by terms, {in_words([least, *terms.ties])} use the fewest, not told apart"]
    return [f"by terms, {display_name(least)} uses the fewest, {terms.value(least)} of its own"]


def trade_off(results: Results, dataset: str) -> Finding | None:
    """Whether sooner compaction goes with less variance, over all losses: by the rule of claim 7a."""
    losses = losses_of(results)
    runs = {
        loss: {int(r["seed"]): r for r in rows}
        for loss in losses
        if (rows := [r for r in results.summaries if (r["dataset"], r["loss"]) == (dataset, loss)])
    }
    result = order(Ordering("compaction_epochs", "test_intra", tuple(losses)), runs)
    found = result.correlation
    if found is None:
        return None
    verdict = {
        "for": "In line with the trade-off: losses that compact sooner end with less variance",
        "against": "Against the trade-off: losses that compact sooner end with more variance",
        "open": f"Whether compacting sooner goes with less variance is open: {result.reason}",
    }[result.side]
    return Finding(
        "Trade-off",
        f"{verdict}. These are {found.size} points, one a loss, on one dataset: a hint, no law.",
        f"rank correlation of compaction epoch and final intra {rounded(found.value, 2, signed=True)}, "
        f"n = {found.size} losses, {in_p('p', found.p_value)}",
    )


def _in_full(text: str) -> str:
    """`text` with its stop, and a capital unless it begins with the name of a loss."""
    starts = ("all ", "many ", "few ", "no ", "none ")
    return (text[0].upper() + text[1:] if text.startswith(starts) else text) + "."

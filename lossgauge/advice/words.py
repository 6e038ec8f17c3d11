"""The sentences of the answer. Each states what was measured, its interval, and what is not known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from jaxtyping import Int
from torch import Tensor

from lossgauge.advice.halving import Score
from lossgauge.advice.learning_curve import IN_WORDS, Curve
from lossgauge.advice.preparation import Prepared
from lossgauge.advice.question import Goal, Question, slice_labels
from lossgauge.advice.record import Sentence
from lossgauge.advice.verdict import COLUMN, NEAR, Training, Verdict
from lossgauge.data.embeddings import BACKBONE as GIVEN
from lossgauge.plan.loss import TRAINING
from lossgauge.plan.study import Plan
from lossgauge.report.text.centering import hub_sentence
from lossgauge.report.text.rankings import in_points
from lossgauge.results.columns import COLUMNS
from lossgauge.results.query_changes import QueryChanges
from lossgauge.results.view import Loss
from lossgauge.stats.decisions import ONE_SEED
from lossgauge.stats.intervals import Interval
from lossgauge.stats.number_format import counted, rounded, shown, shown_interval
from lossgauge.types import FeatureSet

ASKED: Mapping[Goal, str] = {
    "top1": "the best first hit (R@1)",
    "ranking": "the best ranking (MAP@R)",
    "diversity": "the most variance inside classes (intra) at a MAP@R that is equivalent to the best",
    "speed": f"the fewest epochs to {100 * NEAR:g} % of the best final MAP@R on the validation slice",
}

FEW_ROWS = 50
"""With fewer rows in the validation slice, the answer says how coarse its scores are. Our choice."""

LEFT_OUT = "left out because"
"""How notes about files without a row begin: images that cannot be read, and files that are no images."""

ASKED_OF_PAIRS: Mapping[Goal, str] = {
    "top1": "the best first hit (R@1)",
    "ranking": "the best ranking (nDCG@10)",
}

RULES: Mapping[Goal, tuple[tuple[str, str], str]] = {
    "top1": (("triplet", "scl"), "they retrieve better where differences are fine"),
    "ranking": (("triplet", "scl"), "they retrieve better where differences are fine"),
    "diversity": (("triplet", "scl"), "they keep more variance inside classes"),
    "speed": (("contrastive", "info_nce"), "they compact early"),
}
"""The paper's rules of thumb, by goal: its claims 1, 3 and 4."""


class Outcome(NamedTuple):
    """All that the sentences are made of."""

    question: Question
    prepared: Prepared
    plan: Plan
    """Of the finalists."""
    verdict: Verdict
    training: Training | None
    others: Mapping[Goal, Verdict]
    standing: Sequence[Score]
    """The best candidate of each loss on the validation slice."""
    curve: Curve | None
    trials: int
    seeds: int
    queries: int
    complete: bool
    changed: QueryChanges | None = None
    """Which queries got better and worse, of queries and documents."""
    centering: str = ""
    """What centering the raw model gives, in words; empty if it was not measured."""


def asked(question: Question) -> str:
    """What the goal means for these data."""
    return (ASKED_OF_PAIRS if question.of_pairs else ASKED)[question.goal]


def sentences(of: Outcome) -> Iterator[Sentence]:
    """In the order of the answer."""
    yield Sentence("Train?", _train(of))
    if of.centering:
        hub = "" if of.changed is None or of.changed.hub is None else hub_sentence(of.changed)
        yield Sentence("Without training", " ".join(filter(None, (of.centering, hub))))
    if of.changed is not None:
        yield Sentence("Queries", _queries(of.changed))
    yield Sentence("Loss", _loss(of))
    if (runner_up := _runner_up(of)) is not None:
        yield Sentence("Runner-up", runner_up)
    yield Sentence("What would change this", " ".join(_changes(of)))
    if not of.question.of_pairs:  # the paper is about classes
        yield Sentence("Rule of thumb", _rule(of))
    yield Sentence("More labelled data", _more_data(of))
    if of.question.of_pairs:
        yield Sentence("Width", _width(of))
    yield Sentence("What was tried", _tried(of))
    yield Sentence("Scope", _scope(of))


def settings_in_words(settings: Mapping[str, object], per_class: int) -> str:
    """`margin 0.38, learning rate 0.000277, batches of 32 (m_per_class, 4 of each)`; `per_class` is the 4."""
    own = [f"{key} {value}" for key, value in settings.items() if key not in TRAINING]
    rate, size, sampler = (settings.get(key) for key in TRAINING)
    own = own or ["its defaults"]
    each = f", {per_class} of each" if sampler == "m_per_class" else ""
    return ", ".join([*own, f"learning rate {rate}", f"batches of {size} ({sampler}{each})"])


def _settings(of: Outcome, loss: Loss) -> str:
    plans = {one.title: one.settings for one in of.plan.losses}
    return settings_in_words(plans.get(loss.base, {}), of.plan.samples_per_class)


def _queries(of: QueryChanges) -> str:
    """How many got better and worse, and the worst of them."""
    same = of.query_count - of.better_count - of.worse_count
    words = (
        f"Of {of.query_count:,} test queries, {of.loss} makes {of.better_count:,} better and {of.worse_count:,} worse by nDCG@10 (mean over "
        f"{counted(of.seeds, 'seed')}); {same:,} stay as they are."
    )
    if of.worse:
        one = of.worse[0]
        words += f" The largest loss: {one.query!r}, from {shown(one.before or 0.0, 'percent')} to {shown(one.after or 0.0, 'percent')}; the page has more, with their documents."
    return words


def _width(of: Outcome) -> str:
    width = of.prepared.features.features.shape[1]
    return f"The adapter keeps the width of the features, {width} numbers; the command below that takes it along says what fewer would cost."


def _frozen(of: Outcome) -> str:
    return "raw model" if of.question.of_pairs else "frozen features"


def _train(of: Outcome) -> str:
    found = of.training
    if found is None:
        return (
            f"It cannot be told: the {_frozen(of)} was not measured."
            if of.question.of_pairs
            else "It cannot be told: the frozen features were not measured."
        )
    title, name = COLUMNS[found.column].title, of.verdict.best.name
    over, over_level = _over(found.difference), _over(found.level)
    numbers = (
        f"{title} is {shown(found.frozen, 'percent')} with the {_frozen(of)} and "
        f"{shown_interval(found.level, 'percent')} with {name}{over_level if over_level != over else ''}, "
        f"a difference of {in_points(found.difference)} points{over}"
    )
    numbers = f"{numbers}.{_untrained(found, name)}"
    if found.train == "train":
        return f"Yes. {numbers}"
    if found.train == "keep" and found.at_start:
        return f"No, keep the {_frozen(of)}: on the validation slice no epoch of {name} is better, so epoch 0 was picked in every run, and that is the {_frozen(of)} ({title} {shown(found.frozen, 'percent')} on the test side)."
    if found.train == "keep":
        return f"No, keep the {_frozen(of)}: training makes {'it' if of.question.of_pairs else 'them'} worse. {numbers}"
    if found.train == "equivalent":
        return f"No, keep the {_frozen(of)}: training changes nothing that matters in practice. {numbers}"
    if found.short is not None:
        change = found.short.advice.strip("`")
        return f"It cannot be told: too little training ({found.short.evidence}). {numbers} {_longer(of, change)}"
    why = found.difference.why_none or (
        "the interval contains 0"
        if not found.difference.excludes_zero
        else ONE_SEED
        if not found.family
        else f"the interval contains 0 after the correction for {counted(found.family, 'comparison')}"
    )
    return f"It cannot be told from {counted(found.difference.size, 'seed')} ({why}). {numbers} Until more is known, the {_frozen(of)} cost{'s' if of.question.of_pairs else ''} nothing."


def _longer(of: Outcome, change: str) -> str:
    """What to do after too little training: the epochs are chosen by the minutes."""
    if change.startswith("epochs"):
        return f"Give more minutes, or run the study file below with `--set {change.replace(': ', '=')}`."
    return f"Run the study file below with `--set {change.replace(': ', '=')}`."


def _over(of: Interval) -> str:
    """What the ± is over, and why it is approximate; empty without a ±."""
    if of.half_width is None:
        return ""
    return f" (± over {of.over}{f'; approximate: {of.approximate}' if of.approximate else ''})"


def _from_seeds(of: Interval) -> str:
    """How many seeds a level is from, and what its ± is over."""
    seeds = counted(of.size, "seed")
    return f" over {seeds}" if of.half_width is None else f" ({seeds}; ± over {of.over})"


def _untrained(found: Training, name: str) -> str:
    if found.untrained is None:
        return ""
    how = {
        "lower": f", clearly better than {name}",
        "equivalent": f", equivalent to {name}",
        "higher": f", clearly worse than {name}",
    }.get(found.untrained_side, "")
    return f" The untrained head has {shown(found.untrained, 'percent')}{how}."


def _loss(of: Outcome) -> str:
    found, name = of.verdict, of.verdict.best.name
    if found.at_start:
        return (
            f"The untrained head already has {100 * NEAR:g} % of the best final MAP@R on the validation slice in most seeds: speed cannot be "
            f"compared. By MAP@R, take {name} ({_settings(of, found.best)})."
        )
    level = f"{_level(found, found.best)}{_from_seeds(found.levels[found.best])}"
    anyway = of.training is not None and of.training.train in ("keep", "equivalent")
    ask = f"{'If you train all the same: for' if anyway else 'For'} {(ASKED_OF_PAIRS if of.question.of_pairs else ASKED)[found.goal]}"
    start = f"{ask}, take {name} ({_settings(of, found.best)}): {level}"
    if len(found.losses) == 1:
        only = {
            "diversity": "no other loss is shown to have an equivalent MAP@R",
            "speed": "no other loss reaches that in every seed",
        }
        several = len(of.plan.losses) > 1
        why = only.get(found.goal, "") if several else "no other loss was run with seeds"
        why = why or "no other loss has a result in every seed"
        return f"{start}. There is no comparison: {why}."
    others = _named(found.losses[1:])
    if found.is_clear:
        how = "sooner than" if found.goal == "speed" else "better than"
        return f"{start}, clearly {how} {others}."
    if of.seeds == 1:
        return f"{start}. One seed shows no spread, so whether it is better than {others} cannot be told."
    equal = [loss for loss in found.ties if _side(found, loss) == "equivalent"]
    unclear = [loss for loss in found.ties if loss not in equal]
    doubts = []
    if equal:
        doubts.append(f"{_named(equal)} {'is' if len(equal) == 1 else 'are'} equivalent")
    if unclear:
        doubts.append(
            f"whether it is better than {_named(unclear)} cannot be told from these seeds"
        )
    return f"{start}; {', and '.join(doubts)}."


def _runner_up(of: Outcome) -> str | None:
    found = of.verdict
    if len(found.losses) < 2 or found.at_start:
        return None
    second = found.losses[1]
    words = f"{second.name}: {_settings(of, second)}; {_level(found, second)}"
    difference = _difference(found, second, turned=True)
    return (
        f"{words}{difference and f', {difference} from {found.best.name}{_doubt(found, second)}'}."
    )


def _changes(of: Outcome) -> Iterator[str]:
    found = of.verdict
    if found.at_start:
        pass  # more seeds would not tell either
    elif found.ties and of.seeds > 1:
        needed = found.seeds_needed
        yield (
            f"About {needed} seeds instead of {of.seeds} would tell {_named([found.best, *found.ties])} apart, if the differences stay as they are."
            if needed
            else f"More seeds or more test rows may put {_named(found.ties)} first."
        )
    elif found.ties:
        yield "More minutes: three seeds or more are needed to compare losses."
    compared = {
        goal: other
        for goal, other in of.others.items()
        if len(other.losses) > 1 and not other.at_start
    }
    for goal, other in compared.items():
        doubt = "" if other.is_clear else ", not clearly"
        if other.best != found.best:
            goal_words = (ASKED_OF_PAIRS if of.question.of_pairs else ASKED)[goal]
            yield f"Among these finalists, for {goal_words} it is {other.best.name} ({_level(other, other.best)}{doubt})."
    if compared and all(other.best == found.best for other in compared.values()):
        goals = f"goal{'s' * (len(compared) > 1)} {' and '.join(compared)}"
        yield f"Among these finalists, the {goals} would give {found.best.name}, too."
    if compared:
        yield "They were chosen for this goal: a search with another --goal has its own."
    if of.prepared.sampled:
        yield f"All {of.prepared.rows:,} rows instead of a sample: give more minutes."
    yield "Another backbone, or training it too, may change the order of the losses."


def _rule(of: Outcome) -> str:
    names, why = RULES[of.question.goal]
    found = of.verdict
    start = f"The paper suggests {names[0]} or {names[1]} here, because {why}."
    if found.at_start:
        return f"{start} It cannot be compared here."
    if found.best.name in names:
        clear = "clearly" if found.is_clear else "though not clearly"
        return f"{start} Measured: {found.best.name} is first, {clear}."
    suggested = next((loss for loss in found.losses if loss.name in names), None)
    if suggested is not None:
        how = {
            "higher": "is clearly better than",
            "lower": "is clearly better than",  # for `speed`: fewer epochs
            "equivalent": "is equivalent to",
        }.get(_side(found, suggested), "is not shown to differ from")
        difference = _difference(found, suggested)
        return f"{start} Measured: {found.best.name} {how} {suggested.name}{_doubt(found, suggested)}{difference and f' ({difference})'}."
    on_slice = {score.loss: score.value for score in of.standing}
    value = max((v for name in names if (v := on_slice.get(name)) is not None), default=None)
    best = on_slice.get(found.best.name)
    if value is None or best is None:
        return f"{start} Neither of them was tried in the time that there was."
    title = COLUMNS[of.question.metric].title
    return f"{start} Measured: neither is compared by this goal; on the validation slice, the better of the two has a {title} of {shown(value, 'percent')}, and {found.best.name} {shown(best, 'percent')} (one seed, so no interval)."


def _more_data(of: Outcome) -> str:
    curve = of.curve
    if curve is None:
        return "Not measured: the winner has no result."
    if len(curve.points) < 2:
        return f"Not measured with {curve.missing}."
    title = COLUMNS[_retrieval(of)].title
    unit = "classes" if curve.by_classes else "rows of each class"
    rows = "rows"
    if of.question.of_pairs:
        unit = rows = "queries"
    levels = ", ".join(
        f"{shown_interval(point.level, 'percent')} with {point.rows:,}" for point in curve.points
    )
    shares = [IN_WORDS[point.share] for point in curve.points]
    last = curve.gains[-1] if curve.gains else None
    if last is None:
        verdict = "what a doubling gains is not known"
    elif curve.next_gain is not None:
        gain = rounded(100 * curve.next_gain, 1)
        verdict = (
            f"the last doubling gained {in_points(last)} points, so one more may gain about {gain}"
        )
    elif last.half_width is None:
        verdict = "without an interval, it cannot be told whether more would help"
    elif last.excludes_zero:
        verdict = f"the last doubling changed it by {in_points(last)} points: more of the same kind of data does not help"
    else:
        verdict = f"the last doubling changed it by {in_points(last)} points: it cannot be told whether more would help"
    missing = f" Not measured with {curve.missing}." if curve.missing else ""
    return f"With {', '.join(shares[:-1])} and {shares[-1]} of the training {unit}, {title} is {levels} {rows} (with the validation slice; {counted(curve.points[-1].level.size, 'seed')}); {verdict}.{missing}"


def _tried(of: Outcome) -> str:
    schedule, prepared = of.prepared.schedule, of.prepared
    losses = len({one.name for one in prepared.candidates})
    rungs = ", ".join(map(str, schedule.epochs))
    batches = " and ".join(f"{one.sampler} {one.batch_size}" for one in prepared.batchings)
    sample = (
        f", on a class-balanced sample of {len(prepared.features.labels):,} of {prepared.rows:,} rows"
        if prepared.sampled
        else ""
    )
    notes = [note for note in prepared.features.notes if note.startswith(LEFT_OUT)]
    left_out = "".join(f" {_capital(note)}." for note in notes)
    part = "" if of.complete else " Not all of it ended in time, so this is the answer so far."
    finals = f"{counted(len(of.plan.losses), 'loss')} with {counted(of.seeds, 'seed')}"
    return (
        f"{losses} losses with {counted(schedule.candidates, 'candidate')} each (settings and batches: {batches}), by successive "
        f"halving over {rungs} epochs, {counted(of.trials, 'trial')} on a validation slice; then {finals} on "
        f"{of.queries:,} test queries{sample}.{left_out}{part}"
    )


def _scope(of: Outcome) -> str:
    features = of.prepared.features
    split = (
        "classes that are not in training"
        if features.protocol == "class-disjoint"
        else f"the {features.protocol} split"
    )
    labels = slice_labels(features, of.plan.validation_share)
    few = ""
    if len(labels) < FEW_ROWS:
        few = (
            f" The slice has {counted(len(labels), 'row')} of {len(labels.unique())} classes: {_steps(labels, of.question.metric)}, so "
            "what it picked may be chance."
        )
    backbone = "given embeddings" if features.backbone == GIVEN else features.backbone
    if of.question.of_pairs:
        return (
            f"This is about an adapter of rank {of.plan.rank} on frozen text embeddings ({backbone}) for queries and documents, tested on "
            f"{of.queries:,} other queries among all {_documents(features):,} documents ({features.protocol} split). The epoch of each run was "
            f"picked on the validation slice, {100 * of.plan.validation_share:.0f} % of the training queries, which are not trained on. Other hard "
            "negatives were not tried: set negatives in a study."
        )
    return (
        f"This is about a linear head on frozen features ({backbone}), tested on {split}. The epoch of each run was picked on "
        f"the validation slice, {100 * of.plan.validation_share:.0f} % of the training side, which is not trained on.{few}"
    )


def _steps(labels: Int[Tensor, " slice"], column: str) -> str:
    """How coarse the measure of the goal is on a slice: by how much one row changes it."""
    title, step = COLUMNS[column].title, rounded(100 / len(labels), 1)
    if column == "recall_at_1":
        return f"its {title} moves in steps of {step} points"
    if int(labels.unique(return_counts=True)[1].max()) == 2:
        return f"with two rows of a class, its {title} is R@1 and moves in steps of {step} points"
    return f"one row moves its {title} by up to {step} points"


def _documents(features: FeatureSet) -> int:
    return 0 if features.pairs is None else len(features.pairs.corpus)


def _retrieval(of: Outcome) -> str:
    """The column of retrieval that the answer speaks of."""
    return of.question.metric


def _level(found: Verdict, loss: Loss) -> str:
    level: Interval = found.levels[loss]
    column = found.column if found.goal != "speed" else COLUMN["speed"]
    if column in COLUMNS:
        return f"{COLUMNS[column].title} {shown_interval(level, COLUMNS[column].unit)}"
    return f"{shown_interval(level, 'epochs')} epochs"


def _difference(found: Verdict, loss: Loss, *, turned: bool = False) -> str:
    """The best minus this loss in the quantity of the goal, or turned the other way; empty if it is not known."""
    of = found.differences.get(loss)
    if of is None:
        return ""
    of = of.turned if turned else of
    if found.goal in ("ranking", "top1"):
        return f"{in_points(of)} points"
    digits, unit = (1, " epochs") if found.goal == "speed" else (3, "")
    half = "" if of.half_width is None else f" ± {rounded(of.half_width, digits)}"
    return f"{rounded(of.mean, digits, signed=True)}{half}{unit}"


def _doubt(found: Verdict, loss: Loss) -> str:
    """Why a difference is not clear although its interval does not contain 0; empty otherwise."""
    if loss not in found.decisions or _side(found, loss) != "open":
        return ""
    if not found.differences[loss].excludes_zero:
        return ""
    if not found.decisions[loss].family:  # nothing was corrected: one seed
        return f", {found.decisions[loss].reason}"
    family = counted(found.decisions[loss].family, "comparison")
    return f", not clear after the correction for {family}"


def _side(found: Verdict, loss: Loss) -> str:
    """What is decided about the best minus this loss."""
    return found.decisions[loss].side if loss in found.decisions else "open"


def _named(losses: Sequence[Loss]) -> str:
    names = [loss.name for loss in losses]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _capital(text: str) -> str:
    """Names such as nDCG@10 stay as they are."""
    return text if text[1:2].isupper() else text[:1].upper() + text[1:]


def forecast_lines(question: Question, prepared: Prepared, folder: object) -> Iterator[str]:
    """What would be done, for a dry run."""
    features, schedule = prepared.features, prepared.schedule
    yield (
        f"{question.data}: {len(features.train):,} training and {len(features.test):,} test {'queries' if question.of_pairs else 'rows'}, {features.protocol} split"
        + (f", a class-balanced sample of {prepared.rows:,} rows" if prepared.sampled else "")
    )
    if prepared.extraction_seconds:
        yield f"features: about {prepared.extraction_seconds:,.0f} s"
    losses = len(prepared.plan.losses)
    yield (
        f"search: {losses} losses × {counted(schedule.candidates, 'candidate')}, by successive halving over "
        f"{', '.join(map(str, schedule.epochs))} epochs, then seeds for the best losses, about {schedule.seconds:,.0f} s"
    )
    yield f"then a learning curve and more seeds, while there is time in the {question.minutes:g} minutes"
    yield f"nothing was trained or written; results would go to {folder}"

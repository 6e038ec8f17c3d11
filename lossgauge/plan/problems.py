"""Error texts for a study file: one line for each pydantic error, with the key, the rule and the value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from lossgauge.errors import nearest
from lossgauge.plan.claim import ClaimPlan
from lossgauge.plan.labels import LabelPlan
from lossgauge.plan.loss import LEARNING_RATE, Choices, LossPlan, Range
from lossgauge.plan.rules import MOST_SHOWN, broken_rule, shown
from lossgauge.plan.study import Mined, Tune

MOST_PROBLEMS = 10
"""Problems in one error."""


def shown_key(key: Any) -> str:
    """A key that is not text."""
    return "null" if key is None else shown(key)


def in_words(error: ValidationError, source: str) -> str:
    """All problems in one line, after the name of the file; at most the first ten, and the number of the others."""
    words = list(_problems(error))
    more = [f"and {len(words) - MOST_PROBLEMS} more"] if len(words) > MOST_PROBLEMS else []
    return f"{source}: " + "; ".join(words[:MOST_PROBLEMS] + more)


def _problems(error: ValidationError) -> Iterator[str]:
    reported: set[str] = set()
    for problem in error.errors(include_url=False):
        if problem["type"] == "default_factory_not_called":
            continue  # a default that depends on a key which has its own line
        *above, last = problem["loc"] or ("",)
        where = ".".join(str(part) for part in problem["loc"] if part not in _TAGS)
        given = shown(problem["input"])
        if problem["type"] == "default_factory_not_called":
            continue  # a default that depends on a wrong key, which has a line of its own
        if problem["type"] == "missing":
            yield f"the key {where[:MOST_SHOWN]!r} is missing"
        elif problem["type"] == "extra_forbidden":
            known = _model_at(above).model_fields
            yield f"unknown key {where!r}{nearest(str(last), known)}"
        elif "value" in above:
            # one line per setting, not one per type it could have had
            setting = where.rpartition(".")[0]
            if setting not in reported:
                yield (
                    f"{setting} must be one finite value, {{low: …, high: …}} or {{choices: […]}}, got {given}"
                )
            reported.add(setting)
        elif "backbone" in above and problem["type"] != "value_error":
            # one line, not one per form it could have had
            if "backbone" not in reported:
                yield (
                    "backbone must be a name, {name: …, settings: {…}}, or a mapping with one of these per "
                    "dataset, as in {digits: pixels}"
                )
            reported.add("backbone")
        elif problem["type"] == "invalid_key" or last == "[key]":
            inside = ".".join(map(str, above if last != "[key]" else above[:-1]))
            yield f"{inside}: a key must be text, got {shown_key(problem['input'])}"
        elif problem["type"] == "too_short" and last in _ONE:
            yield f"{where}: give {_ONE[str(last)]}, got {given}"
        elif (
            last not in _TAGS
            and problem["type"] != "value_error"
            and isinstance(problem["input"], dict)
            and {"low", "choices"} & problem["input"].keys()
        ):
            way = " (set its range with tune.learning_rate)" if where == LEARNING_RATE else ""
            yield (
                f"{where} cannot be tuned; only the settings of a loss and its learning_rate can{way}: "
                "give one value"
            )
        elif problem["type"] == "value_error":
            yield f"{where}: {broken_rule(problem)}" if where else broken_rule(problem)
        else:
            yield f"{where} {broken_rule(problem)}{_EXAMPLES.get(where, '')}"


def _model_at(path: list[int | str]) -> type[BaseModel]:
    """The model whose keys are known at a path of keys."""
    if path[:1] == ["claims"]:
        return ClaimPlan
    if path[:1] == ["labels"]:
        return LabelPlan
    return _MODELS.get(str(path[-1]) if path else "", LossPlan)


_TAGS = ("value", "range", "choices", "mined", "words")
_MODELS: dict[str, type[BaseModel]] = {
    "tune": Tune,
    "range": Range,
    "choices": Choices,
    "mined": Mined,
    LEARNING_RATE: Range,
}
"""Which keys are known inside a nested key."""
_EXAMPLES = {
    "tune": " (as in {trials: 20})",
    "negatives": " (mined: as in {from_rank: 10, to_rank: 50})",
}
_ONE = {
    "datasets": "at least one dataset",
    "losses": "at least one loss",
    "seeds": "at least one seed",
    "labels": "at least one entry",
}

"""A study file: YAML in, a plan out, with `--set` on top. Every mistake is one line that names the key and the rule."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from lossgauge.errors import PlanError, nearest
from lossgauge.plan.loss import LEARNING_RATE, Choices, LossPlan, Range, named
from lossgauge.plan.plain_yaml import MOST_BYTES, read_yaml
from lossgauge.plan.study import Plan, Tune, listed

MOST_SHOWN, MOST_TOLD, MOST_DOTS = 120, 10, 100
"""Characters of a wrong value and problems in one error; parts of a key of `--set`."""


def load_plan(source: str, *, overrides: Iterable[str] = ()) -> Plan:
    """The plan of a built-in study (`demo`, `paper`) or of a YAML file, with `key=value` overrides on top.

    Raises PlanError for an unknown name, key or value, naming the key and the rule.
    """
    return parse_plan(_text(source), overrides=overrides, source=source)


def parse_plan(text: str, *, overrides: Iterable[str] = (), source: str = "the study") -> Plan:
    """A plan from YAML text."""
    content = read_yaml(text, source=source)
    if not isinstance(content, dict):
        raise PlanError(f"{source} must hold keys and values, got {type(content).__name__}")
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise PlanError(f"--set takes key=value, got {_shown(override)}")
        parsed = read_yaml(value, source=f"the value of --set {key[:80]}")
        path = key.strip().split(".")
        if len(path) > MOST_DOTS:
            raise PlanError(f"--set {_shown(override)}: a key of more than {MOST_DOTS} parts")
        try:
            _put(content, path, parsed)
        except (LookupError, ValueError) as error:
            raise PlanError(f"--set {_shown(override)}: {error.args[0]}") from None
    for key in content:
        if not isinstance(key, str):
            raise PlanError(f"{source}: a key must be text, got {_key(key)}")
    unknown = [key for key in content if key not in Plan.model_fields]
    if unknown:
        raise PlanError(
            f"unknown key {_shown(unknown[0])} in {source}"
            f"{nearest(unknown[0][:MOST_SHOWN], Plan.model_fields)}"
        )
    try:
        return Plan.model_validate(content)
    except ValidationError as error:
        words = list(_in_words(error, source))
        more = [f"and {len(words) - MOST_TOLD} more"] if len(words) > MOST_TOLD else []
        raise PlanError("; ".join(words[:MOST_TOLD] + more)) from None


def _shown(value: Any) -> str:
    """A value as Python writes it, its beginning where it is long."""
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"


def _key(key: Any) -> str:
    return "null" if key is None else _shown(key)


def schema() -> dict[str, Any]:
    """JSON Schema of a study file, for editors that complete and check YAML."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Plan.model_json_schema(mode="validation"),
        "title": "lossgauge study",
    }


def built_in_studies() -> list[str]:
    """Names that `load_plan` knows without a file."""
    folder = files("lossgauge") / "studies"
    return sorted(
        entry.name.removesuffix(".yaml")
        for entry in folder.iterdir()
        if entry.name.endswith(".yaml")
    )


def _text(source: str) -> str:
    if source in built_in_studies():
        return (files("lossgauge") / "studies" / f"{source}.yaml").read_text(encoding="utf-8")
    path = Path(source)
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        raise PlanError(
            f"no study is named {_shown(source)} and there is no such file{nearest(source, built_in_studies())}"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PlanError(f"{_shown(source)} cannot be read: {reason}") from None
    if not regular:  # a pipe may have nobody who writes into it, and a device no end
        raise PlanError(f"{source} is no regular file: give a YAML file or the name of a study")
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"{source} cannot be read as text: {error}") from None


def _put(content: Any, path: list[str], value: Any) -> None:
    """Set the value at a path of keys; in a list of losses a name is the key. LookupError in words."""
    key, *rest = path
    if not rest:
        content[key] = value
        return
    inner = content.get(key)
    if inner is None:
        inner = content[key] = {}
    if key == "losses" and isinstance(inner, str | list):
        entries = content[key] = [named(entry) for entry in listed(inner)]
        losses = [entry for entry in entries if isinstance(entry, dict)]
        inner, rest = _settings_of(losses, rest)
    if not isinstance(inner, dict):
        raise LookupError(f"{key} is {_shown(inner)}, which has no key {rest[0]!r}")
    _put(inner, rest, value)


def _settings_of(losses: list[dict[str, Any]], path: list[str]) -> tuple[Any, list[str]]:
    """The settings of the loss that a path begins with, and what is left of the path. A name may have dots in it."""
    known = [str(loss.get("name")) for loss in losses]
    for end in range(len(path), 0, -1):
        name, rest = ".".join(path[:end]), path[end:]
        if name not in known:
            continue
        if known.count(name) > 1:
            raise LookupError(
                f"{known.count(name)} losses are named {name!r}; give all of losses instead"
            )
        if not rest:
            raise LookupError(f"name a setting, as in losses.{name}.margin=0.1")
        return losses[known.index(name)].setdefault("settings", {}), rest
    raise LookupError(f"no loss is named {path[0]!r}{nearest(path[0], known)}")


def _in_words(error: ValidationError, source: str) -> Iterator[str]:
    told: set[str] = set()
    for problem in error.errors():
        *above, last = problem["loc"] or ("",)
        where = ".".join(str(part) for part in problem["loc"] if part not in _TAGS)
        given = _shown(problem["input"])
        if problem["type"] == "missing":
            yield f"{source} lacks the key {where[:MOST_SHOWN]!r}"
        elif problem["type"] == "extra_forbidden":
            known = _MODELS.get(str(above[-1]) if above else "", LossPlan).model_fields
            yield f"{source}: unknown key {where!r}{nearest(str(last), known)}"
        elif "value" in above:
            # one line for a setting, not one for each type that it might have been
            setting = where.rpartition(".")[0]
            if setting not in told:
                yield (
                    f"{source}: {setting} must be one finite value, {{low: …, high: …}} or {{choices: […]}}, "
                    f"got {given}"
                )
            told.add(setting)
        elif "backbone" in above and problem["type"] != "value_error":
            # one line, not one for each form that it might have had
            if "backbone" not in told:
                yield (
                    f"{source}: backbone must be one name, {{name: …, settings: {{…}}}}, or one of them for each "
                    "dataset, as in {digits: pixels}"
                )
            told.add("backbone")
        elif problem["type"] == "invalid_key" or last == "[key]":
            inside = ".".join(map(str, above if last != "[key]" else above[:-1]))
            yield f"{source}: {inside}: a key must be text, got {_key(problem['input'])}"
        elif problem["type"] == "too_short":
            least = f"at least {problem['ctx']['min_length']} entries"
            yield f"{source}: {where}: give {_ONE.get(str(last), least)}, got {given}"
        elif (
            last not in _TAGS
            and problem["type"] != "value_error"
            and isinstance(problem["input"], dict)
            and {"low", "choices"} & problem["input"].keys()
        ):
            way = " (for that, tune.learning_rate takes a range)" if where == LEARNING_RATE else ""
            yield (
                f"{source}: {where} cannot be tuned; only the settings of a loss and its learning_rate can{way}: "
                "give one value"
            )
        elif problem["type"] in _SHAPES:
            hint = ", as in {trials: 20}" if where == "tune" else ""
            yield f"{source}: {where} must be {_SHAPES[problem['type']]}{hint}, got {given}"
        else:
            # a rule of our own says itself what came
            got = "" if problem["type"] == "value_error" else f", got {given}"
            place = f"{source}: {where}: " if where else f"{source}: "
            yield f"{place}{problem['msg'].removeprefix('Value error, ')}{got}"


_TAGS = ("value", "range", "choices")
_MODELS: dict[str, type[BaseModel]] = {
    "tune": Tune,
    "range": Range,
    "choices": Choices,
    LEARNING_RATE: Range,
}
"""Where a nested key is unknown: what it may be."""
_ONE = {
    "datasets": "at least one dataset",
    "losses": "at least one loss",
    "seeds": "at least one seed",
}
_SHAPES = {
    "model_type": "keys and values",
    "dict_type": "keys and values",
    "list_type": "a list",
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of fewer digits",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
}

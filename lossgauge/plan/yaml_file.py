"""A study from a built-in name, a YAML file or a dict, with overrides on top. Every mistake is one line."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from lossgauge.errors import PlanError, nearest
from lossgauge.plan.overrides import apply_overrides, parse_overrides, plain
from lossgauge.plan.plain_yaml import MOST_BYTES, read_yaml
from lossgauge.plan.problems import in_words, shown_key
from lossgauge.plan.rules import MOST_SHOWN, shown
from lossgauge.plan.study import Plan

Overrides = Iterable[str] | Mapping[str, Any]
"""`["epochs=10", "losses.triplet.margin=0.1"]`, or `{"epochs": 10, "losses.triplet.margin": 0.1}`."""


def load_plan(source: str | Path | Mapping[str, Any], overrides: Overrides = ()) -> Plan:
    """The plan of a built-in study (`"demo"`, `"paper"`), of a YAML file or of a dict, with `overrides` on top.

    `docs/run-a-study.md` says what overrides change beside their own key. Raises PlanError for an unknown name,
    key or value, in one line with the key and the rule.
    """
    if isinstance(source, Mapping):
        return _plan(plain(source), overrides, source="the study")
    built_in = isinstance(source, str) and source in built_in_studies()
    text = _built_in(str(source)) if built_in else _study_text(Path(source))
    return _parsed(text, overrides, source=str(source), built_in=built_in)


def parse_plan(text: str, overrides: Overrides = (), *, source: str = "the study") -> Plan:
    """A plan from YAML text."""
    return _parsed(text, overrides, source=source)


Content = TypeVar("Content", bound=BaseModel)


def read_model(path: Path, model: type[Content]) -> Content:
    """A YAML file that is not a study, as its model. Raises PlanError in one line with the key and the rule."""
    name = str(path)
    content = read_yaml(_text(path, f"there is no file {shown(name)}"), source=name)
    if not isinstance(content, dict):
        raise PlanError(f"{name} must contain keys and values, got {type(content).__name__}")
    _check_keys(content, model, name)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise PlanError(in_words(error, name)) from None


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


def _parsed(text: str, overrides: Overrides, *, source: str, built_in: bool = False) -> Plan:
    content = read_yaml(text, source=source)
    if not isinstance(content, dict):
        raise PlanError(f"{source} must contain keys and values, got {type(content).__name__}")
    return _plan(content, overrides, source=source, built_in=built_in)


def _plan(
    content: dict[Any, Any], overrides: Overrides, *, source: str, built_in: bool = False
) -> Plan:
    changes = list(parse_overrides(overrides))
    apply_overrides(content, changes, built_in=built_in)
    _check_keys(content, Plan, source)
    try:
        return Plan.model_validate(content)
    except ValidationError as error:
        wrong = {part for problem in error.errors() for part in problem["loc"][:1]}
        blamed = " and ".join(c.text for c in changes if c.path[0] in wrong)
        raise PlanError(in_words(error, f"{source} with {blamed}" if blamed else source)) from None


def _check_keys(content: dict[Any, Any], model: type[BaseModel], source: str) -> None:
    """PlanError for the first key that is not a key of the model."""
    for key in content:
        if not isinstance(key, str):
            raise PlanError(f"{source}: a key must be text, got {shown_key(key)}")
    unknown = [key for key in content if key not in model.model_fields]
    if unknown:
        raise PlanError(
            f"unknown key {shown(unknown[0])} in {source}"
            f"{nearest(unknown[0][:MOST_SHOWN], model.model_fields)}"
        )


def _built_in(name: str) -> str:
    return (files("lossgauge") / "studies" / f"{name}.yaml").read_text(encoding="utf-8")


def _study_text(path: Path) -> str:
    name = str(path)
    unknown = f"no study is named {shown(name)} and there is no such file"
    return _text(path, unknown + nearest(name, built_in_studies()))


def _text(path: Path, unknown: str) -> str:
    """The text of a regular file of at most MOST_BYTES; `unknown` is the error if it is not there."""
    name = str(path)
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        raise PlanError(unknown) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PlanError(f"{shown(name)} cannot be read: {reason}") from None
    if not regular:  # reading a pipe may wait for ever, and a device may have no end
        raise PlanError(f"{name} is not a regular file: give a YAML file")
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise PlanError(f"{name} is not a YAML file: it is not text in UTF-8") from None
    except OSError as error:
        raise PlanError(f"{name} cannot be read: {error.strerror or error}") from None

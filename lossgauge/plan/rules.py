"""The rule that a wrong value breaks, in words: pydantic's own words do not say them for a reader of YAML.

Types of errors: https://docs.pydantic.dev/latest/errors/validation_errors/
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

MOST_SHOWN = 120
"""Characters of a wrong value."""

WHOLE, NUMBER, TEXT = "a whole number", "a number", "text"
_RULES = {
    "missing": "is missing",
    "extra_forbidden": "is not a known key",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "string_too_long": "must have at most {max_length} characters",
    "string_unicode": "must be text that UTF-8 can represent",
    "model_type": "must be keys and values",
    "dict_type": "must be keys and values",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "string_type": f"must be {TEXT}",
    "int_type": f"must be {WHOLE}",
    "int_parsing": f"must be {WHOLE}",
    "int_parsing_size": f"must be {WHOLE} of fewer digits",
    "int_from_float": f"must be {WHOLE}",
    "float_type": f"must be {NUMBER}",
    "float_parsing": f"must be {NUMBER}",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "none_required": "must be null",
}
_NO_VALUE = ("missing", "extra_forbidden")
_KINDS = ("bool", "int", "float", "str")
"""Pydantic names an entry of a union in the path of an error."""


def shown(value: Any) -> str:
    """A value as Python prints it; only the beginning of a long value."""
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"


def broken_rule(problem: ErrorDetails) -> str:
    """What follows the key: `must be above 0, got -1`. For an error of our own rules, its text."""
    value = problem["input"]
    kind, given = problem["type"], f", got {'nothing' if value is None else shown(value)}"
    if kind == "value_error":
        return problem["msg"].removeprefix("Value error, ")
    if kind not in _RULES:
        return f"is not valid{given}: {problem['msg']}"
    bounds = {name: _plain(bound) for name, bound in problem.get("ctx", {}).items()}
    return _RULES[kind].format(**bounds) + ("" if kind in _NO_VALUE else given)


def first_problem(error: ValidationError) -> str:
    """The first problem with its key: `runs.0.seed must be a whole number, got 'x'`."""
    first = error.errors(include_url=False)[0]
    path = first["loc"]
    if path and path[-1] in _KINDS:
        where = ".".join(map(str, path[:-1]))
        return f"{where} must be text, a number, true or false, got {shown(first['input'])}"
    where = ".".join(map(str, path))
    if first["type"] == "value_error":
        return f"{where}: {broken_rule(first)}" if where else broken_rule(first)
    return f"{where or 'it'} {broken_rule(first)}"


def _plain(bound: Any) -> str:
    return f"{bound:,}".removesuffix(".0") if isinstance(bound, int | float) else str(bound)

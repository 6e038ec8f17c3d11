"""Plain YAML: mappings, lists, text, numbers, true and false, null. No anchors, no tags, no dates.

An anchor used ten times on each of nine levels would expand to a thousand million values; a tag can create Python
objects. Dates are read as text, because no setting is a date. 1:30 is text too; YAML 1.1 would read it as 90, in base 60.
010 is ten, not eight.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import yaml

from lossgauge.errors import PlanError

MOST_BYTES = 50_000
"""Limit of a study file: PyYAML reads that much within a second."""

MOST_LEVELS, MOST_DIGITS = 20, 400
"""Limits of nested lists and mappings, and of the digits of one number."""

_DECIMAL = r"([-+]?)([0-9][0-9_]*)"

_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_TEXT = "tag:yaml.org,2002:str"
_PLAIN = (*_NUMBERS, "tag:yaml.org,2002:bool", "tag:yaml.org,2002:null")


def read_yaml(text: str, *, source: str) -> Any:
    """The content of the text. Raises PlanError, in one line, for anything that is not plain YAML."""
    if len(text.encode("utf-8", "surrogatepass")) > MOST_BYTES:
        raise PlanError(f"{source} must have at most {MOST_BYTES:,} bytes")
    try:
        return yaml.load(text, _Plain)
    # ValueError: a number without digits, as in 0x_
    except (yaml.YAMLError, ValueError) as error:
        words = " ".join(_reason(error).split())
        raise PlanError(f"{source} is not valid YAML: {words[:300]}") from None


def _reason(error: Exception) -> str:
    """Line, column and rule, without a copy of the line."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return str(error).replace('in "<unicode string>", ', "at ")
    mark = error.problem_mark or error.context_mark
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return place + ", ".join(part for part in (error.context, error.problem) if part)


class _Plain(yaml.SafeLoader):
    """Safe YAML without anchors, tags and dates; a key may appear once."""

    yaml_implicit_resolvers = {  # noqa: RUF012  # a class attribute, as PyYAML expects
        first: [(tag, pattern) for tag, pattern in resolvers if tag in _PLAIN]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    _levels = 0

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> str:
        tag: str = super().resolve(kind, value, implicit)
        if kind is yaml.ScalarNode and implicit[0]:
            if tag in _NUMBERS and ":" in value:
                return _TEXT
            if re.fullmatch(_DECIMAL, value):
                return _NUMBERS[0]
        return tag

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or event.anchor:
            raise self._refused(
                event, "anchors (&) and aliases (*) are not allowed: write the value in full"
            )
        if event.tag:
            raise self._refused(event, f"tags are not allowed: remove {event.tag[:40]!r}")
        if self._levels > MOST_LEVELS:
            raise self._refused(
                event, f"lists and mappings may be nested at most {MOST_LEVELS} levels deep"
            )
        self._levels += 1
        node = super().compose_node(parent, index)
        self._levels -= 1
        return node

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        if node.tag in _NUMBERS and len(node.value) > MOST_DIGITS:
            raise self._refused(node, f"a number may have at most {MOST_DIGITS} digits")
        value = super().construct_scalar(node)
        if node.tag == _NUMBERS[0] and (decimal := re.fullmatch(_DECIMAL, value)):
            return decimal[1] + (decimal[2].lstrip("0_") or "0")
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for key, count in keys.items():
            if count > 1:
                # YAML would silently take the last one
                raise self._refused(node, f"the key {key[:80]!r} appears twice")
        return super().construct_mapping(node, deep)

    @staticmethod
    def _refused(at: Any, words: str) -> yaml.YAMLError:
        return yaml.constructor.ConstructorError(None, None, words, at.start_mark)

"""Changes on top of a study: `--set key=value` on the command line, a dict of them in Python.

A key with dots names a nested key (`tune.trials`); below `losses`, the next part is the name of a loss. If an override
drops a dataset, the entries of the study file for this dataset are dropped too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from lossgauge.errors import PlanError, nearest
from lossgauge.plan.loss import named
from lossgauge.plan.plain_yaml import read_yaml
from lossgauge.plan.rules import shown
from lossgauge.plan.study import listed

MOST_DOTS = 100
"""Parts of one key."""


class Override(NamedTuple):
    """One change of a study."""

    path: list[str]
    """The key, split at its dots."""
    value: Any
    text: str
    """How the user wrote it, for errors."""


def parse_overrides(overrides: Iterable[str] | Mapping[str, Any]) -> Iterator[Override]:
    """Overrides from `key=value` texts, whose values are YAML, or from a mapping of keys to Python values.

    Raises PlanError for a text without `=`, a value that is not YAML, and a key that is not text or too long.
    """
    if isinstance(overrides, str):
        overrides = [overrides]
    pairs = overrides.items() if isinstance(overrides, Mapping) else map(_split, overrides)
    for key, value in pairs:
        text = f"{key}={value}" if isinstance(value, _Yaml) else f"{key}={value!r}"
        text = f"--set {shown(text)}"
        if not isinstance(key, str):
            raise PlanError(f"{text}: a key must be text")
        path = key.strip().split(".")
        if len(path) > MOST_DOTS:
            raise PlanError(f"{text}: a key may have at most {MOST_DOTS} parts")
        if isinstance(value, _Yaml):
            value = read_yaml(value, source=f"the value of --set {key[:80]}")
        yield Override(path, plain(value), text)


class _Yaml(str):
    """The text of a value that is still to be read as YAML."""


def _split(override: str) -> tuple[str, _Yaml]:
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise PlanError(f"--set takes key=value, got {shown(override)}")
    return key, _Yaml(value)


def plain(value: Any) -> Any:
    """A copy that contains only dicts and lists, like content read from YAML."""
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(entry) for entry in value]
    return value


def apply_overrides(
    content: dict[Any, Any], overrides: Sequence[Override], *, built_in: bool
) -> None:
    """Change `content`, a study as read from its file, in place.

    If `datasets` is overridden, the `backbone` entries of the dropped datasets are removed from the file's content. If
    losses or datasets of a `built_in` study are overridden, its question is removed, because it is about the old ones.
    Raises PlanError for a path that does not exist.
    """
    before = {key: _names(content.get(key)) for key in ("datasets", "losses")}
    # datasets first: entries for dropped datasets are removed before other overrides are applied
    for override in sorted(overrides, key=lambda one: one.path != ["datasets"]):
        _put_or_raise(content, override)
        if override.path == ["datasets"]:
            _drop_backbones(content, before["datasets"])
    changed = any(_names(content.get(key)) != names for key, names in before.items())
    if built_in and changed and ["question"] not in [override.path for override in overrides]:
        content.pop("question", None)


def _names(entries: Any) -> list[str]:
    """The datasets or losses of a study by name; empty where the entries break a rule, which is reported later."""
    try:
        entries = listed(entries)
        given = [named(entry) for entry in entries] if isinstance(entries, list) else []
    except ValueError:
        return []
    return [str(entry.get("name")) for entry in given if isinstance(entry, dict)]


def _drop_backbones(content: dict[Any, Any], before: list[str]) -> None:
    backbone = content.get("backbone")
    if not isinstance(backbone, dict) or "name" in backbone:
        return
    for dataset in set(before) - set(_names(content["datasets"])):
        backbone.pop(dataset, None)
    if not backbone:  # the file gives no backbone for the remaining datasets: use the default
        del content["backbone"]


def _put_or_raise(content: dict[Any, Any], override: Override) -> None:
    try:
        _put(content, override.path, override.value)
    except (LookupError, ValueError) as error:
        raise PlanError(f"{override.text}: {error.args[0]}") from None


def _put(content: Any, path: list[str], value: Any) -> None:
    """Set the value at a path of keys; below `losses`, the key is a name. Raises LookupError with a message."""
    key, *rest = path
    if not rest:
        content[key] = value
        return
    inner = content.get(key)
    if inner is None:
        inner = content[key] = {}
    if key == "losses" and isinstance(inner, str | list | dict):
        entries = content[key] = [named(entry) for entry in listed(inner)]
        loss, rest = _loss_at([entry for entry in entries if isinstance(entry, dict)], rest)
        _set_of_loss(loss, rest, value)
        return
    if not isinstance(inner, dict):
        raise LookupError(f"{key} is {shown(inner)}: it has no key {rest[0]!r}")
    _put(inner, rest, value)


def _loss_at(losses: list[dict[str, Any]], path: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The loss that a path begins with, and the rest of the path. A name may have dots in it."""
    known = [str(loss.get("name")) for loss in losses]
    for end in range(len(path), 0, -1):
        name, rest = str(named(".".join(path[:end]))["name"]), path[end:]
        if name not in known:
            continue
        if known.count(name) > 1:
            raise LookupError(
                f"{known.count(name)} losses are named {name!r}; set the whole list `losses` instead"
            )
        return losses[known.index(name)], rest
    raise LookupError(f"no loss is named {path[0]!r}{nearest(path[0], known)}")


def _set_of_loss(loss: dict[str, Any], path: list[str], value: Any) -> None:
    """Set one setting of a loss, or all of them where the path is empty."""
    if path:
        if loss.get("settings") is None:
            loss["settings"] = {}
        _put(loss, ["settings", *path], value)
    elif value is None or isinstance(value, dict):
        loss["settings"] = value or {}
    else:
        raise LookupError(f"name a setting, as in losses.{loss['name']}.margin=0.1")

"""A loss as the setting of another loss: by name, with settings of its own, or as an object.

As text it is written as tables show it: `triplet`, `triplet(margin=0.3)`. A study file takes `{triplet: {margin: 0.3}}` too.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from lossgauge.errors import InputError
from lossgauge.losses.base import Loss
from lossgauge.losses.settings import MEASURED, Check, checked


def inner_loss(fits: Callable[[type[Loss]], bool]) -> Check:
    """A check of a setting that holds a loss whose class `fits`.

    Text and mappings become text without the settings that have their defaults, so that equal losses are equal texts; objects stay. A loss that
    holds others itself never fits.
    """

    def check(name: str, value: Any) -> str | nn.Module:
        if _fits(type(value), fits):
            return value  # type: ignore[no-any-return]
        of, given = _read(value)
        from lossgauge.losses.registry import ALL_LOSSES, loss_class, our_name, settings_of

        able = [loss for loss in ALL_LOSSES if _fits(loss_class(loss), fits)]
        if our_name(of) not in able:
            what = repr(value) if isinstance(value, str | Mapping) else type(value).__name__
            raise InputError(f"{name} must be one of {', '.join(able)}, got {what}")
        if of_outer := [key for key in MEASURED if key in given]:
            raise InputError(
                f"{name}: {of_outer[0]} of a loss inside another one has no effect; give it to the outer one"
            )
        known = settings_of(our_name(of))
        settings = checked(known, given, of=f"the loss {our_name(of)!r}")
        own = {key: settings[key] for key in known if key in settings}
        inside = ", ".join(
            f"{key}={value}" for key, value in own.items() if value != known[key].default
        )
        return f"{our_name(of)}({inside})" if inside else our_name(of)

    return check


def load_inner(outer: Loss, key: str) -> Any:
    """The loss that a setting of `outer` holds, for `prepare`; the setting is text from then on. One that is given as text has the
    `tolerance` of `outer`."""
    from lossgauge.losses.registry import load_loss

    given = outer._modules.pop(key, None)  # an object would be registered as a part of `outer`
    if given is not None:
        setattr(outer, key, type(given).__name__)
        return given
    name, settings = _read(getattr(outer, key))
    return load_loss(name, tolerance=outer.tolerance, **settings)


def _fits(made: Any, fits: Callable[[type[Loss]], bool]) -> bool:
    return (
        isinstance(made, type)
        and issubclass(made, Loss)
        and not made.wraps_losses
        and bool(fits(made))
    )


def _read(value: Any) -> tuple[str, Mapping[str, Any]]:
    """The name of a loss and its settings; the name is empty for what is not a loss."""
    if isinstance(value, Mapping) and len(value) == 1:
        ((name, settings),) = value.items()
        if isinstance(name, str) and isinstance(settings, Mapping | None):
            return name, settings or {}
    if not isinstance(value, str):
        return "", {}
    if "(" not in value:
        return value, {}
    try:
        call = ast.parse(value.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "", {}
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
        return "", {}
    try:
        return call.func.id, {str(word.arg): _value(word.value) for word in call.keywords}
    except ValueError:
        return "", {}


def _value(of: ast.expr) -> Any:
    """A number, true or false, or a word; ValueError for anything else."""
    return of.id if isinstance(of, ast.Name) else ast.literal_eval(of)

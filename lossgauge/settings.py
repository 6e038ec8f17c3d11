"""Which settings are accepted: the keyword arguments of the class or function that creates a backbone, dataset or loss."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from lossgauge.errors import InputError, nearest

REQUIRED = inspect.Parameter.empty
"""The default of a setting that must be given."""


class Settings(NamedTuple):
    """The settings that a class or function takes."""

    defaults: Mapping[str, Any]
    """Names with their defaults, in the order of the signature; REQUIRED where there is no default."""
    takes_others: bool
    """Whether it accepts any other names too, with `**kwargs`."""


def settings_of(make: Callable[..., Any]) -> Settings:
    """The settings of a class or function, from its signature: they are declared there and nowhere else."""
    parameters = inspect.signature(make).parameters.values()
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return Settings(
        {p.name: p.default for p in parameters if p.kind in named},
        any(p.kind is p.VAR_KEYWORD for p in parameters),
    )


def check_settings(
    given: Mapping[str, Any], make: Callable[..., Any], *, what: str, example: str
) -> None:
    """InputError for a setting that `make` does not accept, with the nearest name, and for a missing setting.

    `what` is its name in errors (`the loss 'scl'`), `example` a call in which `{setting}` is replaced.
    """
    defaults, takes_others = settings_of(make)
    for key in given:
        if key not in defaults and not takes_others:
            if not defaults:
                raise InputError(f"{what} has no settings, got {key!r}")
            raise InputError(f"{what} has no setting {key!r}{nearest(key, defaults)}")
    for key, default in defaults.items():
        if default is REQUIRED and key not in given:
            raise InputError(
                f"{what} needs the setting {key!r}, as in {example.format(setting=key)}"
            )

"""The settings of a loss, declared on its class: their types, their rules, and the range that a search tries.

    class Triplet(PairLoss):
        margin: float = setting(default=0.2, check=zero_or_more, search=SearchRange(0.02, 1.0, log=True))

gives `Triplet` a constructor with the checked keyword `margin`, and `triplet.margin` its value. For a loss without such
declarations (a user's own loss), the settings are the parameters of its constructor.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, TypeGuard, dataclass_transform

from lossgauge.errors import InputError, nearest

Check = Callable[[str, Any], Any]
"""The name of a setting and a value → the value to use; InputError if it breaks the rule of the setting."""

REQUIRED: Any = object()
"""Marks a setting without a default."""

FROM_DATA = ("class_count", "embedding_size")
"""Settings that the study sets itself, for any loss."""

MEASURED = ("reduction", "tolerance")
"""Settings of any loss that change what is measured, but not the training: they are not tuned."""


class SearchRange(NamedTuple):
    """Numbers from `low` to `high`; a search draws them uniformly, or uniformly in their logarithm."""

    low: float
    high: float
    log: bool = False


class Setting(NamedTuple):
    """One setting of a loss."""

    kind: type | None
    """`float`, `int`, `str`, or another type; None if a user's loss does not declare it."""
    default: Any = REQUIRED
    check: Check | None = None
    search: SearchRange | None = None
    """The range that `tune` searches if the study file gives none; None: the setting stays at its default."""
    from_data: bool = False
    """Whether the study sets it: the number of classes, the size of the embeddings."""
    tunable: bool = True
    """Whether a study may give a range for it."""

    def __str__(self) -> str:
        """The text after its name in a list: `=0.2`, or empty without a default."""
        return "" if self.default is REQUIRED else f"={self.default}"


def setting(
    *,
    default: Any = REQUIRED,
    check: Check,
    search: SearchRange | None = None,
    from_data: bool = False,
    tunable: bool = True,
) -> Any:
    """A setting for the body of a `Configurable` class. Its type is that of its default, or a whole number."""
    kind = int if default is REQUIRED else type(default)
    return Setting(kind, default, check, search, from_data, tunable and not from_data)


@dataclass_transform(kw_only_default=True, field_specifiers=(setting,))
class Configurable:
    """Abstract: the keywords are the settings declared by the class and its bases; those of the class come first."""

    settings: ClassVar[Mapping[str, Setting]] = {}

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        own = {key: value for key, value in vars(cls).items() if isinstance(value, Setting)}
        cls.settings = own | {k: v for k, v in cls.settings.items() if k not in own}

    def __init__(self, **given: Any) -> None:
        super().__init__()
        values = checked(self.settings, given, of=type(self).__name__)
        for key, setting in self.settings.items():
            setattr(self, key, values.get(key, setting.default))
        self.prepare()

    def prepare(self) -> None:
        """Create what depends on the settings, such as parameters and buffers. The constructor calls it at its end."""


def declared(made: Callable[..., Any]) -> Mapping[str, Setting]:
    """The settings of a class or function: the declared ones, else the parameters of its signature."""
    if _declares(made):
        return made.settings
    parameters = inspect.signature(made).parameters.values()
    return {p.name: _of_parameter(p) for p in parameters if p.kind in _NAMED}


def takes_any(made: Callable[..., Any]) -> bool:
    """Whether a class or function accepts any keyword, with `**kwargs`."""
    if _declares(made):
        return False
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(made).parameters.values())


def _declares(made: Callable[..., Any]) -> TypeGuard[type[Configurable]]:
    return (
        isinstance(made, type)
        and issubclass(made, Configurable)
        and made.__init__ is Configurable.__init__
    )


_NAMED = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _of_parameter(parameter: inspect.Parameter) -> Setting:
    said = {"float": float, float: float, "int": int, int: int, "str": str, str: str}
    default = REQUIRED if parameter.default is parameter.empty else parameter.default
    kind = said.get(parameter.annotation)
    if kind is None and default is not REQUIRED and default is not None:
        kind = type(default)
    return Setting(
        kind=kind,
        default=default,
        # only an annotation fixes the type; a parameter may accept other types than that of its default
        check=number if parameter.annotation in ("float", float) else None,
        from_data=parameter.name in FROM_DATA,
        tunable=parameter.name not in (*FROM_DATA, *MEASURED),
    )


def checked(
    settings: Mapping[str, Setting], given: Mapping[str, Any], *, of: str, any_name: bool = False
) -> dict[str, Any]:
    """`given` with every value checked. InputError for an unknown name (unless `any_name`) or a missing setting."""
    for key in given:
        if key not in settings and not any_name:
            raise InputError(f"{of} has no setting {key!r}{nearest(key, settings)}")
    for key, known in settings.items():
        if known.default is REQUIRED and key not in given:
            raise InputError(f"{of} needs the setting {key!r}, as in {key}=...")
    checks = {key: known.check for key, known in settings.items()}
    return {
        key: check(f"{key} of {of}", value) if (check := checks.get(key)) else value
        for key, value in given.items()
    }


def number(name: str, value: Any) -> float:
    """`value` as a float, from text too: YAML reads 1e-1 as text."""
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be a number, got {value!r}") from None


def above_zero(name: str, value: Any) -> float:
    """`value` as a float above 0, and finite."""
    if not 0 < number(name, value) < float("inf"):
        raise InputError(f"{name} must be positive and finite, got {value}")
    return float(value)


def any_finite(name: str, value: Any) -> float:
    """`value` as a finite float of any sign."""
    if not float("-inf") < number(name, value) < float("inf"):
        raise InputError(f"{name} must be finite, got {value}")
    return float(value)


def true_or_false(name: str, value: Any) -> bool:
    """`value`, which is True or False."""
    if not isinstance(value, bool):
        raise InputError(f"{name} must be true or false, got {value!r}")
    return value


def zero_or_more(name: str, value: Any) -> float:
    """`value` as a float of at least 0, and finite."""
    if not 0 <= number(name, value) < float("inf"):
        raise InputError(f"{name} must be at least 0 and finite, got {value}")
    return float(value)


def count(name: str, value: Any) -> int:
    """`value` as a whole number of at least 1."""
    try:
        whole = operator.index(value)
    except TypeError:
        raise InputError(f"{name} must be a whole number, got {value!r}") from None
    if whole < 1:
        raise InputError(f"{name} must be at least 1, got {value}")
    return whole


def one_of(*values: str) -> Check:
    """A check that the value is one of `values`."""

    def check(name: str, value: Any) -> str:
        if value not in values:
            raise InputError(f"unknown {name} {value!r}{nearest(str(value), values)}")
        return str(value)

    return check

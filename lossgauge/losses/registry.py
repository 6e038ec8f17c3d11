"""The losses by name, and a user's own by file: what each is called, which settings it takes, and how it is made.

To add one: its file, its test, and its line in `_CLASSES`. All else stands on its class. Classes are imported when first
used: the names alone need no torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from lossgauge.errors import InputError
from lossgauge.losses.own_file import from_file
from lossgauge.losses.settings import Setting, checked, declared, takes_any

if TYPE_CHECKING:
    import torch

    from lossgauge.losses.base import Loss

_CLASSES = {
    "contrastive": "Contrastive",
    "triplet": "Triplet",
    "n_pair": "NPair",
    "info_nce": "InfoNCE",
    "arcface": "ArcFace",
    "scl": "SCL",
    "ccl": "CCL",
}
"""Name, which is that of its file too → class."""

LOSSES = tuple(_CLASSES)


def load_loss(name: str, **settings: Any) -> torch.nn.Module:
    """The loss of that name, or of a file: `my_loss.py:Pull`, called with `settings`.

    Settings are the constructor's keywords, such as `margin`, `temperature`, `scale`, `center_weight`,
    `reduction`; `class_count` and `embedding_size` for losses with a row a class. A file's `Pull` may be
    an `nn.Module` class or a plain function `(embeddings, labels) -> scalar`. A file is run as code.
    Raises InputError for an unknown name or setting.
    """
    made = loss_class(name)
    settings = checked(
        settings_of(name), settings, of=f"the loss {name!r}", any_name=takes_any(made)
    )
    try:
        loss = made(**settings)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        if ":" not in name:
            raise
        # a user's own constructor may raise anything; it is named, not swallowed
        raise InputError(f"{name!r} cannot be created: {type(error).__name__}: {error}") from error
    from torch import nn

    if isinstance(loss, nn.Module):
        return loss
    from lossgauge.losses.function_loss import FunctionLoss

    return FunctionLoss(loss)


def loss_maker(
    name: str, fixed: Mapping[str, Any], *, class_count: int, embedding_size: int
) -> Callable[[], Any]:
    """Makes the loss with its `fixed` settings, and with the number of classes and the width where it takes them."""
    sizes = {"class_count": class_count, "embedding_size": embedding_size}
    taken = {key: sizes[key] for key, known in settings_of(name).items() if known.from_data}
    return lambda: load_loss(name, **{**taken, **fixed})


def settings_of(name: str) -> Mapping[str, Setting]:
    """The settings that a loss takes. A user's file is run as code."""
    return declared(loss_class(name))


def all_settings(name: str, fixed: Mapping[str, Any]) -> dict[str, Any]:
    """The `fixed` settings of a loss with the defaults of the others, as JSON can hold them."""
    known = settings_of(name)
    # an infinite default has no JSON: its name stands for it
    defaults = {
        key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in ((key, setting.default) for key, setting in known.items())
        if isinstance(value, str | int | float)
    }
    # 1 and 1.0 are one setting, and one run
    numbers = {key for key, setting in known.items() if setting.kind is float}
    return defaults | {
        key: float(value) if key in numbers and type(value) is int else value
        for key, value in fixed.items()
    }


def loss_class(name: str) -> Callable[..., Any]:
    """The class of a loss by any of its names, or by `file.py:Name`; a plain function comes as what makes it a loss.

    Raises InputError for an unknown name, with the nearest loss that there is.
    """
    if ":" in name:
        return from_file(name)
    known = our_name(name)
    if known not in _CLASSES:
        raise InputError(_unknown(name))
    return _class(known)


def our_name(name: str) -> str:
    """The name that this package has for a loss: `SupConLoss` is `scl`. A name that it does not know stays as it is."""
    if ":" in name:
        return name
    key = _key(name)
    ours = {_key(loss): loss for loss in LOSSES}
    if key in ours:
        return ours[key]
    return _names().get(key, name)


def _unknown(name: str) -> str:
    """What to say of a name that is none of ours: a loss that is near, a name that looks alike, or all names."""
    near = {
        _key(other): f"the nearest is {loss!r}: {of.differs}"
        for loss in LOSSES
        for of in _class(loss).near
        for other in of.names
    }
    known = {_key(loss): loss for loss in LOSSES} | _names()
    key = _key(name)
    match = [key] if key in near else get_close_matches(key, known, n=1, cutoff=0.7)
    match = match or get_close_matches(key, near, n=1, cutoff=0.8)
    if match and match[0] in near:
        return f"no loss is named {name!r}; {near[match[0]]}"
    hint = f"did you mean {known[match[0]]!r}?" if match else f"known: {', '.join(LOSSES)}"
    return f"unknown loss {name!r}; {hint}; one of your own is named my_loss.py:Pull"


@cache
def _names() -> dict[str, str]:
    """The keys of all other names → ours. Imports every loss."""
    return {_key(alias): loss for loss in LOSSES for alias in _class(loss).aliases}


def _key(name: str) -> str:
    """A name without case, separators and a final "loss": `N-pair`, `n_pair` and `NPairLoss` are one."""
    letters = re.sub(r"[^\w+]|_", "", name.casefold())
    return letters.removesuffix("loss") or letters


def _class(name: str) -> type[Loss]:
    module = import_module(f"lossgauge.losses.{name}")
    return getattr(module, _CLASSES[name])  # type: ignore[no-any-return]

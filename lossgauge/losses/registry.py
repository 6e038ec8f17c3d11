"""The losses by name, and users' own losses by file: their names, their settings, and how they are created.

To add a loss: its file, its test, and its line in `_OTHERS`. Everything else is declared on its class. A class is imported
when it is first used, so the names alone do not need torch.
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

_PAPER = {
    "contrastive": "Contrastive",
    "triplet": "Triplet",
    "n_pair": "NPair",
    "info_nce": "InfoNCE",
    "arcface": "ArcFace",
    "scl": "SCL",
    "ccl": "CCL",
}
_OTHERS = {
    "nscl": "NSCL",
    "dcl": "DCL",
    "flat_nce": "FlatNCE",
    "relaxed": "Relaxed",
    "siglip": "SigLIP",
    "mnrl": "MNRL",
    "gist": "GIST",
    "cosent": "CoSENT",
    "matryoshka": "Matryoshka",
    "mined": "Mined",
    "multi_similarity": "MultiSimilarity",
    "circle": "Circle",
    "proxy_anchor": "ProxyAnchor",
    "subcenter_arcface": "SubcenterArcFace",
    "soft_triple": "SoftTriple",
    "smooth_ap": "SmoothAP",
    "swap": "Swap",
}
_CLASSES = _PAPER | _OTHERS
"""Name (also the name of its file) → class."""

LOSSES = tuple(_PAPER)
"""The paper's seven: what a study takes if it names no losses."""

ALL_LOSSES = tuple(_CLASSES)

GROUPS = {
    "paper": "The seven of the paper",
    "related": "Of the papers beside it",
    "other": "Other losses",
    "experiment": "To compare losses with; not among all",
}
"""`Loss.group` → its title."""

LOSS_SETTINGS = {
    "matryoshka": ("of",),
    "mined": ("of",),
    "swap": ("weight_of", "direction_of"),
}
"""The settings of a loss that hold other losses, in the order in which they are shown."""


def load_loss(name: str, **settings: Any) -> torch.nn.Module:
    """The loss with this name, or from a file (`my_loss.py:Pull`), created with `settings`.

    Settings are the constructor's keywords, such as `margin`, `temperature`, `scale`, `center_weight`,
    `reduction`; `class_count` and `embedding_size` for losses with one row for each class. `Pull` may be
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
        # a user's constructor may raise anything; the error is shown, not hidden
        raise InputError(f"{name!r} cannot be created: {type(error).__name__}: {error}") from error
    from torch import nn

    if isinstance(loss, nn.Module):
        return loss
    from lossgauge.losses.function_loss import FunctionLoss

    return FunctionLoss(loss)


def loss_maker(
    name: str, fixed: Mapping[str, Any], *, class_count: int, embedding_size: int
) -> Callable[[], Any]:
    """Creates the loss with its `fixed` settings, and with the number of classes and the width if it needs them."""
    sizes = {"class_count": class_count, "embedding_size": embedding_size}
    taken = {key: sizes[key] for key, known in settings_of(name).items() if known.from_data}
    return lambda: load_loss(name, **{**taken, **fixed})


def losses_for_labels() -> tuple[str, ...]:
    """The losses to train with that take embeddings and labels: not those for queries and documents only, and no experiments. Imports every loss."""
    kinds = {name: _class(name) for name in ALL_LOSSES}
    return tuple(n for n, kind in kinds.items() if kind.square_form and kind.group != "experiment")


def settings_of(name: str) -> Mapping[str, Setting]:
    """The settings that a loss accepts. A user's file is run as code."""
    return declared(loss_class(name))


def drawn_terms(name: str) -> str:
    """The term that the sampler `drawn` draws for each anchor of a loss: `pair` or `triplet`.

    Raises InputError for a loss that is not defined for single terms.
    """
    terms: str | None = getattr(loss_class(name), "drawn_terms", None)
    if terms is None:
        able = [loss for loss in ALL_LOSSES if _class(loss).drawn_terms is not None]
        raise InputError(
            f"the sampler drawn gives one pair or triplet for each anchor, and {name} needs a whole batch; "
            f"use {' or '.join(able)}, or another sampler"
        )
    return terms


def check_form(name: str, *, of_pairs: bool) -> None:
    """InputError if a loss has no form for queries and documents (`of_pairs`), or none for embeddings and labels."""
    form = "pair_form" if of_pairs else "square_form"
    if not getattr(loss_class(name), form, not of_pairs):
        able = [loss for loss in ALL_LOSSES if getattr(_class(loss), form)]
        what = "queries and documents" if of_pairs else "embeddings and labels"
        raise InputError(
            f"the loss {name!r} has no form for {what}; those that have one: {', '.join(able)}"
        )


def all_settings(name: str, fixed: Mapping[str, Any]) -> dict[str, Any]:
    """The `fixed` settings of a loss and the defaults of the others, as values that JSON can represent."""
    known = settings_of(name)
    # JSON has no infinity: an infinite default is stored by its name
    defaults = {
        key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in ((key, setting.default) for key, setting in known.items())
        if isinstance(value, str | int | float)
    }
    # 1 and 1.0 are the same setting, and the same run
    numbers = {key for key, setting in known.items() if setting.kind is float}
    inner = LOSS_SETTINGS.get(name, ())
    return defaults | {
        key: float(value)
        if key in numbers and type(value) is int
        # the same for two texts of one loss
        else check(key, value)
        if key in inner and (check := known[key].check) is not None
        else value
        for key, value in fixed.items()
    }


def loss_class(name: str) -> Callable[..., Any]:
    """The class of a loss by any of its names, or by `file.py:Name`; a plain function is wrapped as a loss.

    Raises InputError for an unknown name, with the nearest known loss.
    """
    if ":" in name:
        return from_file(name)
    known = our_name(name)
    if known not in _CLASSES:
        raise InputError(_unknown(name))
    return _class(known)


def our_name(name: str) -> str:
    """The name of a loss in this package: `SupConLoss` is `scl`. An unknown name stays unchanged."""
    if ":" in name:
        return name
    key = _key(name)
    ours = {_key(loss): loss for loss in ALL_LOSSES}
    if key in ours:
        return ours[key]
    return _names().get(key, name)


def _unknown(name: str) -> str:
    """The error text for an unknown name: a similar loss, a similar name, or all names."""
    near = {
        _key(other): f"the nearest is {loss!r}: {relation.differs}"
        for loss in ALL_LOSSES
        for relation in _class(loss).near
        for other in relation.names
    }
    known = {_key(loss): loss for loss in ALL_LOSSES} | _names()
    key = _key(name)
    match = [key] if key in near else get_close_matches(key, known, n=1, cutoff=0.7)
    match = match or get_close_matches(key, near, n=1, cutoff=0.8)
    if match and match[0] in near:
        return f"no loss is named {name!r}; {near[match[0]]}"
    hint = f"did you mean {known[match[0]]!r}?" if match else f"known: {', '.join(ALL_LOSSES)}"
    return f"unknown loss {name!r} ({hint}); for your own loss give my_loss.py:Pull"


@cache
def _names() -> dict[str, str]:
    """The keys of all other names → our names. Imports every loss."""
    return {_key(alias): loss for loss in ALL_LOSSES for alias in _class(loss).aliases}


def _key(name: str) -> str:
    """A name without case, separators and a final "loss": `N-pair`, `n_pair` and `NPairLoss` are the same."""
    letters = re.sub(r"[^\w+]|_", "", name.casefold())
    return letters.removesuffix("loss") or letters


def _class(name: str) -> type[Loss]:
    module = import_module(f"lossgauge.losses.{name}")
    return getattr(module, _CLASSES[name])  # type: ignore[no-any-return]

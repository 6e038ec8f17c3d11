"""The seven losses by name, and a user's own by file.

To add one: its file, its line here, its test, its line in the changelog.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from lossgauge.errors import InputError, nearest
from lossgauge.losses.arcface import ArcFace
from lossgauge.losses.base import Loss
from lossgauge.losses.ccl import CCL
from lossgauge.losses.contrastive import Contrastive
from lossgauge.losses.info_nce import InfoNCE
from lossgauge.losses.n_pair import NPair
from lossgauge.losses.scl import SCL
from lossgauge.losses.triplet import Triplet
from lossgauge.user_file import import_file

_BY_NAME: dict[str, type[Loss]] = {
    "contrastive": Contrastive,
    "triplet": Triplet,
    "n_pair": NPair,
    "info_nce": InfoNCE,
    "arcface": ArcFace,
    "scl": SCL,
    "ccl": CCL,
}
LOSSES = tuple(_BY_NAME)


def load_loss(name: str, **settings: Any) -> nn.Module:
    """The loss of that name, or of a file: `my_loss.py:Pull`, called with `settings`.

    Settings are the constructor's keywords, such as `margin`, `temperature`, `scale`, `center_weight`,
    `reduction`; `class_count` and `embedding_size` for losses with a row a class. A file's `Pull` may be
    an `nn.Module` class or a plain function `(embeddings, labels) -> scalar`. A file is run as code.
    Raises InputError for an unknown name or setting.
    """
    made = loss_class(name)
    accepted = inspect.signature(made).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
    for key in settings:
        if key not in accepted and not open_ended:
            raise InputError(f"the loss {name!r} has no setting {key!r}{nearest(key, accepted)}")
    for key, parameter in accepted.items():
        if (
            parameter.default is parameter.empty
            and parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
            and key not in settings
        ):
            raise InputError(
                f"the loss {name!r} needs the setting {key!r}, as in load_loss({name!r}, {key}=...)"
            )
    settings = {
        key: _number(key, value)
        if key in accepted and accepted[key].annotation in ("float", float)
        else value
        for key, value in settings.items()
    }
    try:
        loss = made(**settings)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        if name in _BY_NAME:
            raise
        # a user's own constructor may raise anything; it is named, not swallowed
        raise InputError(f"{name!r} cannot be made: {type(error).__name__}: {error}") from error
    return loss if isinstance(loss, nn.Module) else FunctionLoss(loss)


def loss_class(name: str) -> Callable[..., Any]:
    """The class of a loss by its name or by `file.py:Name`; a plain function comes as a class without settings."""
    if ":" in name:
        return _from_file(name)
    if name not in _BY_NAME:
        raise InputError(
            f"unknown loss {name!r}{nearest(name, LOSSES)}; one of your own is named my_loss.py:Pull"
        )
    return _BY_NAME[name]


class FunctionLoss(nn.Module):
    """A plain function `(embeddings, labels) -> scalar` as a loss."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, embeddings: Any, labels: Any) -> Any:
        return self.function(embeddings, labels)


def _number(name: str, value: Any) -> float:
    """`value` as a float: YAML reads 1e-1 as text."""
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be a number, got {value!r}") from None


def _from_file(name: str) -> Callable[..., Any]:
    path, _, attribute = name.rpartition(":")
    file = Path(path)
    if not os.path.isfile(file):  # false for a name that is too long, too
        raise InputError(f"a loss of your own is named file.py:Name; there is no file {path!r}")
    module = import_file(file, shown=path)
    made = getattr(module, attribute, None)
    if not callable(made):
        known = [
            key
            for key, value in vars(module).items()
            if callable(value) and not key.startswith("_")
        ]
        raise InputError(f"{path!r} has no loss {attribute!r}{nearest(attribute, known)}")
    if inspect.isclass(made):
        return made
    return lambda: FunctionLoss(made)

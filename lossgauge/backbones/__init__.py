"""Frozen networks by name, through transformers, and a user's own by file."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from lossgauge.backbones.checkpoint import VIT_B32
from lossgauge.backbones.efficientnet_lite0 import EfficientNetLite0
from lossgauge.backbones.hugging_face import HuggingFace
from lossgauge.backbones.own_file import from_file
from lossgauge.backbones.pixels import Pixels
from lossgauge.errors import InputError, nearest
from lossgauge.types import Backbone

_BY_NAME: dict[str, Callable[..., Backbone]] = {
    "efficientnet-lite0": EfficientNetLite0,
    "pixels": Pixels,
    **{name: functools.partial(HuggingFace, name) for name in VIT_B32},
}
BACKBONES = tuple(_BY_NAME)


def load_backbone(name: str, *, download: bool = False, **settings: Any) -> Backbone:
    """The backbone of that name, made with `settings`; `download` lets one fetch its weights that can.

    `name` is one of `BACKBONES`; `hf:MODEL`, a folder or a name on the hub that transformers can read; or
    `my_backbone.py:Model`, a class or function of a file, which is run as code. Raises InputError for an unknown
    name or setting, MissingExtra without a library or package of weights, DataError for weights that are not there.
    """
    made = _maker(name)
    accepted = inspect.signature(made).parameters
    if download and "download" in accepted:
        settings["download"] = True
    open_ended = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
    for key in settings:
        if key not in accepted and not open_ended:
            if not accepted:
                raise InputError(f"the backbone {name!r} has no settings, got {key!r}")
            raise InputError(
                f"the backbone {name!r} has no setting {key!r}{nearest(key, accepted)}"
            )
    for key, parameter in accepted.items():
        required = parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        )
        if required and key not in settings:
            raise InputError(
                f"the backbone {name!r} needs the setting {key!r}, as in load_backbone({name!r}, {key}=...)"
            )
    return made(**settings)


def _maker(name: str) -> Callable[..., Backbone]:
    if name == "hf:":
        raise InputError(
            "hf: needs a model: hf:FOLDER, or a name on the hub such as hf:facebook/dinov2-small"
        )
    if name.startswith("hf:"):
        return functools.partial(HuggingFace, name.removeprefix("hf:"))
    if ":" in name:
        return from_file(name)
    if name not in _BY_NAME:
        raise InputError(
            f"unknown backbone {name!r}{nearest(name, BACKBONES)}; others are named hf:MODEL or my_backbone.py:Model"
        )
    return _BY_NAME[name]

"""Frozen networks: by name, through transformers, or from a user's own file.

To add one: a file with a class that follows `lossgauge.types.Backbone`, a line here, a test and a line in the
changelog. The keyword arguments of its constructor are its settings; they are declared nowhere else.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

from lossgauge.backbones.checkpoint import VIT_B32
from lossgauge.backbones.efficientnet_lite0 import EfficientNetLite0
from lossgauge.backbones.hugging_face import HuggingFace
from lossgauge.backbones.own_file import from_file
from lossgauge.backbones.pixels import Pixels
from lossgauge.backbones.sentence_model import MINILM, SentenceModel
from lossgauge.backbones.transformers_model import from_transformers
from lossgauge.errors import InputError, nearest
from lossgauge.settings import check_settings, settings_of
from lossgauge.types import Backbone

_BY_NAME: dict[str, Callable[..., Backbone]] = {
    "efficientnet-lite0": EfficientNetLite0,
    "pixels": Pixels,
    **{name: functools.partial(HuggingFace, name) for name in VIT_B32},
    MINILM: functools.partial(SentenceModel, MINILM),
}
BACKBONES = tuple(_BY_NAME)

HUB = "hf:"
"""The prefix of the names of transformers models."""


def load_backbone(name: str, *, download: bool = False, **settings: Any) -> Backbone:
    """The backbone with this name and these settings; with `download` it may fetch its weights.

    `name` is one of `BACKBONES`; or `hf:MODEL`, a folder or a name on the hub that transformers can read; or
    `my_backbone.py:Model`, a class or function in a file, which is run as code. Raises InputError for an unknown
    name or setting, MissingExtra if a library or a package of weights is not installed, DataError for missing weights.
    """
    make = backbone_class(name)
    if download and "download" in settings_of(make).defaults:
        settings["download"] = True
    check_settings(
        settings,
        make,
        what=f"the backbone {name!r}",
        example=f"load_backbone({name!r}, {{setting}}=...)",
    )
    return make(**settings)


def backbone_class(name: str) -> Callable[..., Backbone]:
    """The class or function that creates the backbone with this name; `settings_of` lists its settings.

    Raises InputError, with the nearest name, for an unknown name.
    """
    if name == HUB:
        raise InputError(
            "hf: needs a model: hf:FOLDER, or a name on the hub such as hf:facebook/dinov2-small or hf:BAAI/bge-small-en-v1.5"
        )
    if name.startswith(HUB):
        return functools.partial(from_transformers, name.removeprefix(HUB))
    if name in _BY_NAME:
        return _BY_NAME[name]
    path, colon, _ = name.rpartition(":")
    if colon and (path.endswith(".py") or os.path.exists(path)):
        return from_file(name)
    raise InputError(
        f"unknown backbone {name!r}{nearest(name.partition(':')[0] + colon, (*BACKBONES, HUB))}; "
        "for another model give hf:MODEL or my_backbone.py:Model"
    )

"""Frozen networks by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from lossgauge.backbones.efficientnet_lite0 import EfficientNetLite0
from lossgauge.backbones.pixels import Pixels
from lossgauge.errors import InputError, nearest
from lossgauge.types import Backbone

_BY_NAME: dict[str, Callable[..., Backbone]] = {
    "efficientnet-lite0": EfficientNetLite0,
    "pixels": Pixels,
}
BACKBONES = tuple(_BY_NAME)


def load_backbone(name: str, **settings: Any) -> Backbone:
    """The backbone of that name. Raises InputError for an unknown name or setting, MissingExtra without weights."""
    if name not in _BY_NAME:
        raise InputError(f"unknown backbone {name!r}{nearest(name, BACKBONES)}")
    made = _BY_NAME[name]
    accepted = inspect.signature(made).parameters
    for key in settings:
        if key not in accepted:
            hint = nearest(key, accepted) if accepted else ": it has none"
            raise InputError(f"the backbone {name!r} has no setting {key!r}{hint}")
    return made(**settings)

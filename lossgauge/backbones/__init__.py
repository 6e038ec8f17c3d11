"""Frozen networks by name."""

from __future__ import annotations

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
    """The backbone of that name. Raises InputError for an unknown one, MissingExtra without its weights."""
    if name not in _BY_NAME:
        raise InputError(f"unknown backbone {name!r}{nearest(name, BACKBONES)}")
    return _BY_NAME[name](**settings)

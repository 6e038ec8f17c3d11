"""A user's own backbone in a file: `my_backbone.py:Model`."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lossgauge.errors import InputError, nearest
from lossgauge.types import IMAGES, Item
from lossgauge.user_file import import_file


class OwnBackbone:
    """A user's object with `prepare` and `extract`. Their results are checked.

    `name` is the name of the object, or else that of the file and the class. `identity` contains the SHA-256 of the
    file, the settings, and the `identity` of the object, which must name everything else that the features depend on,
    such as the hash of the weights. An object for texts has `takes = "texts"`.
    """

    def __init__(self, made: Any, *, name: str, identity: dict[str, str]) -> None:
        for method in ("prepare", "extract"):
            if not callable(getattr(made, method, None)):
                raise InputError(
                    f"{name} gives a {type(made).__name__} without {method}(): a backbone needs prepare(image) "
                    "and extract(batch)"
                )
        own = getattr(made, "identity", {})
        if not isinstance(own, dict):
            raise InputError(f"identity of {name} must be a dict of text, got {type(own).__name__}")
        if isinstance(made, nn.Module):
            made.eval()
        self._made = made
        self.name = str(getattr(made, "name", name))
        self.takes = str(getattr(made, "takes", IMAGES))
        self.identity = identity | {str(key): str(value) for key, value in own.items()}

    def prepare(self, item: Item) -> Tensor:
        """The image or `Text` as prepared by the object. Raises InputError if it is not a tensor."""
        prepared = self._made.prepare(item)
        if not isinstance(prepared, Tensor):
            raise InputError(
                f"prepare of {self.name} must return a tensor, got {type(prepared).__name__}"
            )
        return prepared

    @torch.inference_mode()
    def extract(self, batch: Tensor) -> Float[Tensor, "rows width"]:
        """The features from the object, on the CPU. Raises InputError unless they are float32 with one row per image."""
        rows = self._made.extract(batch)
        if isinstance(rows, Tensor):
            if rows.dtype == torch.float32 and rows.ndim == 2 and len(rows) == len(batch):
                return rows.cpu()
            got = f"{str(rows.dtype).removeprefix('torch.')} of shape {tuple(rows.shape)}"
        else:
            got = type(rows).__name__
        raise InputError(
            f"extract of {self.name} must return float32 features, one row per image: for {len(batch)} images "
            f"it returned {got}"
        )


def from_file(name: str) -> Callable[..., OwnBackbone]:
    """A function that creates the backbone `file.py:Name`, with the signature of that class or function. Runs the file.

    Raises InputError if the file or the name does not exist, or if the file fails on import.
    """
    path, _, attribute = name.rpartition(":")
    file = Path(path)
    if not os.path.isfile(file):  # also false for a name that is too long
        raise InputError(
            f"the name of your own backbone must be file.py:Name, but there is no file {path!r}"
        )
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    made = _attribute(file, attribute)
    short = f"{file.name}:{attribute}"

    @functools.wraps(made, updated=())
    def build(**settings: Any) -> OwnBackbone:
        try:
            backbone = made(**settings)
        except InputError:
            raise
        # a user's constructor may raise any error, and the message contains it
        except (Exception, SystemExit) as error:
            raise InputError(
                f"{name!r} cannot be created: {type(error).__name__}: {error}"
            ) from error
        identity = {"file": digest, "settings": json.dumps(settings, sort_keys=True, default=str)}
        return OwnBackbone(backbone, name=short, identity=identity)

    return build


def _attribute(file: Path, name: str) -> Callable[..., Any]:
    module = import_file(file, shown=str(file))
    made: Callable[..., Any] | None = getattr(module, name, None)
    if not callable(made):
        known = [key for key, value in vars(module).items() if inspect.isclass(value)]
        known += [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise InputError(f"{str(file)!r} has no class or function {name!r}{nearest(name, known)}")
    return made

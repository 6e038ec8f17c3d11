"""A backbone of one's own by its file: `my_backbone.py:Model`."""

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
from PIL import Image
from torch import Tensor, nn

from lossgauge.errors import InputError, nearest
from lossgauge.user_file import import_file


class OwnBackbone:
    """A user's object with `prepare` and `extract`, held to what a backbone must do.

    Its `name` is the object's, else the file's and the class's. Its identity holds the file's SHA-256, the settings,
    and the object's own `identity`: name there what else the features depend on, such as the hash of weights.
    """

    def __init__(self, made: Any, *, name: str, identity: dict[str, str]) -> None:
        for method in ("prepare", "extract"):
            if not callable(getattr(made, method, None)):
                raise InputError(
                    f"{name} gives a {type(made).__name__} without {method}(): a backbone has prepare(image) "
                    "and extract(batch)"
                )
        own = getattr(made, "identity", {})
        if not isinstance(own, dict):
            raise InputError(
                f"identity of {name} must be a dict of words, got {type(own).__name__}"
            )
        if isinstance(made, nn.Module):
            made.eval()
        self._made = made
        self.name = str(getattr(made, "name", name))
        self.identity = identity | {str(key): str(value) for key, value in own.items()}

    def prepare(self, image: Image.Image) -> Tensor:
        """What the object makes of an image. Raises InputError where that is no tensor."""
        found = self._made.prepare(image)
        if not isinstance(found, Tensor):
            raise InputError(
                f"prepare of {self.name} must give a tensor, got {type(found).__name__}"
            )
        return found

    @torch.inference_mode()
    def extract(self, batch: Tensor) -> Float[Tensor, "rows width"]:
        """The object's features, on the CPU. Raises InputError where they are not float32 with one row an image."""
        found = self._made.extract(batch)
        if isinstance(found, Tensor):
            if found.dtype == torch.float32 and found.ndim == 2 and len(found) == len(batch):
                return found.cpu()
            got = f"{str(found.dtype).removeprefix('torch.')} of shape {tuple(found.shape)}"
        else:
            got = type(found).__name__
        raise InputError(
            f"extract of {self.name} must give float32 features, one row an image: for {len(batch)} images "
            f"it gave {got}"
        )


def from_file(name: str) -> Callable[..., OwnBackbone]:
    """What makes the backbone `file.py:Name`, with the signature of that class or function. The file is run as code.

    Raises InputError where there is no such file or name, or the file fails on import.
    """
    path, _, attribute = name.rpartition(":")
    file = Path(path)
    if not os.path.isfile(file):  # false for a name that is too long, too
        raise InputError(f"a backbone of your own is named file.py:Name; there is no file {path!r}")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    made = _attribute(file, attribute)
    short = f"{file.name}:{attribute}"

    @functools.wraps(made, updated=())
    def build(**settings: Any) -> OwnBackbone:
        try:
            backbone = made(**settings)
        except InputError:
            raise
        # a user's own constructor may raise anything; it is named, not swallowed
        except (Exception, SystemExit) as error:
            raise InputError(f"{name!r} cannot be made: {type(error).__name__}: {error}") from error
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

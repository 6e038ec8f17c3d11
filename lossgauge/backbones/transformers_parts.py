"""What backbones through transformers share: the library, a network from its folder, devices and precision."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from lossgauge.backbones.checkpoint import first_line
from lossgauge.errors import DataError, InputError, MissingExtra, nearest

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def dtype_of(name: str) -> torch.dtype:
    """The type of a network's numbers, from `fp32` or `bf16`; InputError for another."""
    if name not in _DTYPES:
        raise InputError(f"unknown dtype {name!r}{nearest(name, _DTYPES)}")
    return _DTYPES[name]


def transformers_library(model: str) -> ModuleType:
    """Transformers; MissingExtra, which names the backbone, if it is not installed."""
    try:
        return importlib.import_module("transformers")
    except ImportError:
        raise MissingExtra(
            f"the backbone {model!r} needs transformers: pip install 'lossgauge[hf]'"
        ) from None


def device_of(name: str) -> torch.device:
    """The device with this name; InputError for an unknown one, and for one that torch does not see."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"device must be cpu, cuda or cuda:N, got {name!r}") from None
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"device must be cpu, cuda or cuda:N, got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise InputError(f"there is no device {name!r}: torch sees {count} GPUs")
    return device


@contextmanager
def quiet() -> Iterator[None]:
    """Hides the warning about unused weights of the text tower, and the progress bar of reading a file."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def full_precision() -> Iterator[None]:
    """Computes without TF32, even if the process allows it: on a GPU, fp32 then has full precision."""
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "ieee"
    try:
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision


def load_network(
    made_by: Any, folder: Path, dtype: torch.dtype, *, may_lack: str | None = None, **settings: Any
) -> torch.nn.Module:
    """A frozen network of a class of transformers, from safetensors. Raises DataError for weights that lack a layer.

    Layers whose names begin with `may_lack` may be missing, because they are not used.
    """
    name = made_by.__name__
    try:
        network, report = made_by.from_pretrained(
            str(folder),
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            **settings,
        )
    except Exception as error:  # SafetensorError, OSError, RuntimeError, ValueError
        raise DataError(
            f"the weights in {folder} cannot be read into {name}: {first_line(error)}"
        ) from error
    # transformers initialises missing weights at random, and only warns
    missing = sorted(
        key for key in report["missing_keys"] if may_lack is None or not key.startswith(may_lack)
    )
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"the weights in {folder} lack {missing[0]}{more} of {name}")
    made: torch.nn.Module = network
    return made.eval().requires_grad_(False)

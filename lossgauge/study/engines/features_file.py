"""Features as a study's workers get them: one file a dataset, which all that read it map into memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lossgauge.errors import StudyError
from lossgauge.files import CHECKSUM, atomic_file, damaged
from lossgauge.results.writer import Store
from lossgauge.types import FeatureSet, PairRows

_TENSORS = ("features", "labels", "train", "test")
_GROUPS = "groups"
"""A tensor that only some datasets have."""
_PAIRS = "pairs."
"""Before the name of a tensor of queries and documents."""
_WORDS = ("dataset", "backbone", "protocol", "fingerprint")


def write_features_files(features: Mapping[str, FeatureSet], store: Store) -> dict[str, Path]:
    """Write the features of each dataset into the study's temporary folder, and return the files by dataset."""
    files: dict[str, Path] = {}
    for number, (dataset, of) in enumerate(features.items()):
        files[dataset] = (store.work / f"features-{number}.safetensors").absolute()
        write_features_file(of, files[dataset])
    return files


def write_features_file(features: FeatureSet, path: Path) -> None:
    """Write features for `read_features_file`. Raises StudyError where the disk does not take them."""
    words = {
        **{name: getattr(features, name) for name in _WORDS},
        "identity": json.dumps(dict(features.identity)),
    }
    tensors: dict[str, torch.Tensor] = {}
    for name in (*_TENSORS, _GROUPS):
        if (tensor := getattr(features, name)) is not None:
            # both sides may be the same rows (`toy:gaussians`); safetensors refuses tensors that share memory
            shared = any(tensor.data_ptr() == other.data_ptr() for other in tensors.values())
            tensors[name] = tensor.clone() if shared else tensor.contiguous()
    if features.pairs is not None:
        tensors |= {
            _PAIRS + name: of.clone(memory_format=torch.contiguous_format)
            for name, of in features.pairs._asdict().items()
        }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as temporary:
            save_file(tensors, temporary, {**words, CHECKSUM: _checksum(tensors, words)})
    except (OSError, SafetensorError) as error:
        raise StudyError(
            f"the features for the workers cannot be written ({error}); fix that and run the same command again"
        ) from None


def read_features_file(path: Path) -> FeatureSet:
    """What `write_features_file` wrote. The rows are mapped, not copied: workers of one machine share them.

    Every byte is verified, once a worker: 1 GB takes about a second. Raises CacheError where a byte has changed.
    """
    try:
        with safe_open(path, framework="pt") as file:
            words = file.metadata() or {}
            names = [*_TENSORS, *({_GROUPS} & set(file.keys()))]
            names += [_PAIRS + n for n in PairRows._fields if _PAIRS + n in file.keys()]  # noqa: SIM118
            tensors = {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        raise damaged(path, str(error)) from None
    checksum = words.pop(CHECKSUM, None)
    if checksum != _checksum(tensors, words):
        raise damaged(path, "its content does not match its checksum")
    pairs = {n: tensors.pop(_PAIRS + n) for n in PairRows._fields if _PAIRS + n in tensors}
    return FeatureSet(
        **tensors,
        pairs=PairRows(**pairs) if pairs else None,
        **{name: words[name] for name in _WORDS},
        identity=json.loads(words["identity"]),
    )


def _checksum(tensors: Mapping[str, Tensor], words: Mapping[str, str]) -> str:
    """SHA-256 over the words, and each tensor's type, shape and bytes."""
    kinds = {name: [str(t.dtype), list(t.shape)] for name, t in tensors.items()}
    digest = hashlib.sha256(json.dumps([dict(words), kinds], sort_keys=True).encode())
    for name in tensors:
        digest.update(tensors[name].view(torch.uint8).numpy().data)
    return digest.hexdigest()

"""Features as a study's workers get them: one file a dataset, mapped into memory by all that read it."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from lossgauge.errors import CacheError, StudyError
from lossgauge.study.disk import whole_file
from lossgauge.types import FeatureSet

_TENSORS = ("features", "labels", "train", "test")
_WORDS = ("dataset", "backbone", "protocol", "fingerprint")


def hand_over(features: FeatureSet, path: Path) -> None:
    """Write features for `take_over`. Raises StudyError where the disk refuses."""
    told = {name: getattr(features, name) for name in _WORDS}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as temporary:
            save_file(
                {name: getattr(features, name).contiguous() for name in _TENSORS},
                temporary,
                {**told, "identity": json.dumps(dict(features.identity))},
            )
    except (OSError, SafetensorError) as error:
        raise StudyError(f"features for the workers cannot be written: {error}") from None


def take_over(path: Path) -> FeatureSet:
    """What `hand_over` wrote. The rows are mapped, not copied: workers of one machine share them."""
    try:
        with safe_open(path, framework="pt") as file:
            told = file.metadata()
            tensors = {name: file.get_tensor(name) for name in _TENSORS}
    except (OSError, SafetensorError) as error:
        raise CacheError(f"{path} cannot be read: {error}") from None
    return FeatureSet(
        **tensors, **{name: told[name] for name in _WORDS}, identity=json.loads(told["identity"])
    )

"""The files of a transformers checkpoint and their hashes. No code of a checkpoint is run."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, TypeAdapter, ValidationError

from lossgauge.errors import DataError, InputError
from lossgauge.user_folders import cache_folder

VIT_B32 = {
    "clip-vit-b32": "openai/clip-vit-base-patch32",
    "vit-b32-in21k": "google/vit-base-patch32-224-in21k",
}
"""The two public checkpoints that the paper's "ViT-B/32" may be."""

_CONFIG = "config.json"
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")

_OF_TEXTS = (
    "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json", "[0-9]_*/config.json",
    "tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model",
)  # fmt: skip
"""The tokenizer of a model for texts, and what sentence-transformers saved with it."""


class _Index(BaseModel):
    """model.safetensors.index.json."""

    weight_map: dict[str, str]


_CONFIGS, _INDEXES = TypeAdapter(dict[str, Any]), TypeAdapter(_Index)


class Checkpoint(NamedTuple):
    """A folder with config.json, safetensors weights and the settings of an image processor."""

    folder: Path
    model: str
    """Its name on the hub, or the name of its folder."""
    found: str
    """The place of the files: `folder`, or the hub with the commit."""
    kind: str
    """`model_type` of the config."""
    weights: str
    """SHA-256 over the concatenated files of weights."""
    config: str
    """SHA-256 of config.json."""


def find_checkpoint(
    model: str, *, kinds: Iterable[str], download: bool, revision: str
) -> Checkpoint:
    """The checkpoint with this name: a folder, else a folder in LOSSGAUGE_WEIGHTS, else in the hub's local cache.

    A key of `VIT_B32` is searched for only in the last two. The network is used only with `download`. Raises DataError
    for a missing or damaged checkpoint, InputError for a `model_type` not in `kinds`.
    """
    folder, name, found = find_folder(model, download=download, revision=revision)
    config = read_config(folder)
    kind = str(config["model_type"])
    if kind not in (known := tuple(kinds)):
        raise InputError(
            f"{folder} holds a model of type {kind!r}, which is not supported (known: {', '.join(known)}): "
            "write your own file, my_backbone.py:Model"
        )
    if model in VIT_B32:
        _check_vit_b32(model, config, folder)
    weights, digest = digests(folder, config)
    if not has_image_processor(folder):
        raise DataError(
            f"{folder} has no image processor: save {_PROCESSORS[0]} beside the weights"
        )
    return Checkpoint(folder, name, found, kind, weights, digest)


def has_image_processor(folder: Path) -> bool:
    """Whether the settings of an image processor are in a folder."""
    return any((folder / settings).is_file() for settings in _PROCESSORS)


def digests(folder: Path, config: dict[str, Any]) -> tuple[str, str]:
    """SHA-256 over the concatenated files of weights that transformers will read, and of config.json."""
    return digest_of(*_weight_files(folder, config)), digest_of(folder / _CONFIG)


def find_folder(model: str, *, download: bool, revision: str) -> tuple[Path, str, str]:
    """The folder of a model, its name on the hub or that of the folder, and the place where it was found, in words."""
    folder = Path(os.path.expanduser(model))  # unchanged without a home
    if model not in VIT_B32 and folder.is_dir():
        return folder, folder.resolve().name, "folder"
    root = os.environ.get("LOSSGAUGE_WEIGHTS")
    if root is not None:
        folder = Path(os.path.expanduser(root)) / model
        if folder.is_dir():
            return folder, folder.resolve().name, "folder of LOSSGAUGE_WEIGHTS"
    repository = VIT_B32.get(model, model)
    folder = _snapshot(model, repository, download=download, revision=revision, root=root)
    return folder, repository, f"hub, commit {folder.name}"


def _snapshot(
    model: str, repository: str, *, download: bool, revision: str, root: str | None
) -> Path:
    """The hub's files of this revision in the local cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    # without a home, the hub's client keeps the `~`, and fails
    cache = HF_HUB_CACHE
    if cache.startswith("~"):
        cache = str(cache_folder() / "huggingface")
    try:
        return Path(
            snapshot_download(
                repository,
                cache_dir=cache,
                revision=revision,
                local_files_only=not download,
                allow_patterns=[_CONFIG, *_PROCESSORS, _INDEX, "model*.safetensors", *_OF_TEXTS],
            )
        )
    except HFValidationError:
        raise DataError(f"there is no folder {model!r}, and it is not a name on the hub") from None
    except Exception as error:  # the hub's client may raise anything
        if download or not isinstance(error, LocalEntryNotFoundError):
            raise DataError(f"{repository} cannot be fetched: {first_line(error)}") from error
    places = [] if model in VIT_B32 else [f"the folder {model!r}"]
    places += [] if root is None else [f"LOSSGAUGE_WEIGHTS ({root})"]
    places.append(f"the hub's cache ({cache})")
    raise DataError(
        f"{repository} at revision {revision!r} is missing or incomplete in {' and in '.join(places)}: "
        f"fetch it with --download (download=True), or put its files into a folder {model!r} in LOSSGAUGE_WEIGHTS"
    )


def read_config(folder: Path) -> dict[str, Any]:
    """The config as a dict, with a `model_type`."""
    path = folder / _CONFIG
    if not path.is_file():
        raise DataError(f"{folder} is not a model of transformers: it has no {_CONFIG}")
    try:
        config = _CONFIGS.validate_json(path.read_bytes())
    except (ValidationError, OSError) as error:
        raise DataError(f"{path} is damaged: {_first(error)}") from None
    if not isinstance(config.get("model_type"), str):
        raise DataError(f"{path} is not a config of transformers: it has no model_type")
    return config


def _check_vit_b32(name: str, config: dict[str, Any], folder: Path) -> None:
    """InputError if the folder with this name contains another network: records would contain the wrong name."""
    asked, kind = ("clip" if name == "clip-vit-b32" else "vit"), config["model_type"]
    # the defaults of transformers
    of_images = config.get("vision_config", config)
    if not isinstance(of_images, dict):
        raise DataError(f"{folder / _CONFIG} is damaged: its vision_config is not a mapping")
    patch = of_images.get("patch_size", 32 if asked == "clip" else 16)
    if not kind.startswith(asked) or patch != 32:
        raise InputError(
            f"{name} is a {asked!r} with patches of 32 pixels, but {folder} holds a {kind!r} with {patch}: "
            f"name it hf:{folder}"
        )


def _weight_files(folder: Path, config: dict[str, Any]) -> list[Path]:
    """The files of weights that transformers will read."""
    if "transformers_weights" in config:
        raise InputError(
            f"{folder / _CONFIG} names other weight files: remove transformers_weights from it"
        )
    if (folder / _WEIGHTS).is_file():
        return [folder / _WEIGHTS]
    index = folder / _INDEX
    if not index.is_file():
        raise DataError(f"{folder} has no {_WEIGHTS}: {_what_to_do(folder)}")
    try:
        shards = sorted(set(_INDEXES.validate_json(index.read_bytes()).weight_map.values()))
    except (ValidationError, OSError) as error:
        raise DataError(f"{index} is damaged: {_first(error)}") from None
    for shard in shards:
        if Path(shard).name != shard or "\0" in shard:
            raise DataError(f"{index} names {shard!r}, which is not a file beside it")
        if not (folder / shard).is_file():
            raise DataError(f"{index} names {shard}, which is missing")
    return [folder / shard for shard in shards]


def _what_to_do(folder: Path) -> str:
    """How to get readable weights; the advice depends on the files that exist."""
    others = sorted(
        path.name for path in folder.glob("*.safetensors") if not path.name.startswith(".")
    )
    if others:
        return f"it has {others[0]}, but transformers reads only {_WEIGHTS}: rename it, or copy it to that name"
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt*")) or any(folder.glob("*.ckpt*")):
        return "its weights are pickles, which are not read: docs/backbones.md shows how to convert them"
    return "save the model with save_pretrained, or put its weights there"


def _first(error: Exception) -> str:
    """The first problem, in one line."""
    if not isinstance(error, ValidationError):
        return first_line(error)
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))} {first['msg']}".strip()


def first_line(error: Exception) -> str:
    """An error's type and the first line of its text."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def digest_of(*paths: Path) -> str:
    """SHA-256 over the concatenated files."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()

"""Features of a dataset, extracted once: a cache that is verified each time it is used.

    <cache>/<key>/features.safetensors   one row an image, in the dataset's order
    <cache>/<key>/manifest.json          what they depend on, and the file's SHA-256

The key is a hash over the images, the backbone's weights and its preprocessing. The split is no part of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from lossgauge.data.splits import fingerprint
from lossgauge.errors import CacheError, DataError
from lossgauge.types import Backbone, FeatureSet, ImageSet

BATCH = 64
"""Images that go through the network at a time: few enough for its activations to stay near the cores."""


def features(
    images: ImageSet,
    backbone: Backbone,
    *,
    cache: Path | None = None,
    refresh: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> FeatureSet:
    """Features of all images, from the cache where it has them, else extracted and put there.

    `cache` is LOSSGAUGE_CACHE or ~/.cache/lossgauge if not given. `progress` gets (done, total) while
    images are extracted. Raises CacheError where the cached bytes are not those that were written, and
    DataError for an image that cannot be read. Memory holds all features, and one batch of images.
    """
    identity = {
        "dataset": images.name,
        "images": images.digest,
        "backbone": backbone.name,
        **backbone.identity,
        "pillow": version("pillow"),
        "torch": version("torch"),
    }
    folder = (cache or default_cache()) / _key(identity)
    if refresh or not folder.is_dir():
        rows = torch.cat(list(extract_rows(images, backbone, progress)))
        _publish(folder, rows, identity, replace=refresh)
    rows = _read(folder, identity, count=len(images.ids))
    return FeatureSet(
        dataset=images.name,
        backbone=backbone.name,
        features=rows,
        labels=torch.from_numpy(images.labels),
        train=torch.from_numpy(images.train),
        test=torch.from_numpy(images.test),
        protocol=images.protocol,
        fingerprint=fingerprint(images.ids, images.labels, images.train, images.test),
        identity=identity,
    )


def centered(of: FeatureSet) -> FeatureSet:
    """The same features less the mean of the training rows.

    Features after a ReLU share one large direction. Through a linear head it puts all embeddings into a
    narrow cone, where training first has to undo it; variance then grows before it can be seen to fall.
    """
    mean = of.features[of.train].double().mean(dim=0).to(of.features.dtype)
    return of._replace(
        features=of.features - mean, identity={**of.identity, "centered": "training mean"}
    )


def default_cache() -> Path:
    """Where features are kept: LOSSGAUGE_CACHE, or ~/.cache/lossgauge."""
    named = os.environ.get("LOSSGAUGE_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "lossgauge"


def _key(identity: dict[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return f"{identity['dataset']}-{identity['backbone']}-{digest[:16]}"


def extract_rows(
    images: ImageSet, backbone: Backbone, progress: Callable[[int, int], None] | None = None
) -> Iterator[Float[Tensor, "rows width"]]:
    """Features of all images, batch after batch; each is decoded while the network is at work on the one before."""
    total, first = len(images.ids), None
    with ThreadPoolExecutor(1) as pool:

        def prepare(start: int) -> list[Tensor]:
            return [
                backbone.prepare(images.read(row))
                for row in range(start, min(start + BATCH, total))
            ]

        ahead = pool.submit(prepare, 0)
        for start in range(0, total, BATCH):
            batch = ahead.result()
            if start + BATCH < total:
                ahead = pool.submit(prepare, start + BATCH)
            first = batch[0].shape if first is None else first
            for row, image in enumerate(batch, start):
                if image.shape != first:
                    raise DataError(
                        f"{backbone.name} needs images of one size, got {tuple(first)} and, for "
                        f"{images.ids[row]} of {images.name}, {tuple(image.shape)}"
                    )
            yield backbone.extract(torch.stack(batch)).clone()
            if progress is not None:
                progress(start + len(batch), total)


def _publish(
    folder: Path, rows: Float[Tensor, "rows width"], identity: dict[str, str], *, replace: bool
) -> None:
    """Make the cache entry appear whole. Where another process was sooner, its entry stays."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    except OSError as error:
        raise CacheError(
            f"the cache {folder.parent} cannot be written ({error}); name another in LOSSGAUGE_CACHE"
        ) from None
    old = new.with_name(f"{new.name}-old")
    try:
        content = save_tensors({"features": rows})
        (new / "features.safetensors").write_bytes(content)
        manifest = {
            "identity": identity,
            "sha256": hashlib.sha256(content).hexdigest(),
            "rows": len(rows),
        }
        text = json.dumps(manifest, sort_keys=True, indent=1)
        # the manifest vouches for the tensors, and its own last line for the manifest
        (new / "manifest.json").write_text(f"{text}\n{hashlib.sha256(text.encode()).hexdigest()}\n")
        if replace and folder.is_dir():
            folder.rename(old)
        new.rename(folder)
    except OSError as error:
        if not folder.is_dir():
            raise CacheError(f"{folder} cannot be written: {error}") from None
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _read(folder: Path, identity: dict[str, str], *, count: int) -> Float[Tensor, "rows width"]:
    path = folder / "manifest.json"
    try:
        text, _, digest = path.read_text().rstrip("\n").rpartition("\n")
        path = folder / "features.safetensors"
        content = path.read_bytes()
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(identity, path, str(error)) from None
    if hashlib.sha256(text.encode()).hexdigest() != digest:
        raise _damaged(identity, folder / "manifest.json", "its SHA-256 is another")
    manifest = json.loads(text)
    if hashlib.sha256(content).hexdigest() != manifest["sha256"]:
        raise _damaged(
            identity, folder / "features.safetensors", "its SHA-256 is not the manifest's"
        )
    if manifest["identity"] != identity or manifest["rows"] != count:
        raise _damaged(
            identity, folder / "manifest.json", "it tells of other images or another backbone"
        )
    return load_tensors(content)["features"]


def _damaged(identity: dict[str, str], path: Path, why: str) -> CacheError:
    return CacheError(
        f"{path} is damaged ({why}); delete the folder {path.parent}, or run "
        f"`lossgauge features {identity['dataset']} --backbone {identity['backbone']} --refresh`"
    )

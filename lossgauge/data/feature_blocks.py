"""Features of images from the cache, or extracted into it now, in blocks: memory holds one shard, for any number of images.

Apart from `features.py` and `cache.py`, whose code is a part of each run's id: it uses what they have for themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from lossgauge.data.cache import (
    _MANIFEST,
    _read_manifest,
    _read_shard,
    damaged,
    default_cache,
    drafting,
    key_of,
)
from lossgauge.data.features import _extract_into, identity_of
from lossgauge.errors import CacheError
from lossgauge.types import Backbone, ImageSet


class FeatureBlocks(NamedTuple):
    """The features of the images that could be read."""

    kept: Int[np.ndarray, " rows"]
    """The number of the image of each row, ascending."""
    width: int
    blocks: Callable[[], Iterator[Float[Tensor, "block width"]]]
    """Reads all rows in order, again at each call; each shard is verified when it is read."""


def feature_blocks(
    images: ImageSet,
    backbone: Backbone,
    *,
    cache: Path | None = None,
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FeatureBlocks:
    """As `features`, in blocks: it extracts what is not in the cache, and raises what `features` raises.

    A damaged shard raises CacheError when it is reached.
    """
    identity = identity_of(images, backbone)
    entry = (cache or default_cache()) / key_of(identity)
    if not entry.is_dir():
        with drafting(entry, refresh=False) as draft:
            if draft is not None:
                _extract_into(draft, images, backbone, jobs, progress)
                draft.publish(entry, identity)
    written_for, shards = _read_manifest(entry)
    if written_for != identity:
        raise damaged(entry / _MANIFEST, "it belongs to other images or another backbone")
    skipped = [row for shard in shards for row in shard.skipped]
    kept = np.setdiff1d(np.arange(len(images.ids)), skipped)
    with_rows = [shard for shard in shards if shard.rows]
    if sum(shard.rows for shard in with_rows) != len(kept) or not with_rows:
        raise damaged(entry / _MANIFEST, f"it has no row for some of the {len(kept)} images")
    width = _read_shard(entry / with_rows[0].file, with_rows[0]).shape[1]

    def blocks() -> Iterator[Tensor]:
        for shard in with_rows:
            rows = _read_shard(entry / shard.file, shard)
            if rows.shape[1] != width:
                raise CacheError(f"{entry / shard.file} is damaged: its rows have another width")
            yield rows

    return FeatureBlocks(kept, width, blocks)

"""Images without classes: every image in a folder, at any depth. Embeddings can be computed for them; a study needs classes."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path

import numpy as np
from PIL.Image import Image

from lossgauge.data.images import is_image, open_image
from lossgauge.data.inside import files_inside
from lossgauge.data.locations import is_hidden, regular
from lossgauge.errors import DataError
from lossgauge.types import ImageSet

PROTOCOL = "no split"


def load(path: Path) -> ImageSet:
    """The images of a folder in the order of their paths, which are their ids; every file is hashed here.

    All have the label 0, and all are on both sides of the split. Hidden files and folders are left out; nothing outside of the folder is read, even if
    a link points there. Raises DataError for a folder that cannot be read or has no image.
    """
    root = path.resolve()
    try:
        found = sorted(
            entry
            for entry in root.rglob("*")
            if not any(is_hidden(part) for part in entry.relative_to(root).parts)
            and is_image(entry)
        )
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    if not found:
        raise DataError(f"{path} contains no images")
    ids = tuple(entry.relative_to(root).as_posix() for entry in found)
    files = files_inside(root, ids, where=lambda row: str(path / ids[row]))
    every = np.arange(len(ids))
    return ImageSet(
        name=f"folder:{path.name or root.name}",
        ids=ids,
        labels=np.zeros(len(ids), np.int64),
        class_names={},
        train=every,
        test=every,
        protocol=PROTOCOL,
        source=f"{path} (images without classes)",
        digest=_digest(ids, files),
        read=partial(_read, files),
    )


def _digest(ids: tuple[str, ...], files: list[Path]) -> str:
    digest = hashlib.sha256()
    for name, path in zip(ids, files, strict=True):
        try:
            with regular(path).open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from None
        digest.update(json.dumps([name, content]).encode())
    return digest.hexdigest()


def _read(files: list[Path], row: int) -> Image:
    return open_image(files[row], str(files[row]))

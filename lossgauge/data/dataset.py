"""The interface of a named dataset: what each reader declares, and its three methods.

To add one: a module with a subclass of `Dataset`, its line in `data/__init__.py`, its test, its row in
`docs/datasets.md`, its line in the changelog.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, NamedTuple

from lossgauge.types import ImageSet


class Counts(NamedTuple):
    """How many images and classes a complete copy of a dataset has."""

    train: int
    test: int
    classes: int


class Outline(NamedTuple):
    """What is known about a dataset without reading its images."""

    place: Path
    layout: str
    train: int
    test: int
    protocol: str


class HubCopy(NamedTuple):
    """A copy of a dataset on the Hugging Face hub, at a pinned revision."""

    repository: str
    revision: str
    splits: tuple[str, str] = ("train", "test")
    """The names of our two sides on the hub. Other splits of the hub are not fetched."""
    image: str = "image"
    """The column with the images."""
    first_class: int = 0
    """The official id of the class that is 0 on the hub."""
    sorted_classes: bool = False
    """Whether the official id of a class is the rank of its name, independent of the order on the hub."""
    color: bool = True


class Dataset(ABC):
    """A public dataset, read from disk in its official layout. Its only setting is `download`.

    A `root` is a folder or an archive given by the user; without one the usual places are searched.
    """

    name: ClassVar[str]
    copy_of: ClassVar[str | None] = None
    """The dataset whose files it reads, if it is another split of that dataset."""
    expected: ClassVar[Counts]
    """Counts of a complete copy: another copy is refused."""
    protocol: ClassVar[str]
    """How it is split: `official`, `class-disjoint` or `halves`."""
    how_to_get: ClassVar[str]
    """How to get the dataset, as the end of the error if it was not found."""
    license: ClassVar[str]
    hub: ClassVar[HubCopy | None] = None
    """The copy that `download` fetches; None if it cannot be fetched."""
    items: ClassVar[str] = "images"
    """What the counts of both sides count."""

    @abstractmethod
    def find(self, root: Path | None = None) -> Path:
        """The folder, archive or file that holds it. Raises NotFound, with how to get it."""

    @abstractmethod
    def outline(self, root: Path | None = None) -> Outline:
        """The place of the dataset and the number of its images. Opens no image and unpacks no archive."""

    @abstractmethod
    def load(self, root: Path | None = None) -> ImageSet:
        """The images with labels and split. Raises DataError for a damaged or incomplete copy."""

    def complete_outline(self, place: Path, layout: str) -> Outline:
        """The outline of a copy whose images were not counted here, with the counts of a complete one."""
        return Outline(place, layout, self.expected.train, self.expected.test, self.protocol)

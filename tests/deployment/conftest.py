"""Two small finished studies on a table of vectors, and a head exported from each: run once in a session."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from lossgauge.deployment import costs
from lossgauge.deployment.export import HeadExport, export_head
from lossgauge.study.engines import Resources
from lossgauge.study.runner import run_study
from tests.support.finished import once
from tests.support.studies import Quiet, vectors_plan, write_vectors

WIDE = ("losses=triplet,scl", "seeds=2")
MLP = ("head=mlp", "hidden_size=12", "selection=best-validation", "center_features=false")


class Place(NamedTuple):
    """To be read only."""

    vectors: Path
    linear: Path
    """Study of two losses and two seeds."""
    mlp: Path
    """Study of one loss; the epoch is selected by validation, and the features are not centered."""
    head: Path
    """The exported head of `linear`, seed 1 of triplet."""
    digits: Path
    """The exported head of `small_study`: 64 pixels to 16 numbers."""
    cache: Path
    """With the features of digits; tests may add to it."""


def place_in(folder: Path) -> Place:
    return Place(
        vectors=folder / "vectors.npz",
        linear=folder / "linear",
        mlp=folder / "mlp",
        head=folder / "head",
        digits=folder / "digits",
        cache=folder / "cache",
    )


@pytest.fixture(autouse=True)
def quick_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search is timed over a few rows."""
    monkeypatch.setattr(costs, "TIMED_NUMBERS", 1 << 12)


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory, small_study: Path) -> Place:
    def make(folder: Path) -> None:
        at = place_in(folder)
        write_vectors(at.vectors)
        for study, changes in ((at.linear, WIDE), (at.mlp, MLP)):
            run_study(
                vectors_plan(at.vectors, *changes),
                study,
                progress=Quiet(),
                resources=Resources(jobs=1),
            )
        export_head(at.linear, at.head, loss="triplet", seed=1)
        shutil.copytree(small_study.parent / "cache", at.cache)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LOSSGAUGE_CACHE", str(at.cache))
            export_head(small_study, at.digits, loss="triplet")

    return place_in(once(tmp_path_factory, "deployment", make))


@pytest.fixture
def head_folder(place: Place, tmp_path: Path) -> Path:
    """A copy of the exported head that the test may change."""
    return Path(shutil.copytree(place.head, tmp_path / "head"))


@pytest.fixture
def exported(place: Place, tmp_path: Path) -> HeadExport:
    """Of the study with an MLP."""
    return export_head(place.mlp, tmp_path / "mlp")

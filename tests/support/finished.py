"""Finished studies as fixtures: each is run once in a session, whatever the number of xdist workers, and copied."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

# what runs a study is imported when one is asked for: it takes a second


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder that `make` filled in this session: by this worker or by another, which is waited for."""
    base = factory.getbasetemp()
    # workers have a folder each, side by side in the session's
    shared = base.parent if base.name.startswith("popen-") else base
    folder = shared / f"once-{name}"
    with FileLock(shared / f"once-{name}.lock"):
        if not (folder / "made").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            (folder / "made").touch()
    return folder


@pytest.fixture(scope="session")
def whole_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `make_study`, a row in every table. To be read only: other tests see what is written there."""
    from tests.support.studies import make_study

    return once(tmp_path_factory, "whole", make_study) / "study"


@pytest.fixture(scope="session")
def small_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished `small_plan()`, its cache of features beside it. To be read only."""

    from lossgauge.study.runner import run_study
    from tests.support.studies import Quiet, small_plan

    def make(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LOSSGAUGE_CACHE", str(folder / "cache"))
            run_study(small_plan(), folder / "study", progress=Quiet())

    return once(tmp_path_factory, "small", make) / "study"


@pytest.fixture
def finished_study(whole_study: Path, tmp_path: Path) -> Path:
    """A copy of `whole_study` that the test may change."""
    return Path(shutil.copytree(whole_study, tmp_path / "study"))


@pytest.fixture
def finished_small_study(small_study: Path, tmp_path: Path) -> Path:
    """A copy of `small_study` that the test may change; `run_study(small_plan(), …)` there reuses its three runs."""
    return Path(shutil.copytree(small_study, tmp_path / "study"))


@pytest.fixture(scope="session")
def pair_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished study of queries and documents: vectors, four losses, three seeds. To be read only."""
    from lossgauge.study.runner import run_study
    from tests.support.studies import Quiet, pair_plan

    def make(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LOSSGAUGE_CACHE", str(folder / "cache"))
            run_study(pair_plan(folder), folder / "study", progress=Quiet())

    return once(tmp_path_factory, "pairs", make) / "study"

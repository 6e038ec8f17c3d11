"""A listener that prints nothing, and a cache of features for each test."""

from pathlib import Path

import pytest

from tests.support.studies import Quiet


@pytest.fixture
def quiet() -> Quiet:
    return Quiet()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSGAUGE_CACHE", str(tmp_path / "cache"))

"""Where datasets are looked for by somebody without a home, or beside folders of somebody else."""

import os
from pathlib import Path

import pytest

from lossgauge import data
from lossgauge.data import cub200, describe_datasets, load_dataset
from lossgauge.data.locations import places
from lossgauge.errors import DataError


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    return tmp_path


def test_the_usual_places_are_in_the_working_folder_the_home_and_the_system(here, monkeypatch):
    for name in ("data/digits", "datasets"):
        (here / "home" / name).mkdir(parents=True)
    monkeypatch.setenv("HOME", str(here / "home"))
    found = places(None, "digits")
    assert found[0] == Path("data")
    assert found[1:4] == [here / "home" / name for name in ("data/digits", "data", "datasets")]
    assert places(here / "absent", "digits") == [here / "absent"]


def test_a_missing_home_is_passed_over(here, monkeypatch):
    monkeypatch.setattr("lossgauge.data.locations.home", lambda: None)
    (here / "~" / "data").mkdir(parents=True)
    assert Path("data") in places(None, "digits")
    assert not [place for place in places(None, "digits") if "~" in str(place)]


def test_folders_that_this_user_may_not_read_are_passed_over(here, monkeypatch):
    (here / "data/digits").mkdir()
    (here / "data/packed.zip").touch()
    allowed = {"data": os.R_OK | os.X_OK, "data/digits": os.R_OK, "data/packed.zip": os.R_OK}
    monkeypatch.setattr(os, "access", lambda place, mode: allowed.get(str(place), 0) & mode == mode)
    assert places(None, "digits", "packed.zip") == [Path("data/packed.zip"), Path("data")]


def test_a_dataset_whose_files_are_somebody_elses_is_one_error(here, monkeypatch):
    def refused(self, place=None):
        raise PermissionError(13, "Permission denied", "/secret/images")

    monkeypatch.setattr(cub200.CUB200, "load", refused)
    monkeypatch.setattr(cub200.CUB200, "outline", refused)
    with pytest.raises(DataError, match=r"cub200 cannot be read: .* /secret/images"):
        load_dataset("cub200", here)
    (line,) = [line for line in describe_datasets() if line.startswith("cub200:")]
    assert line.startswith("cub200: cannot be used; ")
    assert "/secret/images" in line


def test_datasets_are_described_without_a_cache(here, monkeypatch):
    def no_cache():
        raise data.hub.CacheError("no folder")

    monkeypatch.setattr(data.hub, "default_cache", no_cache)
    lines = list(describe_datasets())
    assert len(lines) == len(data.DATASETS)

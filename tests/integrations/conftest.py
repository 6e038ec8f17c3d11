import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="package")
def study(whole_study, tmp_path_factory):
    """A copy: trackers write into it."""
    return Path(shutil.copytree(whole_study, tmp_path_factory.mktemp("tracked") / "study"))


@pytest.fixture(autouse=True)
def no_tracker(monkeypatch, tmp_path_factory):
    """Whatever the user's environment says, tests reach nobody and write into no home."""
    for name in ("MLFLOW_TRACKING_URI", "WANDB_MODE", "WANDB_PROJECT", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path_factory.mktemp("home")))

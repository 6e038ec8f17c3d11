import pytest


@pytest.fixture
def away_from_home(tmp_path_factory, monkeypatch):
    """A home, a cache and a working folder that are empty: no dataset is found by chance."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("LOSSGAUGE_CACHE", str(home / "cache"))
    monkeypatch.chdir(home)
    for name in ("CIFAR10", "CARS196", "CUB200", "TINY_IMAGENET", "FASHION_MNIST", "DIGITS"):
        monkeypatch.delenv(f"LOSSGAUGE_{name}", raising=False)
    return home

"""Who has no home still has a folder, and code is kept in none that others can write."""

import os
import tempfile

import pytest
from torch import nn

from lossgauge import user_folders
from lossgauge.errors import CacheError
from lossgauge.losses.registry import load_loss
from lossgauge.training import start_training
from lossgauge.user_folders import (
    cache_folder,
    home,
    keep_torch_private,
    private_folder,
    some_home,
)

needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0,
    reason="only root can give a folder away: run as root",
)
STRANGER = 61_234


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A folder with a home and a place for temporary files."""
    for name in ("LOSSGAUGE_CACHE", "HOME"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "home").mkdir()
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o1777)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path


def no_home(monkeypatch):
    monkeypatch.setattr("pathlib.Path.home", _no_home)


def _no_home():
    raise RuntimeError("Could not determine home directory.")


def temporary(places):
    return places / "tmp" / f"lossgauge-{os.geteuid()}"


def test_the_cache_is_the_one_named_else_in_the_home_else_temporary(places, monkeypatch):
    assert cache_folder() == places / "home/.cache/lossgauge"
    assert not (places / "home/.cache").exists()
    monkeypatch.setenv("LOSSGAUGE_CACHE", str(places / "named"))
    assert cache_folder() == places / "named"
    monkeypatch.setenv("LOSSGAUGE_CACHE", "")
    no_home(monkeypatch)
    assert home() is None
    assert cache_folder() == temporary(places)
    assert temporary(places).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("value", ["/nonexistent", "", "/proc/self/cmdline", "relative"])
def test_a_home_that_is_none_is_passed_over(places, monkeypatch, value):
    monkeypatch.setenv("HOME", value)
    monkeypatch.chdir(places)
    (places / "relative").mkdir()
    if value == "":  # Python takes it for /
        monkeypatch.setattr(os, "access", lambda place, mode: str(place) != "/")
    assert home() is None
    assert cache_folder() == temporary(places)


def test_a_home_that_cannot_be_written_is_passed_over(places, monkeypatch):
    monkeypatch.setattr(
        os, "access", lambda place, mode: not mode & os.W_OK and os.path.exists(place)
    )
    (places / "home/.cache/lossgauge").mkdir(parents=True)
    assert cache_folder() == places / "home/.cache/lossgauge"  # what was cached there is read
    (places / "home/.cache/lossgauge").rmdir()
    with pytest.raises(CacheError, match="no home folder can be written"):
        cache_folder()


def test_a_cache_that_others_keep_closed_is_one_error(places, monkeypatch):
    (places / "closed").mkdir()
    monkeypatch.setenv("LOSSGAUGE_CACHE", str(places / "closed"))
    monkeypatch.setattr(os, "access", lambda place, mode: False)
    with pytest.raises(CacheError, match=r"closed cannot be read .* LOSSGAUGE_CACHE"):
        cache_folder()


def test_a_private_folder_is_made_for_this_user_alone(places, monkeypatch):
    old = os.umask(0)
    try:
        folder = private_folder("compiled")
    finally:
        os.umask(old)
    # .cache was made without a umask: others could put another folder in the place of this one
    assert folder == temporary(places) / "compiled"
    monkeypatch.setenv("LOSSGAUGE_CACHE", str(places / "named"))
    folder = private_folder("compiled")
    assert folder == places / "named/compiled"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert private_folder("compiled", first=[places / "first"]) == places / "first/compiled"


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777, 0o1770])
def test_a_folder_that_others_can_write_is_not_used(places, mode):
    folder = places / "home/.cache/lossgauge/compiled"
    folder.mkdir(parents=True)
    assert private_folder("compiled") == folder
    folder.chmod(mode)
    assert private_folder("compiled") == temporary(places) / "compiled"


@pytest.mark.parametrize(("mode", "used"), [(0o777, False), (0o775, False), (0o1777, True)])
def test_a_folder_below_one_where_others_can_rename_it_is_not_used(places, mode, used):
    (places / "home/.cache/lossgauge").mkdir(parents=True)
    (places / "home").chmod(mode)
    found = private_folder("compiled")
    assert (found == places / "home/.cache/lossgauge/compiled") is used
    assert (places / "home/.cache/lossgauge/compiled").exists() is used


@needs_root
@pytest.mark.parametrize("part", ["", ".cache", ".cache/lossgauge", ".cache/lossgauge/compiled"])
def test_root_neither_trusts_nor_fills_the_folders_of_another_user(places, part):
    folder = places / "home/.cache/lossgauge/compiled"
    folder.mkdir(parents=True)
    os.chown(places / "home" / part, STRANGER, STRANGER)
    assert private_folder("compiled") == temporary(places) / "compiled"
    folder.rmdir()
    if part != ".cache/lossgauge/compiled":
        assert private_folder("compiled") == temporary(places) / "compiled"
        assert not folder.exists()


@needs_root
def test_a_temporary_folder_that_somebody_else_made_is_not_used(places, monkeypatch):
    no_home(monkeypatch)
    temporary(places).mkdir(mode=0o700)
    os.chown(temporary(places), STRANGER, STRANGER)
    assert private_folder("compiled") is None
    with pytest.raises(
        CacheError, match=r"lossgauge-0 cannot be made private to this user; .* LOSSGAUGE_CACHE"
    ):
        cache_folder()
    assert not list(temporary(places).iterdir())


@needs_root
def test_a_link_in_the_place_of_a_temporary_folder_is_followed_to_what_is_verified(
    places, monkeypatch
):
    no_home(monkeypatch)
    (places / "theirs").mkdir(mode=0o700)
    os.chown(places / "theirs", STRANGER, STRANGER)
    temporary(places).symlink_to(places / "theirs")
    assert private_folder("compiled") is None
    assert not list((places / "theirs").iterdir())


def test_without_any_folder_there_is_none(places, monkeypatch):
    def gettempdir():
        raise FileNotFoundError("No usable temporary directory found")

    no_home(monkeypatch)
    monkeypatch.setattr(tempfile, "gettempdir", gettempdir)
    assert private_folder("compiled") is None
    with pytest.raises(CacheError, match=r"and no temporary folder; .* LOSSGAUGE_CACHE"):
        cache_folder()


def test_libraries_have_a_private_home_where_there_is_none(places, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with some_home():
        assert os.environ["HOME"] == str(places / "home")
        assert "XDG_CACHE_HOME" not in os.environ
    monkeypatch.setenv("HOME", "/nonexistent")
    with some_home():
        assert os.environ["HOME"] == str(temporary(places) / "home")
        assert (temporary(places) / "home").stat().st_mode & 0o777 == 0o700
    assert os.environ["HOME"] == "/nonexistent"


def test_a_home_that_cannot_be_written_is_still_read(places, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(user_folders, "can_be_written", lambda folder: False)
    folder = private_folder("home")
    with some_home():
        assert os.environ["HOME"] == str(places / "home")
        assert os.environ["XDG_CACHE_HOME"] == str(folder)
    assert "XDG_CACHE_HOME" not in os.environ
    monkeypatch.setattr(user_folders, "private_folder", lambda name: None)
    with pytest.raises(CacheError, match="LOSSGAUGE_CACHE"), some_home():
        pass


def test_libraries_have_a_temporary_folder_where_there_is_none(places, monkeypatch):
    monkeypatch.setenv("TMPDIR", "/nonexistent")
    monkeypatch.setattr(user_folders, "_temporary", lambda: None)
    with some_home():
        assert os.environ["HOME"] == str(places / "home")
        assert os.environ["TMPDIR"] == str(places / "home/.cache/lossgauge/home")
    assert os.environ["TMPDIR"] == "/nonexistent"


def test_torch_has_a_private_folder_before_an_optimizer_is_made(places, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "a user's own")
    keep_torch_private()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "a user's own"
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    keep_torch_private()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(private_folder("compiled"))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    started = start_training(
        seed=0,
        make_head=lambda: nn.Linear(2, 2),
        make_loss=lambda: load_loss("triplet"),
        schedule=lambda time: 0.1,
    )
    assert started.optimizer.param_groups
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(private_folder("compiled"))

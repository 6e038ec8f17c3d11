"""A disk without room: one error in words, nothing else on the terminal, and with room the same export is whole."""

import shutil
import subprocess

import pytest

from lossgauge.errors import LossgaugeError
from lossgauge.export import export_study
from lossgauge.integrations import wandb
from tests.integrations import expected

# SQLAlchemy 2.1 about the mappers of MLflow
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 60 kB: no room for an export."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=60k", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip(
            "no file system can be mounted here: run as root, in a container with --cap-add SYS_ADMIN"
        )
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)  # MLflow keeps its database open


@pytest.mark.parametrize("to", ["tensorboard", "mlflow", "wandb"])
def test_a_full_disk_is_one_error_and_with_room_the_export_is_whole(
    study, small_disk, to, monkeypatch, capfd
):
    monkeypatch.setattr(wandb, "LOG_SECONDS", 0.5)
    with pytest.raises(LossgaugeError, match=r"cannot be written: .*(disk|space)"):
        export_study(study, to, small_disk / "out")
    shown = capfd.readouterr()
    assert (shown.out, shown.err) == ("", "")
    monkeypatch.setattr(wandb, "LOG_SECONDS", 20.0)
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    export_study(study, to, small_disk / "out")
    if to == "wandb":
        logs = list((small_disk / "out" / "wandb").glob("offline-run-*/*.wandb"))
        assert len(logs) == len(expected.tracked(study))


def test_a_log_of_wandb_that_is_cut_anywhere_is_not_whole(study, tmp_path):
    export_study(study, "wandb", tmp_path)
    path = max((tmp_path / "wandb").glob("offline-run-*/*.wandb"), key=lambda p: p.stat().st_size)
    whole = path.read_bytes()
    assert list(wandb._kinds(whole))[-1] == "exit"
    for length in (0, 6, 7, 10, len(whole) // 2, len(whole) - 1):
        assert "exit" not in list(wandb._kinds(whole[:length]))
    assert "exit" not in list(wandb._kinds(whole[:-4096] + bytes(4096)))

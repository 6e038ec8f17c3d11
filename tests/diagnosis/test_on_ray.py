"""The files of a folder on a real Ray of this machine, with a worker that is killed."""

import os
import signal

import numpy as np
import pytest

from lossgauge.diagnosis import on_ray
from lossgauge.diagnosis.measure import diagnose
from lossgauge.errors import DataError, MissingExtra
from tests.diagnosis.tables import table

pytestmark = [pytest.mark.filterwarnings("ignore::ResourceWarning")]


def shards(folder, *, broken=False):
    rows, labels = table(classes=10, size=60)
    if broken:
        rows[333, 2] = np.nan
    for number, part in enumerate(np.split(np.arange(600), [150, 290, 480])):
        np.save(folder / f"{number}.npy", rows[part])
        np.save(folder / f"{number}.labels.npy", labels[part])
    return folder


def same(one, other):
    """Every number of two diagnoses, to 1e-12."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            same(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            same(a, b)
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=1e-12, abs=1e-12)
    else:
        assert one == other


def test_ray_that_is_not_installed_is_said(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"pip install 'lossgauge\[ray\]'"):
        diagnose(shards(tmp_path), engine="ray")


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("queries", [None, 80])
def test_a_cluster_gives_what_one_process_gives(cluster, tmp_path, queries):
    folder = shards(tmp_path)
    local = diagnose(folder, queries=queries)
    same(diagnose(folder, queries=queries, engine="ray").plain, local.plain)


@pytest.mark.slow
@pytest.mark.ray
def test_a_worker_that_is_killed_is_replaced(cluster, tmp_path, monkeypatch):
    (tmp_path / "shards").mkdir()
    folder, mark = shards(tmp_path / "shards"), tmp_path / "killed"
    whole = on_ray._measure

    def killed_once(measure, array, groups, first_row, name):
        if first_row == 150 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(measure, array, groups, first_row, name)

    monkeypatch.setattr(on_ray, "_measure", killed_once)
    found = diagnose(folder, queries=80, engine="ray")
    assert mark.exists()
    same(found.plain, diagnose(folder, queries=80).plain)


@pytest.mark.slow
@pytest.mark.ray
def test_an_error_of_a_worker_is_the_same_line(cluster, tmp_path):
    with pytest.raises(DataError, match=r"2\.npy, row 43 holds NaN"):
        diagnose(shards(tmp_path, broken=True), queries=80, engine="ray")

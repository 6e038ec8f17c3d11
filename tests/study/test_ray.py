"""The same runs on a real Ray cluster of this machine, with a worker killed in the middle."""

import os
import signal
import threading
from pathlib import Path

import pytest

from lossgauge import stopping
from lossgauge.errors import InputError, StudyError
from lossgauge.plan.study import Plan
from lossgauge.results.layout import Layout
from lossgauge.results.query_changes import read_query_changes
from lossgauge.results.reader import read_study
from lossgauge.study.engines import Resources
from lossgauge.study.runner import run_study
from tests.study.test_engines import numbers
from tests.study.test_pairs import write_pairs
from tests.support.studies import Quiet, small_plan
from tests.support.waiting import wait_for

pytest.importorskip("ray")

# Ray's own: sockets and processes that it leaves to the end
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")

OWN = """
import os, signal, time
import torch

class Waits(torch.nn.Module):
    "Says which process it is in, and waits there for its end the first time."
    def forward(self, z, y):
        try:
            file = os.open("pid", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return -((y[:, None] == y) * (z @ z.T)).mean()
        os.write(file, str(os.getpid()).encode())
        os.close(file)
        time.sleep(300)
        raise RuntimeError("nobody killed me")

class Fails(torch.nn.Module):
    def forward(self, z, y):
        open("tries", "a").write("x")
        raise RuntimeError("on its own account")

class Deadly(torch.nn.Module):
    def forward(self, z, y):
        open("deaths", "a").write("x")
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_cluster_comes_to_the_same_numbers_and_survives_the_death_of_a_worker(
    tmp_path, quiet, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lossgauge.study.engines.ray_cluster.TRIES", 2)
    Path("own.py").write_text(OWN)
    killed: list[int] = []

    def kill() -> None:
        wait_for(lambda: Path("pid").is_file() and Path("pid").read_text())
        killed.append(int(Path("pid").read_text()))
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    # as in a command, whose handler must be in place again once Ray has set its own
    monkeypatch.setattr(stopping._State, "handling", True)
    before = signal.getsignal(signal.SIGTERM)
    plan = small_plan(losses="triplet,own.py:Waits,own.py:Fails,own.py:Deadly")
    small = small_plan(losses="triplet,own.py:Waits")
    outcome = run_study(plan, Path("ray"), progress=quiet, resources=Resources("ray", jobs=2))
    killer.join()
    assert signal.signal(signal.SIGTERM, before) is stopping._interrupt
    signal.signal(signal.SIGINT, signal.default_int_handler)
    assert killed
    assert (outcome.done, outcome.failed) == (3, 2)
    # what fails on its own account is not tried again; what takes its worker along is
    assert len(Path("tries").read_text()) == 1
    assert len(Path("deaths").read_text()) == 2
    errors = {row["loss"]: row for row in read_study(Path("ray")).results.failures}
    assert errors["own.py:Fails"]["error"] == "RuntimeError: on its own account"
    assert "own.py" in errors["own.py:Fails"]["traceback"]
    assert "its Ray task ended by" in errors["own.py:Deadly"]["error"]
    assert not Path("ray/.work").exists()
    again = run_study(small, Path("ray"), progress=quiet)
    assert (again.done, again.failed) == (0, 0)
    run_study(small, Path("here"), progress=Quiet())
    assert numbers(Path("ray")) == numbers(Path("here"))


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        (Resources("ray", gpus=0.5), "device cuda needs gpus above 0"),
        (Resources("ray", device="cuda"), "device cuda needs gpus above 0"),
        (Resources("local", gpus=0.5), "only with engine ray"),
        (Resources("local", device="tpu"), "device must be cpu or cuda, got 'tpu'"),
        (Resources(cpus=0.0), "cpus of a run must be at least 0.01 and finite, got 0"),
        (Resources(cpus=float("nan")), "cpus of a run must be at least 0.01 and finite, got nan"),
        (Resources("ray", device="cuda", gpus=1.5), "from 0 to 1, or a whole number, got 1.5"),
    ],
)
def test_a_contradiction_is_refused_before_anything_is_written(tmp_path, quiet, resources, message):
    with pytest.raises(InputError, match=message):
        run_study(small_plan(), tmp_path / "out", progress=quiet, resources=resources)
    assert not (tmp_path / "out").exists()


def test_a_cluster_that_is_not_there_is_told_in_words(tmp_path, quiet, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(StudyError, match=r"no Ray cluster answers at 127\.0\.0\.1:1 .*RAY_ADDRESS"):
        run_study(small_plan(), tmp_path / "out", progress=quiet, resources=Resources("ray"))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_pairs_have_the_same_rows_on_a_cluster_as_in_this_process(tmp_path, quiet):
    write_pairs(tmp_path / "pairs.jsonl", queries=60)
    plan = Plan(
        datasets=[f"pairs:{tmp_path / 'pairs.jsonl'}"],
        losses=["mnrl", "gist"],
        seeds=2,
        epochs=3,
        batch_size=8,
        learning_rate=0.03,
        head="residual",
        rank=4,
        negatives={"from_rank": 2, "to_rank": 20},
        selection="best-validation",
    )
    for name, resources in (("here", Resources(jobs=1)), ("ray", Resources("ray", jobs=2))):
        outcome = run_study(plan, tmp_path / name, progress=quiet, resources=resources)
        assert (outcome.done, outcome.failed) == (6, 0)
    one, two = (read_study(tmp_path / name) for name in ("here", "ray"))
    assert numbers(tmp_path / "here") == numbers(tmp_path / "ray")
    assert one.results.references == two.results.references
    for row in one.results.summaries:
        assert one.queries(row["run"]).equals(two.queries(row["run"]))
    changes = [
        read_query_changes(Layout(tmp_path / name), one.datasets[0]) for name in ("here", "ray")
    ]
    assert changes[0] == changes[1]
    assert changes[0] is not None

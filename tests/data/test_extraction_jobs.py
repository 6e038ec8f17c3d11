"""Extraction by several processes: the same rows, whatever becomes of the processes. Real processes, real signals."""

import os
import signal
from contextlib import closing
from dataclasses import replace
from multiprocessing import connection
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lossgauge.backbones import load_backbone
from lossgauge.data import extraction_jobs, load_dataset
from lossgauge.data.extraction_jobs import extract_rows
from lossgauge.errors import DataError
from lossgauge.user_file import import_file
from tests.support.forking import fork_script
from tests.support.waiting import PATIENCE, wait_for

BACKBONE = """
import os, signal
import numpy as np
import torch

PARENT = {parent}

class Projected:
    "Random projections, with what may go wrong in another process."
    def __init__(self, dies=False, fails=False, waits=False):
        self.dies, self.fails, self.waits = dies, fails, waits
        self.batches = 0
        self.identity = {{}}
        self.weight = torch.randn(64, 300, generator=torch.Generator().manual_seed(0))

    def prepare(self, image):
        return torch.from_numpy(np.asarray(image.convert("L"), dtype=np.float32)).flatten()

    def extract(self, batch):
        if os.getpid() != PARENT:
            open(f"worker-{{os.getpid()}}", "a").close()
            self.batches += 1
            if self.dies and self.batches > 5:
                os.kill(os.getpid(), signal.SIGKILL)
            if self.fails:
                raise RuntimeError("not here")
            while self.waits:
                pass
        return torch.relu(batch @ self.weight)
"""


@pytest.fixture
def workers(tmp_path, monkeypatch):
    """Workers are started at once, and waited for; the processes that extracted are those that left a file."""
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(BACKBONE.format(parent=os.getpid()))
    monkeypatch.setattr(extraction_jobs, "SINGLE_PROCESS_SECONDS", -1.0)
    are_ready = extraction_jobs._Workers.are_ready

    def wait_until_ready(self):
        while self._starting:
            connection.wait([process.connection for process in self._starting])
            are_ready(self)
        return are_ready(self)

    monkeypatch.setattr(extraction_jobs._Workers, "are_ready", wait_until_ready)
    return lambda: len(list(tmp_path.glob("worker-*")))


@pytest.fixture
def digits():
    return load_dataset("digits")


def own(**settings):
    return load_backbone("own.py:Projected", **settings)


def rows_of(images, backbone, jobs):
    with closing(extract_rows(images, backbone, jobs=jobs)) as batches:
        parts = list(batches)
    assert [part.next_image for part in parts] == [
        min(start + 32, len(images.ids)) for start in range(0, len(images.ids), 32)
    ]
    return torch.cat([part.rows for part in parts]), [part.skipped for part in parts]


def test_the_rows_are_the_same_bits_for_any_number_of_processes(digits, workers, monkeypatch):
    """Three real processes here; two, forked, in the tests below. A deleted file of another import stops none of them."""
    Path("gone.py").write_text("X = 1")
    import_file(Path("gone.py"), shown="gone.py")
    Path("gone.py").unlink()
    temporary = Path("temporary")
    temporary.mkdir()
    monkeypatch.setattr(extraction_jobs.tempfile, "tempdir", str(temporary.absolute()))
    alone, _ = rows_of(digits, own(), 1)
    assert workers() == 0
    together, _ = rows_of(digits, own(), 3)
    assert workers() == 3
    assert torch.equal(together, alone)
    assert not list(temporary.iterdir())


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_images_that_cannot_be_read_are_the_same_for_any_number_of_processes(workers):
    for number in range(400):
        path = Path(f"images/{number % 2}/{number:03}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), number % 256, np.uint8)).save(path)
        if number in (3, 200, 398):
            path.write_bytes(path.read_bytes()[:-30])
    images = load_dataset("folder:images")
    alone, skipped = rows_of(images, own(), 1)
    together, also_skipped = rows_of(images, own(), 2)
    assert workers() == 2
    assert torch.equal(together, alone)
    assert skipped == also_skipped
    assert sum(map(len, skipped)) == 3


@pytest.mark.usefixtures("forked_workers")
def test_the_rest_is_done_here_where_a_worker_is_killed(digits, workers, caplog):
    alone, _ = rows_of(digits, own(), 1)
    together, _ = rows_of(digits, own(dies=True), 2)
    assert workers() >= 1
    assert torch.equal(together, alone)
    (words,) = caplog.messages
    assert words == (
        "lossgauge: a process that extracts features was ended by SIGKILL; this process extracts the rest"
    )


@pytest.mark.usefixtures("forked_workers")
def test_what_fails_in_a_worker_alone_costs_its_time_alone(digits, workers, caplog):
    alone, _ = rows_of(digits, own(), 1)
    together, _ = rows_of(digits, own(fails=True), 2)
    assert torch.equal(together, alone)
    assert "ended by exit code 1" in caplog.text


@pytest.mark.usefixtures("forked_workers")
def test_an_error_in_a_worker_is_the_error_it_would_be_here(workers, caplog):
    for number in range(200):
        path = Path(f"images/{number % 2}/{number:03}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        size = (8, 9) if number == 171 else (8, 8)
        Image.fromarray(np.zeros(size, np.uint8)).save(path)
    images = load_dataset("folder:images")
    errors = []
    for jobs in (1, 2):
        with pytest.raises(DataError, match="needs images of one size") as caught:
            rows_of(images, own(), jobs)
        errors.append(str(caught.value))
    assert workers() >= 1
    assert errors[0] == errors[1]
    assert "171" in errors[0]
    assert caplog.messages == []


def test_images_that_cannot_be_sent_stay_in_this_process(digits, workers):
    alone, _ = rows_of(digits, own(), 1)
    here, _ = rows_of(replace(digits, read=lambda row: digits.read(row)), own(), 2)
    assert workers() == 0
    assert torch.equal(here, alone)


@pytest.mark.usefixtures("forked_workers")
def test_workers_that_cannot_start_leave_the_work_to_this_process(digits, workers):
    backbone = own()
    alone, _ = rows_of(digits, backbone, 1)
    Path("own.py").write_text("raise RuntimeError('edited meanwhile')")
    here, _ = rows_of(digits, backbone, 2)
    assert workers() == 0
    assert torch.equal(here, alone)


def test_little_work_and_little_memory_start_no_process(digits, workers, monkeypatch):
    monkeypatch.setattr(extraction_jobs, "usable_memory", lambda: 0)
    rows_of(digits, own(), 2)
    monkeypatch.setattr(extraction_jobs, "usable_memory", lambda: None)
    monkeypatch.setattr(extraction_jobs, "SINGLE_PROCESS_SECONDS", 10.0)
    rows_of(digits, own(), 2)
    assert workers() == 0


STUCK = """
import os
os.environ["EXTRACTS_HERE"] = str(os.getpid())  # where nothing waits
from pathlib import Path
from multiprocessing import connection
from lossgauge.data import extraction_jobs, load_dataset
from lossgauge.data.features import features
from lossgauge.backbones import load_backbone
from tests.support.forking import fork_workers
fork_workers()
extraction_jobs.SINGLE_PROCESS_SECONDS = -1.0
are_ready = extraction_jobs._Workers.are_ready
def wait_until_ready(self):
    while self._starting:
        connection.wait([process.connection for process in self._starting])
        are_ready(self)
    return are_ready(self)
extraction_jobs._Workers.are_ready = wait_until_ready
backbone = load_backbone("own.py:Projected", waits=True)
features(load_dataset("digits"), backbone, cache=Path("cache"), jobs=2)
"""


@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_extraction_whatever_ends_it(workers, ended_by):
    Path("own.py").write_text(BACKBONE.format(parent="int(os.environ['EXTRACTS_HERE'])"))
    process = fork_script(STUCK)
    try:
        wait_for(lambda: workers() == 2, process=process)
        ids = [int(path.name.removeprefix("worker-")) for path in Path().glob("worker-*")]
        process.send_signal(ended_by)
        process.wait(PATIENCE)
        wait_for(lambda: not any(Path(f"/proc/{number}").exists() for number in ids))
    finally:
        process.kill()
        process.wait()

"""Processes that compile, killed and all at once: what is left is whole, and every answer is the same to the bit."""

import fcntl
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from lossgauge.kernels.machine_code import _read

pytestmark = pytest.mark.slow

BITS = """
import hashlib, torch
from lossgauge.losses.registry import load_loss
torch.manual_seed(0)
labels = torch.randint(0, 10, (64,))
rows = torch.nn.functional.normalize(torch.randn(64, 16), dim=1)
with torch.no_grad():
    outcome = load_loss("contrastive").outcome(rows, labels)
tensors = (outcome.value, outcome.weight, outcome.forces.gradient)
print(hashlib.sha256(b"".join(t.numpy().tobytes() for t in tensors)).hexdigest())
"""
KERNELS = {"contrastive_rows-float32", "symmetrize-float32", "forces-float32"}


def start(cache: Path, code: str = BITS) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "NUMBA_CACHE_DIR": str(cache), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def kept(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*") if not path.name.startswith(".")]


def is_locked(folder: Path) -> bool:
    lock = folder / ".lock"
    if not lock.exists():
        return False
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def check_whole(folder: Path) -> None:
    names = [path.name.rpartition("-")[0] for path in kept(folder)]
    assert sorted(names) == sorted(KERNELS)
    assert all(_read(path) is not None for path in kept(folder))
    assert {path.name for path in folder.glob(".*")} == {".lock"}


def test_killed_while_they_compile_they_leave_nothing_that_is_not_whole(tmp_path, capsys):
    folder = tmp_path / "compiled"
    counts: Counter = Counter()
    reference = None
    for files in (0, 0, 1, 1, 2, 2):
        process = start(tmp_path)
        # killed while it holds the lock, with so many kernels kept by then at least
        while process.poll() is None and not (is_locked(folder) and len(kept(folder)) >= files):
            time.sleep(0.002)
        counts["killed" if process.poll() is None else "ended first"] += 1
        process.kill()
        process.communicate()
        assert not is_locked(folder)
        assert all(_read(path) is not None for path in kept(folder))
    for _ in range(2):
        out, err = start(tmp_path).communicate(timeout=300)
        assert err == ""
        assert reference in (None, out)
        reference = out
    check_whole(folder)
    with capsys.disabled():
        print(f"\nkilled while compiling: {dict(counts)}, then whole")
    assert counts["killed"] >= 3


def test_all_at_once_they_compile_each_kernel_once(tmp_path, capsys):
    count = "import lossgauge.kernels.machine_code as m; c = m._compiled\n" + (
        "m._compiled = lambda *given: (print('compiled'), c(*given))[1]\n"
    )
    processes = [start(tmp_path, count + BITS) for _ in range(4)]
    outs = [process.communicate(timeout=600) for process in processes]
    assert all(not err for _, err in outs)
    lines = Counter(line for out, _ in outs for line in out.split())
    compiled = lines.pop("compiled")
    with capsys.disabled():
        print(f"\n4 processes at once: {compiled} kernels compiled, {len(lines)} answer")
    assert compiled == len(KERNELS)
    assert list(lines.values()) == [4]
    check_whole(tmp_path / "compiled")

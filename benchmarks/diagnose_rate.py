"""How fast `lossgauge diagnose` goes through a table on disk, beside how fast the disk gives it.

    python benchmarks/diagnose_rate.py [--rows 10_000_000] [--width 128] [--classes 1000] [--turns 3] [--folder DIR]

Writes one float32 .npy file (5.1 GB by default) and its labels, and deletes them. Before each reading the file is dropped from the
page cache (posix_fadvise), so both rates are cold. The reading alone is a loop of large reads into one buffer.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

BLOCK_ROWS = 100_000


def write(folder: Path, rows: int, width: int, classes: int) -> Path:
    """Unit rows around class centers, so that retrieval is neither perfect nor chance."""
    generator = np.random.default_rng(0)
    centers = generator.normal(size=(classes, width)).astype(np.float32)
    path = folder / "x.npy"
    array = np.lib.format.open_memmap(path, "w+", np.float32, (rows, width))
    labels = generator.integers(0, classes, rows)
    for first in range(0, rows, BLOCK_ROWS):
        part = slice(first, first + BLOCK_ROWS)
        block = generator.standard_normal((len(labels[part]), width), np.float32)
        block += centers[labels[part]]
        array[part] = block / np.linalg.norm(block, axis=1, keepdims=True)
    array.flush()
    del array
    np.save(folder / "x.labels.npy", labels)
    return path


def drop(path: Path) -> None:
    """Write the file out and drop it from the page cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_seconds(path: Path) -> float:
    drop(path)
    buffer = bytearray(2**24)
    begin = time.perf_counter()
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
    return time.perf_counter() - begin


def diagnose_seconds(path: Path) -> tuple[float, str]:
    from lossgauge.diagnosis.measure import diagnose

    drop(path)
    begin = time.perf_counter()
    found = diagnose(path)
    return time.perf_counter() - begin, str(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--turns", type=int, default=3, help="readings and diagnoses")
    parser.add_argument("--show", action="store_true", help="print the diagnosis")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=given.folder))
    try:
        # in a process of its own, whose memory does not count
        with ProcessPoolExecutor(1) as pool:
            shape = (given.rows, given.width, given.classes)
            path = pool.submit(write, folder, *shape).result()
        size = path.stat().st_size
        warm_up(folder)
        # in turns: the rate of a disk depends on what else uses it, and on what its host still holds in memory
        pairs = [(read_seconds(path), diagnose_seconds(path)) for _ in range(given.turns)]
        print(f"{given.rows:,} × {given.width} float32, {size / 1e9:.2f} GB")
        for reading, (seconds, _) in pairs:
            print(
                f"read alone, cold: {size / reading / 1e6:5.0f} MB/s; diagnose, cold: {size / seconds / 1e6:5.0f} MB/s "
                f"in {seconds:.1f} s: {reading / seconds:.0%} of the read rate"
            )
        text = pairs[-1][1][1]
        print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB")
        if given.show:
            print(text)
    finally:
        shutil.rmtree(folder)


def warm_up(folder: Path) -> None:
    """Import torch and load the compiled kernels, which takes as long for a small table."""
    from lossgauge.diagnosis.measure import diagnose

    rows = np.random.default_rng(0).normal(size=(500, 8))
    diagnose(rows, np.arange(500) % 5, queries=50)


if __name__ == "__main__":
    main()

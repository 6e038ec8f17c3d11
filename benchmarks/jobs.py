"""Studies and extraction, quiet and beside a Python loop that never sleeps.   python -m benchmarks.jobs

python -m benchmarks.jobs --against ../old      each case in turn with another checkout's code
python -m benchmarks.jobs --only extraction     demo, extraction, paper; --small for short forms of all three

A case is a command line of its own process, so start-up is in its time. FashionMNIST has to be installed
(docs/datasets.md). Take a machine on which nothing else runs; the load before each case is printed with its time.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

EXTRACTION = """
import dataclasses, sys
import numpy as np
from pathlib import Path
from lossgauge.backbones import load_backbone
from lossgauge.data import load_dataset
from lossgauge.data.features import features

if __name__ == "__main__":
    images, count = load_dataset("fashion-mnist"), int(sys.argv[1])
    halves = np.arange(count // 2), np.arange(count // 2, count)
    images = dataclasses.replace(
        images, ids=images.ids[:count], labels=images.labels[:count], train=halves[0], test=halves[1]
    )
    features(images, load_backbone("efficientnet-lite0"), cache=Path(sys.argv[2]))
"""
LOOP = "while True: pass"
PATIENCE = 900.0
"""Seconds after which a case is given up: with two threads and a busy neighbor, it took hours."""
DEMO = ["study", "demo"]
PAPER = [
    "study", "paper", "--set", "epochs=5", "--set", "datasets=[fashion-mnist]", "--set", "seeds=[0]",
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Studies and extraction, quiet and beside a loop.")
    cases = ("demo", "extraction", "paper")
    parser.add_argument("--against", type=Path, help="the folder of another checkout")
    parser.add_argument("--only", nargs="+", choices=cases, default=cases)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    here = Path(__file__).parents[1]
    checkouts = {"now": here} | ({"before": options.against} if options.against else {})
    times: dict[tuple[str, str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for case in options.only:
            for repeat in range(options.repeats):
                for state in ("quiet", "busy"):
                    # in turns, and not always the same one first
                    for name in sorted(checkouts, reverse=bool(repeat % 2)):
                        load = os.getloadavg()[0]
                        with _neighbor(state == "busy"):
                            seconds = _seconds(
                                case, checkouts[name], Path(temporary), options.small
                            )
                        times.setdefault((case, name, state), []).append(seconds)
                        print(
                            f"{case:10} {name:6} {state:5} {seconds:6.1f} s  load {load:.1f}",
                            flush=True,
                        )
    print(f"\n| {'case':10} | code | quiet, s | beside a loop, s | ratio |\n|---|---|---|---|---|")
    for case, name in dict.fromkeys(key[:2] for key in times):
        quiet, busy = (median(times[case, name, state]) for state in ("quiet", "busy"))
        print(f"| {case:10} | {name:6} | {quiet:.1f} | {busy:.1f} | {busy / quiet:.1f} |")
    print(json.dumps({" ".join(key): value for key, value in times.items()}))


def _seconds(case: str, checkout: Path, temporary: Path, small: bool) -> float:
    """The time of one case in a new folder, with the features of studies in a cache that stays.

    Infinite where it takes longer than PATIENCE.
    """
    variables = {name: value for name, value in os.environ.items() if "NUM_THREADS" not in name}
    cache = temporary / "caches" / checkout.resolve().name
    environment = {**variables, "PYTHONPATH": str(checkout), "LOSSGAUGE_CACHE": str(cache)}
    with tempfile.TemporaryDirectory(dir=temporary) as folder:
        if case == "extraction":
            command = ["-c", EXTRACTION, "10000" if small else "70000", folder]
        else:
            shorter = ["--set", "seeds=[0]"] if small and case == "demo" else []
            lines = [*(DEMO if case == "demo" else PAPER), *shorter]
            command = ["-m", "lossgauge", *lines, "--out", f"{folder}/out"]
            if not list(cache.glob(f"{case}-warm")):
                _run([*command[:-1], f"{folder}/first"], environment, temporary)
                (cache / f"{case}-warm").touch()
        began = time.perf_counter()
        try:
            _run(command, environment, temporary)
        except subprocess.TimeoutExpired:
            return math.inf
        return time.perf_counter() - began


def _run(command: list[str], environment: dict[str, str], folder: Path) -> None:
    subprocess.run(
        [sys.executable, *command],
        env=environment,
        cwd=folder,
        check=True,
        timeout=PATIENCE,
        stdout=subprocess.DEVNULL,
    )


@contextmanager
def _neighbor(there: bool) -> Iterator[None]:
    """A process that keeps one core busy, if it is to be there."""
    loop = subprocess.Popen([sys.executable, "-c", LOOP]) if there else None
    try:
        yield
    finally:
        if loop is not None:
            loop.kill()
            loop.wait()


if __name__ == "__main__":
    main()

"""Our numbers, the peers' and the floors, side by side.   make bench

python -m benchmarks                    all of it, about ten minutes on two cores
python -m benchmarks --only step        losses, growth, step, probe, ranking, geometry or features
"""

from __future__ import annotations

import argparse
import json
import platform
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks import features, geometry, losses, probe_loop, ranking, step

PARTS = {
    "losses": losses.measure,
    "memory": losses.out_of_memory,
    "growth": losses.growth,
    "step": step.measure,
    "probe": probe_loop.measure,
    "ranking": ranking.measure,
    "geometry": geometry.measure,
    "features": features.measure,
}
_PACKAGES = (
    "lossgauge", "torch", "numba", "pytorch-metric-learning", "sentence-transformers", "faiss-cpu", "onnxruntime",
)  # fmt: skip


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "?")


def main() -> None:
    parser = argparse.ArgumentParser(description="Our numbers beside the peers' and the floors.")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results.json"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = {
        "machine": {
            "processor": _processor(),
            "system": platform.platform(),
            "python": platform.python_version(),
            "threads": options.threads,
        },
        "versions": {name: version(name) for name in _PACKAGES},
    }
    print(json.dumps(found, indent=1))
    for part in options.only:
        found[part] = PARTS[part]()  # type: ignore[operator]
        options.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

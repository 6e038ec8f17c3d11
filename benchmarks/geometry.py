"""Geometry of few classes, of many, and of rows wider than they are many: one call, on one thread."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import normalize

from benchmarks.memory import seconds_and_megabytes
from lossgauge import geometry

SHAPES = ((70_000, 10, 128), (60_502, 11_316, 128), (60_000, 20_000, 128), (200, 20, 8_000))
"""Rows, classes, width: FashionMNIST, the test side of Stanford Online Products, more classes, few wide rows."""


def measure() -> list[dict[str, Any]]:
    """A row a shape: seconds of a call, and by how many MB memory grows at its peak."""
    print("\ngeometry, one thread: seconds, peak extra memory", flush=True)
    generator, threads = torch.Generator().manual_seed(0), torch.get_num_threads()
    torch.set_num_threads(1)
    found = []
    try:
        for rows, classes, width in SHAPES:
            embeddings = normalize(torch.randn(rows, width, generator=generator))
            labels = torch.randint(0, classes, (rows,), generator=generator)
            geometry(embeddings[:500], labels[:500] % 10)
            seconds, megabytes = seconds_and_megabytes(
                lambda e=embeddings, y=labels: geometry(e, y)
            )
            print(
                f"  {rows:6} rows, {classes:6} classes, width {width:4}: {seconds:5.2f} s, {megabytes:4.0f} MB",
                flush=True,
            )
            shape = {"rows": rows, "classes": classes, "width": width}
            found.append({**shape, "seconds": seconds, "megabytes": megabytes})
    finally:
        torch.set_num_threads(threads)
    return found

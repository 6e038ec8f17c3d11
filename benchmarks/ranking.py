"""Retrieval: R@k, R-precision and MAP@R of all rows against all, held against pytorch-metric-learning with faiss."""

from __future__ import annotations

import time
from typing import Any

import torch
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from torch.nn.functional import normalize

from benchmarks.clock import side_by_side
from benchmarks.memory import seconds_and_megabytes
from lossgauge import retrieval

WIDTH = 128


def measure() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    rows = normalize(torch.randn(10_000, WIDTH, generator=generator))
    labels = torch.randint(0, 10, (10_000,), generator=generator)
    calculator = AccuracyCalculator(
        include=("precision_at_1", "r_precision", "mean_average_precision_at_r"), k="max_bin_count"
    )
    times = side_by_side(
        {
            "floor": lambda: rows @ rows.T,
            "ours": lambda: retrieval(rows, labels),
            "PML": lambda: calculator.get_accuracy(rows, labels),
        },
    )
    print(
        f"\nretrieval 10,000 x 10,000: ours {times['ours']:.0f} ms, PML with faiss {times['PML']:.0f} ms"
        f" = {times['PML'] / times['ours']:.1f} x ours; the product alone {times['floor']:.0f} ms",
        flush=True,
    )
    # Stanford Online Products' size: 60,502 test images of 11,316 classes
    many = normalize(torch.randn(60_502, WIDTH, generator=generator))
    few = torch.randint(0, 11_316, (60_502,), generator=generator)
    seconds, megabytes = seconds_and_megabytes(lambda: retrieval(many, few))
    ten = torch.randint(0, 10, (60_502,), generator=generator)
    start = time.perf_counter()
    retrieval(many, ten)
    with_ten = time.perf_counter() - start
    print(
        f"retrieval 60,502 x 60,502: {seconds:.1f} s in 11,316 classes, {with_ten:.1f} s in 10 (R = 6,049);"
        f" peak memory grew by {megabytes:.0f} MB",
        flush=True,
    )
    return {
        **times,
        "sop_seconds": seconds,
        "sop_ten_seconds": with_ten,
        "sop_megabytes": megabytes,
    }

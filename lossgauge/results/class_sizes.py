"""Retrieval of the head, the middle and the tail of the classes: thirds by their number of training rows, as on a long tail.

Liu et al. 2019 (open long-tailed recognition, arXiv 1904.05160) has the three groups, with fixed numbers of rows; thirds fit sets of any size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from lossgauge.errors import InputError
from lossgauge.results.columns import PER_QUERY
from lossgauge.results.run_files import RunFiles
from lossgauge.types import Record

GROUPS = ("head", "middle", "tail")

SHOWN = ("recall_at_1", "map_at_r")


def thirds(sizes: Mapping[int, int]) -> dict[str, list[int]]:
    """The labels of each group, from label → training rows: the largest third first; of equal classes the lower label.

    If the classes do not divide by three, the first groups have one more.
    """
    ordered = sorted(sizes, key=lambda label: (-sizes[label], label))
    parts = np.array_split(np.array(ordered, dtype=np.int64), len(GROUPS))
    return {group: part.tolist() for group, part in zip(GROUPS, parts, strict=True)}


def group_rows(files: RunFiles, run: Record) -> list[Record]:
    """Three rows for a run: means over the test queries of the classes of a group; None without a query.

    Raises InputError if a test class has no training row, or with fewer than three classes.
    """
    rows = files.classes(str(run["run"]))
    sizes = {int(row["label"]): int(row["size"]) for row in rows if row["side"] == "train"}
    of_test = {int(row["label"]) for row in rows if row["side"] == "test"}
    if not of_test <= sizes.keys():
        raise InputError(
            f"{run['dataset']} has no head, middle and tail: its test classes have no training rows"
        )
    if len(sizes) < len(GROUPS):
        raise InputError(
            f"{run['dataset']} has {len(sizes)} classes: head, middle and tail need three"
        )
    queries = files.queries(str(run["run"]))
    return [
        {
            "group": group,
            "classes": len(labels),
            "training_rows": sum(sizes[label] for label in labels) / len(labels),
            **_means(queries, labels),
        }
        for group, labels in thirds(sizes).items()
    ]


def _means(queries: pa.Table, labels: Sequence[int]) -> Record:
    inside = np.isin(queries["label"].to_numpy(), labels)
    values = {
        column: queries[PER_QUERY[column]].to_numpy(zero_copy_only=False)[inside]
        for column in SHOWN
    }
    return {name: float(of.mean()) if len(of) else None for name, of in values.items()}

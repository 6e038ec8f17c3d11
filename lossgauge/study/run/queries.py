"""The queries of a run: a row for each sample of the test side that has another of its class."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from jaxtyping import Int
from torch import Tensor

from lossgauge.ranking.per_query import PerQuery


def query_table(of: PerQuery, rows: Int[Tensor, " queries"]) -> pa.Table:
    """The table `queries`; `rows` are the rows of the queries in the dataset, in the order in which they were ranked.

    Means over its rows are the numbers of the run to the last bit, so precisions are float64. Rows of the dataset are int32,
    similarities float32: some 40 bytes a query on disk.
    """
    row = rows.cpu().numpy().astype(np.int32)
    return pa.table(
        {
            "query": row[of.query],
            "label": of.label,
            "hit_at_1": of.first_right_rank == 1,
            "ap_at_r": of.ap_at_r,
            "r_precision": of.r_precision,
            "first_right_rank": of.first_right_rank.astype(np.int32),
            "nearest_right": row[of.nearest_right],
            "nearest_right_similarity": of.nearest_right_similarity.astype(np.float32),
            "nearest_wrong": row[of.nearest_wrong],
            "nearest_wrong_similarity": of.nearest_wrong_similarity.astype(np.float32),
        }
    )

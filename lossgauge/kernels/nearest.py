"""The highest scores of each query, kept while blocks of scores arrive: over all rows, of its class, and of other classes."""

from __future__ import annotations

import ctypes
from array import array
from functools import cache
from typing import NamedTuple

import numpy as np
from numba import carray, types  # type: ignore[attr-defined]

from lossgauge.kernels.machine_code import address_of
from lossgauge.kernels.tasks import pointer
from lossgauge.kernels.vector_math import inlined, largest

_CHUNK = 64


class NearestTask(NamedTuple):
    """The arrays of one call. Of equal scores the row that arrived first is kept."""

    scores: np.ndarray
    """float32, queries × rows of the block."""
    group: np.ndarray
    """int64: the class of each row; below 0: the row is not searched."""
    query_group: np.ndarray
    """int64."""
    query_row: np.ndarray
    """int64: the own row of each query, which is left out."""
    any_score: np.ndarray
    """float32, queries × kept, descending, −∞ where nothing was found; is updated, as all that follow."""
    any_row: np.ndarray
    """int64."""
    right_score: np.ndarray
    right_row: np.ndarray
    wrong_score: np.ndarray
    wrong_row: np.ndarray


def keep_nearest(task: NearestTask, first_row: int) -> None:
    """Update the kept scores; the block begins with row `first_row`. Runs without the interpreter lock."""
    arrays = (part.ctypes.data for part in task)
    kept = (part.shape[1] for part in (task.any_row, task.right_row, task.wrong_row))
    call = array("q", (*task.scores.shape, first_row, *kept, *arrays))
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_entry())(call.buffer_info()[0])


@cache
def _entry() -> int:
    return address_of(_keep, name="nearest")


def _keep(call):
    queries, n, first_row = call[0], call[1], call[2]
    scores = carray(pointer(call[6]), (queries, n), types.float32)
    group = carray(pointer(call[7]), (n,), types.int64)
    query_group = carray(pointer(call[8]), (queries,), types.int64)
    query_row = carray(pointer(call[9]), (queries,), types.int64)
    any_score = carray(pointer(call[10]), (queries, call[3]), types.float32)
    any_row = carray(pointer(call[11]), (queries, call[3]), types.int64)
    right_score = carray(pointer(call[12]), (queries, call[4]), types.float32)
    right_row = carray(pointer(call[13]), (queries, call[4]), types.int64)
    wrong_score = carray(pointer(call[14]), (queries, call[5]), types.float32)
    wrong_row = carray(pointer(call[15]), (queries, call[5]), types.int64)
    for q in range(queries):
        row = scores[q]
        own, of = query_row[q] - first_row, query_group[q]
        for start in range(0, n, _CHUNK):
            chunk = row[start : min(start + _CHUNK, n)]
            least = min(any_score[q, -1], min(right_score[q, -1], wrong_score[q, -1]))
            if not largest(chunk, np.float32(-np.inf)) > least:
                continue
            for j in range(len(chunk)):
                at, score = start + j, chunk[j]
                if score > least and group[at] >= 0 and at != own:
                    _insert(any_score[q], any_row[q], score, first_row + at)
                    if group[at] == of:
                        _insert(right_score[q], right_row[q], score, first_row + at)
                    else:
                        _insert(wrong_score[q], wrong_row[q], score, first_row + at)


@inlined
def _insert(scores, rows, score, row):
    place = len(scores)
    while place > 0 and score > scores[place - 1]:
        place -= 1
    for k in range(len(scores) - 1, place, -1):
        scores[k] = scores[k - 1]
        rows[k] = rows[k - 1]
    if place < len(scores):
        scores[place] = score
        rows[place] = row

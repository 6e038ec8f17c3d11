"""A group of ranks (gloo) for tests: this process is rank 0, and the others are children that wait for functions to call."""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch.distributed as dist

from lossgauge.worker_process import WorkerProcess, open_connection, receive_orders
from tests.support.documents import ROOT

PATIENCE = timedelta(minutes=2)
"""After which a rank that waits for another one fails."""


class Ranks:
    """The children, and a call on all ranks."""

    def __init__(self, children: list[WorkerProcess]) -> None:
        self.children = children

    def call(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """`function(rank, *arguments)` on every rank at the same time: the results in the order of ranks.

        `function` is one that the children can import. An error of a child is raised here.
        """
        for child in self.children:
            child.send(_bytes((function, arguments)))
        try:
            results = [function(0, *arguments)]
        except BaseException:
            self.stop()  # they may wait for this rank
            raise
        for child in self.children:
            error, result = pickle.loads(child.receive())
            assert not error, error
            results.append(result)
        return results

    def stop(self) -> None:
        """Kill the children."""
        for child in self.children:
            child.stop()


@contextmanager
def ranks(count: int, folder: Path) -> Iterator[Ranks]:
    """A group of `count` ranks, which ends with the block; `folder` is empty, and gets the children's output."""
    where = f"file://{folder / 'group'}"
    with (
        patch.dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT), *sys.path])),
        (folder / "children.log").open("wb") as log,
    ):
        group = Ranks(
            [
                WorkerProcess(__name__, where, str(rank), str(count), threads=1, log=log)
                for rank in range(1, count)
            ]
        )
    try:
        join(where, 0, count)
        yield group
    finally:
        group.stop()
        if dist.is_initialized():
            dist.destroy_process_group()


def join(where: str, rank: int, count: int) -> None:
    """Join the group of a folder as one of its ranks."""
    dist.init_process_group(
        "gloo", init_method=where, rank=rank, world_size=count, timeout=PATIENCE
    )


def main(where: str, rank: str, count: str, connection_number: str) -> None:
    """A child: calls what it is sent."""
    connection = open_connection(connection_number)
    orders = receive_orders(connection)
    join(where, int(rank), int(count))
    for order in orders:
        function, arguments = pickle.loads(order)
        try:
            connection.send(_bytes(("", function(int(rank), *arguments))))
        except Exception:
            connection.send(_bytes((traceback.format_exc(), None)))


def _bytes(message: Any) -> bytes:
    # a connection would send tensors through shared memory, which needs a parent that multiprocessing started
    return pickle.dumps(message)

"""In a worker process: it receives runs, does them, and reports each epoch."""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path

from lossgauge.results.writer import Store
from lossgauge.study.engines.features_file import read_features_file
from lossgauge.study.run.guarded import run_guarded
from lossgauge.study.schedule.runs import Run
from lossgauge.worker_process import open_connection, receive_orders


def main(folder: str, number: str) -> None:
    """Do runs of the study in `folder` until the study ends."""
    connection = open_connection(number)
    features = lru_cache(maxsize=4)(read_features_file)
    store = Store(Path(folder))
    with store.shared_lock():
        for order in receive_orders(connection):
            end = run_guarded(
                Run.from_json(order["run"]),
                partial(features, Path(order["features"])),
                store,
                on_epoch=lambda epoch: connection.send({"epoch": epoch}),
                device=order["device"],
            )
            connection.send({"ended": end.as_json()})

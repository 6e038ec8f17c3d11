"""A worker: `python -m lossgauge.study.engines.worker FOLDER`. Runs come as lines of JSON, ends go back as such.

It ends where its input does: a study that is killed takes its workers along. What a user's loss prints goes to
the log, which is all that standard error is, and never between the lines.
"""

from __future__ import annotations

import faulthandler
import json
import os
import queue
import signal
import sys
import threading
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from lossgauge.results.writer import Store
from lossgauge.study.engines.features_file import read_features_file
from lossgauge.study.run.guarded import run_guarded
from lossgauge.study.schedule.runs import Run


def main(folder: Path) -> None:
    """Do runs until the input ends."""
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the study's to answer
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    orders: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(orders,), daemon=True).start()
    features = lru_cache(maxsize=4)(read_features_file)

    def tell(**words: Any) -> None:
        answers.write(json.dumps(words) + "\n")
        answers.flush()

    store = Store(folder)
    with store.shared_lock():
        tell(ready=True)
        while True:
            order = json.loads(orders.get())
            run = Run.from_json(order["run"])
            end = run_guarded(
                run,
                partial(features, Path(order["features"])),
                store,
                on_epoch=lambda epoch: tell(epoch=epoch),
                device=order["device"],
            )
            tell(ended=end.as_json())


def _listen(orders: queue.Queue[str]) -> None:
    for line in sys.stdin:
        orders.put(line)
    os._exit(0)  # in the middle of a run, too: the checkpoint is what counts


if __name__ == "__main__":
    main(Path(sys.argv[1]))

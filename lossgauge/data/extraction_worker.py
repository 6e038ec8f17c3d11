"""In a worker process: it receives numbers of batches, and sends their features."""

from __future__ import annotations

import pickle
from contextlib import suppress
from pathlib import Path

from lossgauge.data.extraction import extract_batches
from lossgauge.errors import InputError
from lossgauge.user_file import import_file
from lossgauge.worker_process import open_connection, receive_orders


def main(path: str, number: str) -> None:
    """Extract the requested batches until the connection is closed.

    The file at `path` holds, pickled by the process that started this one: the user's files that have to be imported,
    the images and the backbone.
    """
    connection = open_connection(number)
    orders = receive_orders(connection)
    with Path(path).open("rb") as file:
        for user_file in pickle.load(file):
            # one that is not the backbone's may be deleted or broken: if it is needed, the next line fails
            with suppress(InputError, OSError):
                import_file(Path(user_file), shown=user_file)
        images, backbone = pickle.load(file)
    connection.send("ready")
    for starts in orders:
        for rows, *others in extract_batches(images, backbone, starts, decoders=1):
            connection.send((rows.numpy(), *others))

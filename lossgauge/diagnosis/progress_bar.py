"""A bar over the rows, where standard error is a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@contextmanager
def show_rows(*, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A function to call with the rows that are done, and all."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal or console.is_dumb_terminal:
        yield lambda done, rows: None
        return
    columns = (BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(
        TextColumn("{task.description}", markup=False), *columns, console=console, transient=True
    ) as bar:
        task = bar.add_task("reading rows", total=None)
        yield lambda done, rows: bar.update(
            task,
            completed=done,
            total=rows,
            description="reading rows" if done < rows else "comparing rows",
        )

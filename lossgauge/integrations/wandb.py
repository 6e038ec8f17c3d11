"""Weights & Biases: the runs of a study, offline in a folder unless WANDB_MODE=online.   https://docs.wandb.ai

The id of a run is its id in the study, so a second `wandb sync` of the same run does not create a second one. No
information about the machine, the code or the console is stored.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lossgauge.errors import MissingExtra, StudyError
from lossgauge.integrations.environ import variable
from lossgauge.integrations.exporter import Exporter, RunSource
from lossgauge.integrations.tracked import EPOCH, TrackedRun

RUNS = "wandb"
"""Folder of the offline runs: `wandb sync FOLDER/wandb/offline-run-*`."""

LOG_SECONDS = 10.0
"""The longest time until the log of an ended run is on the disk."""

_NO_REPORTS = ("WANDB_ERROR_REPORTING", "false")
"""wandb sends its own errors to its makers, offline too."""


def check_installed() -> None:
    """Raises MissingExtra, which says how to install wandb. It is not imported: that makes a temporary folder."""
    if find_spec("wandb") is None:
        raise MissingExtra("export to wandb needs wandb: pip install 'lossgauge[wandb]'")


def is_online() -> bool:
    """Whether the user has asked for runs to be sent: WANDB_MODE=online, and nothing else."""
    return os.environ.get("WANDB_MODE") == "online"


def project_name(study: str) -> str:
    """WANDB_PROJECT, or the name of the study without the characters that a project name may not contain."""
    return os.environ.get("WANDB_PROJECT") or re.sub(r"[/\\#?%:]+", "-", study)[:128]


def write_wandb(export: RunSource) -> None:
    """Add missing runs: in the folder, or online, where a run of the same id is replaced.

    Raises StudyError with the message of wandb if it cannot be written, and if the log of a run lacks its end: on a
    full disk, wandb ends without an error.
    """
    folder = export.folder or Path()
    check_installed()
    with variable(*_NO_REPORTS), _quiet(), _beside(folder) as place, _temporary(place):
        wandb = import_module("wandb")
        # not one of wandb's own errors: a run that could not be finished keeps its id in use until this process ends
        answers = import_module("wandb.sdk.mailbox.mailbox_handle")
        for run in export.runs():
            if not is_online() and _is_exported(folder, run):
                continue
            try:
                _write_run(wandb, run, project=project_name(export.study), place=place)
            except (wandb.errors.Error, answers.ServerResponseError) as error:
                raise StudyError(f"wandb cannot be written: {error}") from None
            if not is_online() and not _is_whole(place, run):
                raise StudyError(
                    f"{folder} cannot be written: the wandb log of the run {run.name} is incomplete; is the disk full?"
                )
            _keep(place, folder)


def _is_exported(folder: Path, run: TrackedRun) -> bool:
    return any((folder / RUNS).glob(f"offline-run-????????_??????-{run.id}"))


def _write_run(wandb: Any, run: TrackedRun, *, project: str, place: Path) -> None:
    settings = wandb.Settings(
        mode="online" if is_online() else "offline",
        root_dir=str(place),
        project=project,
        run_id=run.id,
        run_name=run.name,
        run_group=f"{run.dataset}/{run.loss}"[:128],
        run_job_type=run.tags["variant"],
        reinit="create_new",  # a run that the user started in this process continues
        silent=True,
        console="off",
        symlink=False,
        host="",
        disable_code=True,
        disable_git=True,
        save_code=False,
        x_save_requirements=False,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
    )
    study = {f"study.{name}": value for name, value in run.tags.items()}
    with wandb.init(settings=settings, config={**run.config, **study}) as made:
        for epoch, values in run.epochs:
            made.log({EPOCH: epoch, **values}, step=epoch)
        made.summary.update(run.summary)


def _is_whole(place: Path, run: TrackedRun) -> bool:
    """Whether wandb's log of an offline run has every epoch and its end, after some seconds at most.

    A process of wandb writes it, and `finish` does not wait until the last bytes are written.
    """
    deadline = time.monotonic() + LOG_SECONDS
    while True:
        logs = list((place / RUNS).glob(f"offline-run-*/run-{run.id}.wandb"))
        kinds = [kind for path in logs for kind in _kinds(path.read_bytes())]
        if kinds.count("history") >= len(run.epochs) and "exit" in kinds:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)


def _kinds(log: bytes) -> Iterator[str]:
    """The kind of each record of a log: blocks of 32 KiB in LevelDB's format, after seven bytes of wandb."""
    record = import_module("wandb.proto.wandb_internal_pb2").Record
    undecodable = import_module("google.protobuf.message").DecodeError
    at, parts = 7, b""
    while at + _HEADER.size <= len(log):
        if _BLOCK - at % _BLOCK < _HEADER.size:  # no header begins in the last bytes of a block
            at += _BLOCK - at % _BLOCK
            continue
        _, size, kind = _HEADER.unpack_from(log, at)
        at += _HEADER.size
        if kind not in _PARTS or at + size > len(log):
            return
        parts += log[at : at + size]
        at += size
        if kind in _LAST_PARTS:
            try:
                yield record.FromString(parts).WhichOneof("record_type")
            except undecodable:
                return
            parts = b""


_BLOCK, _HEADER = 32_768, struct.Struct("<IHB")
_PARTS, _LAST_PARTS = (1, 2, 3, 4), (1, 4)
"""A complete record, and the first, middle and last part of one."""


def _keep(place: Path, folder: Path) -> None:
    """A run is complete when its folder has its final name, which takes one rename."""
    (folder / RUNS).mkdir(exist_ok=True)
    for done in (place / RUNS).iterdir():
        if done.is_dir():
            done.rename(folder / RUNS / done.name)


@contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """A folder for unfinished runs, on the same disk."""
    for left in folder.glob(".new-*"):
        shutil.rmtree(left, ignore_errors=True)
    place = Path(tempfile.mkdtemp(prefix=".new-", dir=folder))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _temporary(place: Path) -> Iterator[None]:
    """`place` as the folder for temporary files, where this machine has none that can be written: wandb asks for one."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        with variable("TMPDIR", str(place.resolve())):
            tempfile.tempdir = str(place.resolve())
            try:
                yield
            finally:
                tempfile.tempdir = None
    else:
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the tracebacks for lines of its debug log that cannot be written."""
    before = logging.raiseExceptions
    logging.raiseExceptions = False
    try:
        yield
    finally:
        logging.raiseExceptions = before


def _location(export: RunSource) -> str:
    if is_online():
        return f"project {project_name(export.study)!r} at Weights & Biases; its logs in {export.folder}"
    return str(export.folder)


EXPORTER = Exporter(
    write=write_wandb, check_installed=check_installed, adds_runs=True, location=_location
)

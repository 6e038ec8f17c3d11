"""The code that a run's numbers come from, as one hash: a change of it makes other runs and reuses no old result."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import lossgauge
from lossgauge.losses.registry import loss_class
from lossgauge.plan.loss import UNTRAINED
from lossgauge.user_file import code_digest

PACKAGE = Path(lossgauge.__file__).parent

SHARED = (
    "batch.py",
    "data/samplers.py",
    "data/splits.py",
    "diagnostics",
    "heads.py",
    "kernels",
    "losses/base.py",
    "losses/class_terms.py",
    "losses/closed_form.py",
    "losses/compiled.py",
    "losses/pairs.py",
    "losses/proxies.py",
    "losses/softmax_family.py",
    "ranking",
    "sphere.py",
    "study/run/measure.py",
    "study/run/execute.py",
    "study/run/run_log.py",
    "training.py",
)
"""Files and folders of this package that every run goes through."""


def code_of(loss: str) -> str:
    """SHA-256 over the code of a loss's runs: the loss's file, or a user's with the neighbours that it imports, and SHARED."""
    path = Path(loss.rpartition(":")[0])
    if loss == UNTRAINED:
        own = ""
    elif path.is_file():
        loss_class(loss)  # what is imported is known by importing it
        own = code_digest(path)
    else:
        own = _digest([Path(inspect.getsourcefile(loss_class(loss)) or "")])
    return hashlib.sha256(f"{_shared()} {own}".encode()).hexdigest()


@cache
def _shared() -> str:
    """Of what is loaded already: an edit counts for the next process."""
    places = [PACKAGE / name for name in SHARED]
    return _digest(
        file
        for place in places
        for file in (sorted(place.glob("*.py")) if place.is_dir() else [place])
    )


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\t" + file.read_bytes() + b"\n")
    return digest.hexdigest()

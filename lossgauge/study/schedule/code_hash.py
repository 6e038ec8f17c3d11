"""The code that decides a run's numbers, as one hash in the run's id: new code never reuses an old result.

Files are found by following imports from where a run's numbers are made: the loop, the loss, the dataset's reader and
the backbone. What counts of a file is its meaning (`syntax.py`), so a comment or a docstring changes no id.
"""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import lossgauge
from lossgauge.losses.registry import loss_class
from lossgauge.plan.loss import UNTRAINED
from lossgauge.study.schedule.syntax import read_source
from lossgauge.user_file import files_of

PACKAGE = Path(lossgauge.__file__).parent

LOOP, EXTRACTION = "study/run/execute.py", "data/features.py"
"""Every run goes through these, and through what they import."""

NO_NUMBERS = {
    "errors.py": "text of errors",
    "types.py": "records that carry numbers: a field has no formula",
    "files.py": "bytes to disk and back, verified by a checksum",
    "results": "the study's folder: what a run has computed is written and read",
    "plan": "the settings, which are in the run's config",
    "study/schedule": "the run's config, which is in the id itself, and this hash",
    "losses/registry.py": "finds the loss, whose own file is in the hash",
    "user_file.py": "imports a user's file, which is in the hash",
    "user_folders.py": "where caches lie",
    "settings.py": "names of settings, whose values are in the run's config",
    "machine.py": "how many cores and how much memory there are",
    "worker_process.py": "a process that extracts the same features",
    "terminal.py": "text for a terminal",
    "portable.py": "text without the folders of this machine",
    "stats/number_format.py": "numbers as text",
}
"""Where imports are not followed: files and folders that carry numbers and compute none; and why."""


def code_of(loss: str, *, dataset: str, backbone: str, package: Path = PACKAGE) -> str:
    """SHA-256 of the code that decides the numbers of a run; `package` is this package's folder, or a copy of it.

    A user's loss counts with the neighbours that it imports. If it imports this package, all losses of the package count
    too. A user's backbone and dataset are in the run's config by their content. Takes about a tenth of a second, once a
    process and loss. Raises InputError if there is no such loss.
    """
    starts = {LOOP, EXTRACTION, *_reader(dataset, package), *_backbone(backbone, package)}
    own = ""
    path = Path(loss.rpartition(":")[0])
    if os.path.isfile(path):  # false for a name that is too long, too
        loss_class(loss)  # its neighbours are known once it is imported
        sources = [read_source(file.read_bytes(), own=False) for file in files_of(path)]
        own = "".join(source.meaning for source in sources)
        modules = {module for source in sources for module in source.imports}
        if any(module.partition(".")[0] == "lossgauge" for module in modules):
            starts |= {file for module in modules for file in _files(module, package)}
            starts |= {f"losses/{file.name}" for file in (package / "losses").glob("[!_]*.py")}
    elif loss != UNTRAINED:
        made = loss_class(loss)
        if getattr(made, "wraps_losses", False):
            starts |= {f"losses/{own.name}" for own in (package / "losses").glob("[!_]*.py")}
        file = inspect.getsourcefile(made) or ""
        starts.add(Path(file).relative_to(PACKAGE).as_posix())
    return hashlib.sha256(f"{_code_from(package, frozenset(starts))} {own}".encode()).hexdigest()


def reached(starts: Iterable[str], package: Path = PACKAGE) -> set[str]:
    """Files of the package that are reached by imports from `starts`, these included; not those of NO_NUMBERS."""
    found: set[str] = set()
    ahead = [file for file in starts if not makes_no_numbers(file)]
    while ahead:
        file = ahead.pop()
        if file not in found:
            found.add(file)
            imports = read_source((package / file).read_bytes(), own=True).imports
            files = {name for module in imports for name in _files(module, package)}
            ahead += [name for name in files if not makes_no_numbers(name)]
    return found


def makes_no_numbers(file: str) -> bool:
    """Whether a file of the package is one of NO_NUMBERS, or in a folder of it; or a list of names, as __init__.py is."""
    parents = (file, *(parent.as_posix() for parent in Path(file).parents))
    return Path(file).name == "__init__.py" or not NO_NUMBERS.keys().isdisjoint(parents)


@cache
def _code_from(package: Path, starts: frozenset[str]) -> str:
    """Of the files as they are at the first call: an edit counts for the next process."""
    return _digest(
        {
            name: read_source((package / name).read_bytes(), own=True).meaning
            for name in reached(starts, package)
        }
    )


def _reader(dataset: str, package: Path) -> set[str]:
    """The files that read a dataset of that name; none for a dataset that the caller made."""
    kind, colon, _ = dataset.partition(":")
    file = f"data/{kind.replace('-', '_')}.py"
    if "/" in kind or not os.path.isfile(package / file):
        return set()
    return {file} if colon else {file, "data/hub.py"}  # a named dataset may come from the hub


def _backbone(name: str, package: Path) -> set[str]:
    """The files of a backbone: without a file of its name, it is a model of transformers, or a user's own."""
    file = f"backbones/{name.replace('-', '_')}.py"
    if "/" not in name and os.path.isfile(package / file):
        return {file}
    return {"backbones/transformers_model.py", "backbones/own_file.py"}


def _files(module: str, package: Path) -> list[str]:
    """The file of a module of this package; of a name in a module, the module's file. None for other modules."""
    top, *parts = module.split(".")
    if top != "lossgauge":
        return []
    for length in range(len(parts), 0, -1):
        path = "/".join(parts[:length])
        for file in (f"{path}.py", f"{path}/__init__.py"):
            if (package / file).is_file():
                return [file]
    return ["__init__.py"]


def _digest(meanings: dict[str, str]) -> str:
    text = "".join(f"{name}\t{meaning}\n" for name, meaning in sorted(meanings.items()))
    return hashlib.sha256(text.encode()).hexdigest()

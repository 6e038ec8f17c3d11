"""The cache of features: verified on each use, and written so that a killed process loses at most one shard.

    <cache>/<key>/shard-00000.safetensors …   features of consecutive images, in the dataset's order
    <cache>/<key>/manifest.json               what they depend on, the shards with their SHA-256, images skipped
    <cache>/.<key>.draft/                     an entry that is not complete: shards, and a journal with one line per shard
    <cache>/.<key>.lock                       held by the process that writes it; others wait

The key is a hash over the images, the backbone's weights and its preprocessing. The split is not part of it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
from jaxtyping import Float
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from lossgauge.data.locations import regular
from lossgauge.errors import CacheError, DataError
from lossgauge.user_folders import cache_folder

SHARD_BYTES = 2**26
"""Size of a shard: some seconds of extraction, which is the most that a killed process can lose."""

_log = logging.getLogger(__name__)
_MANIFEST, _JOURNAL = "manifest.json", "journal.jsonl"
_ENTRY = re.compile(r"[^.].*-[0-9a-f]{16}")


class Shard(NamedTuple):
    """One file of an entry."""

    file: Annotated[str, Field(pattern=r"^shard-[0-9]+\.safetensors$")]
    rows: Annotated[int, Field(ge=0)]
    next_image: int
    """Number of the image after the last one it covers."""
    skipped: list[int]
    """Numbers of images it leaves out because they could not be read."""
    sha256: str


class _Manifest(BaseModel):
    """manifest.json, without its last line: the checksum."""

    identity: dict[str, str]
    shards: list[Shard]


_MANIFESTS, _SHARDS = TypeAdapter(_Manifest), TypeAdapter(Shard)


class Entry(NamedTuple):
    """A folder in the cache."""

    folder: Path
    rows: int | None
    """None where the manifest cannot be read."""
    bytes: int
    what: str
    """Dataset and backbone."""


def default_cache() -> Path:
    """The folder for features: LOSSGAUGE_CACHE, ~/.cache/lossgauge, or without a home a temporary folder."""
    return cache_folder()


def key_of(identity: Mapping[str, str]) -> str:
    """The name of an entry: readable, with a hash of everything it depends on at the end."""
    digest = hashlib.sha256(json.dumps(dict(identity), sort_keys=True).encode()).hexdigest()
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{identity['dataset']}-{identity['backbone']}")
    return f"{readable.lstrip('.-')[-100:]}-{digest[:16]}"


class Draft:
    """An entry that is not complete. The shards of a killed process are used again, up to the first damaged one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.shards = list(_whole_shards(folder))
        # the journal up to the first incomplete line
        (folder / _JOURNAL).write_text("".join(map(_line, self.shards)))

    @property
    def next_image(self) -> int:
        """Number of the next image to extract."""
        return self.shards[-1].next_image if self.shards else 0

    def add(
        self, rows: Float[Tensor, "rows width"], *, next_image: int, skipped: Sequence[int]
    ) -> None:
        """Write one more shard."""
        name = f"shard-{len(self.shards):05}.safetensors"
        content = save_tensors({"features": rows})
        _write(self.folder / name, content)
        digest = hashlib.sha256(content).hexdigest()
        shard = Shard(name, len(rows), next_image, list(skipped), digest)
        with (self.folder / _JOURNAL).open("a") as journal:
            journal.write(_line(shard))
            journal.flush()
            os.fsync(journal.fileno())
        self.shards.append(shard)

    def publish(self, entry: Path, identity: Mapping[str, str]) -> None:
        """Turn the draft into the entry with this name; an older entry is deleted."""
        manifest = {
            "identity": dict(identity),
            "shards": [shard._asdict() for shard in self.shards],
        }
        text = json.dumps(manifest, sort_keys=True, indent=1)
        # the manifest has the checksums of the shards, and its last line that of the manifest
        _write(self.folder / _MANIFEST, f"{text}\n{_digest(text)}\n".encode())
        (self.folder / _JOURNAL).unlink()
        old = entry.with_name(f".{entry.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if entry.is_dir():
            entry.rename(old)
        self.folder.rename(entry)
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def drafting(entry: Path, *, refresh: bool) -> Iterator[Draft | None]:
    """The draft of `entry`, locked for this process: waits while another process writes it.

    None if the entry exists after the wait, unless `refresh` requests a new one. Raises CacheError if the cache
    cannot be written; complete shards stay for the next try.
    """
    folder = entry.with_name(f".{entry.name}.draft")
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        lock_path = entry.with_name(f".{entry.name}.lock")
        with _locked(lock_path):
            if entry.is_dir() and not refresh:
                yield None
            else:
                draft = Draft(folder)
                try:
                    yield draft
                finally:
                    if folder.is_dir() and not draft.shards:
                        shutil.rmtree(folder, ignore_errors=True)
            lock_path.unlink(missing_ok=True)
    except OSError as error:
        raise CacheError(
            f"the cache {entry.parent} cannot be written ({error}); name another in LOSSGAUGE_CACHE"
        ) from None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    while True:
        # only for this user, because anybody who can open it can lock it; links are not followed
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        with open(handle, "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _log.warning(
                    "lossgauge: waiting for a process that extracts the same features and holds the lock %s",
                    path,
                )
                fcntl.flock(lock, fcntl.LOCK_EX)
            # the process that held it may have deleted the file: then others hold another of its name
            if path.exists() and path.stat().st_ino == os.fstat(lock.fileno()).st_ino:
                yield
                return


def read_entry(
    entry: Path, identity: Mapping[str, str]
) -> tuple[Float[Tensor, "rows width"], list[int]]:
    """All features of an entry, and the numbers of the images that were skipped. Every byte is verified.

    Raises CacheError, which names the damaged file. Memory holds the features and one shard.
    """
    written_for, shards = _read_manifest(entry)
    if written_for != dict(identity):
        raise damaged(entry / _MANIFEST, "it belongs to other images or another backbone")
    blocks, at = None, 0
    for shard in shards:
        rows = _read_shard(entry / shard.file, shard)
        if shard.rows == 0:  # all its images were skipped
            continue
        if blocks is None:
            blocks = rows.new_empty(sum(s.rows for s in shards), rows.shape[1])
        if rows.shape[1] != blocks.shape[1]:
            raise damaged(entry / shard.file, "its rows have another width than the earlier shards")
        blocks[at : at + len(rows)] = rows
        at += len(rows)
    if blocks is None:
        raise damaged(entry / _MANIFEST, "it lists no shards")
    return blocks, [row for shard in shards for row in shard.skipped]


def entries(cache: Path) -> list[Entry]:
    """The entries of the cache, by name, without drafts."""
    listed = []
    for folder in sorted(cache.iterdir()) if cache.is_dir() else ():
        if not (folder.is_dir() and _ENTRY.fullmatch(folder.name)):
            continue
        size = sum(path.stat().st_size for path in folder.iterdir())
        try:
            identity, shards = _read_manifest(folder)
        except CacheError:
            listed.append(Entry(folder, None, size, "not readable"))
            continue
        what = f"{identity['dataset']} by {identity['backbone']}"
        listed.append(Entry(folder, sum(shard.rows for shard in shards), size, what))
    return listed


def verify(entry: Path) -> None:
    """Read every byte of an entry. Raises CacheError, which names the damaged file."""
    for shard in _read_manifest(entry)[1]:
        _read_shard(entry / shard.file, shard)


def remove(entry: Path) -> None:
    """Delete an entry: its manifest first, so that a partly deleted entry never looks complete."""
    (entry / _MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(entry)


def damaged(path: Path, why: str) -> CacheError:
    """The error for a file whose content is not what was written."""
    return CacheError(
        f"{path} is damaged ({why}); remove it with `lossgauge cache rm {path.parent.name}`, "
        "and the same command extracts it again"
    )


def _read_manifest(entry: Path) -> tuple[dict[str, str], list[Shard]]:
    path = entry / _MANIFEST
    try:
        text, _, digest = regular(path).read_bytes().decode().removesuffix("\n").rpartition("\n")
    except (OSError, UnicodeDecodeError, DataError) as error:
        raise damaged(path, str(error)) from None
    if _digest(text) != digest:
        raise damaged(path, "its SHA-256 does not match")
    try:
        manifest = _MANIFESTS.validate_json(text)
    except ValidationError:  # complete, but not of this version
        raise damaged(path, "another version of lossgauge wrote it") from None
    return manifest.identity, manifest.shards


def _read_shard(path: Path, shard: Shard) -> Float[Tensor, "rows width"]:
    try:
        content = regular(path).read_bytes()
    except (OSError, DataError) as error:
        raise damaged(path, str(error)) from None
    if hashlib.sha256(content).hexdigest() != shard.sha256:
        raise damaged(path, "its SHA-256 differs from the manifest")
    try:
        rows: Tensor = load_tensors(content)["features"]
    except (SafetensorError, KeyError) as error:
        raise damaged(path, str(error)) from None
    if rows.ndim != 2 or len(rows) != shard.rows or rows.dtype != torch.float32:
        raise damaged(path, f"its array has shape {tuple(rows.shape)} and type {rows.dtype}")
    return rows


def _whole_shards(draft: Path) -> Iterator[Shard]:
    """Shards of the journal, up to the first that is damaged."""
    journal = draft / _JOURNAL
    for line in journal.read_bytes().splitlines() if journal.is_file() else ():
        text, _, digest = line.decode(errors="replace").rpartition(" ")
        if _digest(text) != digest:
            return  # incomplete: its process was killed
        try:
            shard = _SHARDS.validate_json(text)
            _read_shard(draft / shard.file, shard)
        except (CacheError, ValidationError):
            return
        yield shard


def _line(shard: Shard) -> str:
    text = json.dumps(shard._asdict())
    return f"{text} {_digest(text)}\n"


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

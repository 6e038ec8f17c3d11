"""An exported head: a folder with its weights and its manifest, and the torch module that is made of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from typing import cast

from jaxtyping import Float
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from lossgauge.deployment.backbone import backbone_of
from lossgauge.deployment.manifest import FORMAT, KIND, FileRecord, HeadRecord, Manifest
from lossgauge.errors import CacheError, DataError, DiskError, InputError
from lossgauge.files import (
    AGAIN,
    MANIFEST,
    atomic_folder,
    check_folder,
    damaged,
    fingerprint,
    read_json,
    remove_leftovers,
    write_json,
)
from lossgauge.heads import ResidualHead, make_head
from lossgauge.plan.rules import first_problem
from lossgauge.sphere import normalized
from lossgauge.types import Backbone
from lossgauge.user_folders import can_be_written

WEIGHTS = "head.safetensors"
CENTER = "center"
"""The tensor that is subtracted from the features."""

EXPORT = "export the head again with `lossgauge head`"


class ExportedHead(nn.Module):
    """Features of the backbone in, embeddings of length 1 out: `head(features)`.

    A head that was trained on queries and documents has `embed_documents(features)` beside it: the same, unless only queries pass
    through the head (`manifest.head.sides`). Its parameters are frozen, and it is float32 on the CPU until it is moved like any module. `manifest` says what it
    was trained on, which backbone it needs, and its score thresholds.
    """

    center: Tensor

    def __init__(self, manifest: Manifest, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.manifest = manifest
        self.register_buffer(CENTER, tensors[CENTER])
        self.head = module_of(manifest.head)
        self.head.load_state_dict({k: v for k, v in tensors.items() if k != CENTER})
        self.eval().requires_grad_(False)

    @property
    def layers(self) -> dict[str, nn.Linear]:
        """The linear layers by their names, in order: `linear`, or `hidden`, a ReLU, `linear`.

        A residual head e + B·A·e is one layer with the weight I + B·A.
        """
        if isinstance(self.head, ResidualHead):
            return {"linear": self.head.as_linear()}
        return {name: cast(nn.Linear, layer) for name, layer in self.head.named_children()}

    @property
    def feature_width(self) -> int:
        return self.manifest.head.feature_width

    @property
    def embedding_size(self) -> int:
        return self.manifest.head.embedding_size

    def forward(self, features: Float[Tensor, "rows width"]) -> Float[Tensor, "rows size"]:
        """Embeddings of rows of features as the backbone gives them. Raises InputError for rows of another width.

        Rows of any float type; memory is that of the features and of the embeddings.
        """
        return cast(Tensor, self.head(self._centered(features)))

    def embed_documents(self, features: Float[Tensor, "rows width"]) -> Float[Tensor, "rows size"]:
        """Embeddings of documents, where `head(features)` are those of queries. Raises InputError for rows of another width."""
        if self.manifest.head.sides == "query":
            return normalized(self._centered(features))
        return self.forward(features)

    def _centered(self, features: Float[Tensor, "rows width"]) -> Float[Tensor, "rows width"]:
        if features.ndim != 2 or features.shape[1] != self.feature_width:
            raise InputError(
                f"this head takes (rows, {self.feature_width}) features of {self.manifest.backbone.name}, got shape "
                f"{tuple(features.shape)}"
            )
        if not features.is_floating_point():
            kind = str(features.dtype).removeprefix("torch.")
            raise InputError(f"features must be floats, got {kind}: convert them with .float()")
        return features.to(self.center.dtype) - self.center

    def load_backbone(self, name: str | None = None, *, download: bool = False) -> Backbone:
        """The backbone that the head was trained with; `name` if it has another name or place on this machine.

        Raises InputError if its weights or preprocessing are others, and for a head of given embeddings.
        """
        return backbone_of(self.manifest, name, download=download)


def module_of(record: HeadRecord) -> nn.Module:
    """An untrained module of that form. Raises InputError if a size is missing."""
    for kind, name in (("mlp", "hidden_size"), ("residual", "rank")):
        if record.kind == kind and getattr(record, name) is None:
            raise InputError(f"a head of the kind {kind} needs {name}")
    return make_head(
        record.kind,
        record.feature_width,
        embedding_size=record.embedding_size,
        hidden_size=record.hidden_size,
        rank=record.rank,
    )


def load_head(folder: str | Path) -> ExportedHead:
    """The head in a folder that `lossgauge head` wrote. Every file is checked against its SHA-256.

    Raises DataError if the folder has no head or one of another format, and CacheError if a file is damaged.
    """
    if not isinstance(folder, str | Path):
        raise InputError(f"the folder of a head must be a path, got {folder!r}")
    folder = Path(folder)
    try:
        manifest = _manifest(folder)
        content = check_folder(folder, of=KIND, needed={WEIGHTS}, load={WEIGHTS: _tensors})
        return ExportedHead(manifest, content[WEIGHTS])
    except CacheError as error:
        raise CacheError(str(error).replace(AGAIN, EXPORT)) from None
    except (KeyError, RuntimeError):
        # the bytes are those that were written, so the manifest is not that of these weights
        form = f"its tensors are not those of the head in {MANIFEST}"
        raise CacheError(f"{folder / WEIGHTS} is damaged ({form}); {EXPORT}") from None


def write_head(
    folder: Path,
    manifest: Manifest,
    tensors: Mapping[str, Tensor],
    others: Mapping[str, bytes] | None = None,
) -> ExportedHead:
    """Write a head completely or not at all, with `others` by their names, and read it back.

    An earlier head is replaced. Raises InputError for a folder with anything else, DiskError if it cannot be written.
    """
    target = folder.resolve()
    check_replaceable(target)
    weights = save({name: tensor.contiguous() for name, tensor in tensors.items()})
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target)
        with atomic_folder(target) as temporary:
            for name, content in {WEIGHTS: weights, **(others or {})}.items():
                (temporary / name).write_bytes(content)
            files = {p.name: FileRecord(**fingerprint(p)) for p in sorted(temporary.iterdir())}
            written = manifest.model_copy(update={"files": files})
            write_json(temporary / MANIFEST, written.model_dump(mode="json"))
    except OSError as error:
        raise DiskError(
            f"the head cannot be written to {folder} ({error.strerror or error}); give another folder with --out"
        ) from None
    return load_head(target)


def check_replaceable(folder: Path) -> bool:
    """Whether `folder` holds an earlier head, which is replaced.

    InputError unless it is new, empty, or holds an earlier head and nothing else; DiskError if it cannot be written.
    """
    if not can_be_written(folder.parent):
        raise DiskError(
            f"{folder.parent} is not a folder that can be written; give another folder with --out"
        )
    elsewhere = "give another folder with --out, or move it away"
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise InputError(f"{folder} is a file, and a head is a folder; {elsewhere}")
    names = {path.name for path in folder.iterdir()}
    if not names:
        return False
    try:
        earlier = read_json(folder / MANIFEST)
    except CacheError:
        earlier = {}
    if earlier.get("of") != KIND:
        raise InputError(f"{folder} is neither empty nor an earlier head; {elsewhere}")
    if foreign := sorted(names - {MANIFEST, *earlier.get("files", {})}):
        raise InputError(
            f"{folder / foreign[0]} is not part of the earlier head, and a new one replaces the whole folder; "
            "move the file away, or give another folder with --out"
        )
    return True


def _manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    if not path.exists():
        what = "it is a study: " if (folder / "study.json").exists() else ""
        raise DataError(
            f"{folder} holds no head (it has no {MANIFEST}); {what}write one with `lossgauge head STUDY_FOLDER --out head`"
        )
    record = read_json(path)
    if record.get("of") != KIND:
        raise DataError(f"{path} is not the manifest of a head; {EXPORT}")
    if record.get("format") != FORMAT:
        raise DataError(
            f"{path} is of format {str(record.get('format'))[:20]}, and this version of lossgauge reads format {FORMAT}: "
            f"{EXPORT}, or use the version that wrote it ({str(record.get('lossgauge'))[:20]})"
        )
    try:
        return Manifest.model_validate_json(json.dumps(record))
    except ValidationError as error:
        raise damaged(path, first_problem(error)) from None


def _tensors(path: Path, file: BufferedReader) -> dict[str, Tensor]:
    try:
        return load(file.read())
    except (SafetensorError, ValueError) as error:
        raise damaged(path, str(error)) from None

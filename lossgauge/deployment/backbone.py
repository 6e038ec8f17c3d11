"""Whether features are those of the backbone that a head was trained with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from lossgauge.backbones import load_backbone
from lossgauge.data.embeddings import BACKBONE as GIVEN_EMBEDDINGS
from lossgauge.deployment.manifest import Manifest
from lossgauge.errors import DataError, InputError
from lossgauge.types import Backbone

WITHOUT_EFFECT = frozenset({"model", "found", "transformers"})
"""Parts of a backbone's identity that say where it came from: the same weights in another folder give the same features."""


def backbone_of(manifest: Manifest, name: str | None = None, *, download: bool = False) -> Backbone:
    """The backbone of a head, loaded and compared with what the manifest says. See `ExportedHead.load_backbone`."""
    record = manifest.backbone
    if not record.identity:
        raise InputError(
            f"this head needs no backbone: it was trained on rows of width {manifest.head.feature_width} by "
            f"{record.name}; give such rows, as embeddings:PATH"
        )
    try:
        backbone = load_backbone(name or record.name, download=download, **record.settings)
    except (DataError, InputError) as error:
        if name is not None:
            raise
        raise type(error)(
            f"the head needs the backbone {record.name}: {error}; if it has another place here, name it with --backbone"
        ) from None
    check_backbone(manifest, backbone.name, backbone.identity)
    return backbone


def check_backbone(manifest: Manifest, name: str, identity: Mapping[str, str]) -> None:
    """InputError if a backbone of this name and identity gives other features than the head was trained on."""
    difference = difference_of(manifest.backbone.identity, identity)
    if not difference:
        return
    expected = manifest.backbone.name
    what = f"this {name}: {difference}" if name == expected else name
    raise InputError(
        f"this head is for features of {expected}, not of {what}; use that backbone, or train a head for this one"
    )


def difference_of(expected: Mapping[str, str], given: Mapping[str, str]) -> str:
    """The first difference that changes features, in words; empty if there is none."""
    for key in sorted((expected.keys() | given.keys()) - WITHOUT_EFFECT):
        if expected.get(key) != given.get(key):
            return f"its {key} is {_short(given.get(key))}, and the head was trained with {_short(expected.get(key))}"
    return ""


def hash_of(identity: Mapping[str, str]) -> str | None:
    """SHA-256 of all that changes features; None if nothing is known, as of given embeddings."""
    if not identity:
        return None
    known = {key: value for key, value in identity.items() if key not in WITHOUT_EFFECT}
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def check_stated(manifest: Manifest, stated: str | None, source: str) -> None:
    """InputError unless a table of rows, which does not say where it comes from, may be features for this head."""
    expected = manifest.backbone.name
    if (stated or GIVEN_EMBEDDINGS) == expected:
        return
    if stated is None:
        raise InputError(
            f"this head is for features of {expected}, and {source} does not say which backbone its rows come from: "
            f"if they are such features, say --backbone {expected}"
        )
    raise InputError(
        f"this head is for features of {expected}, not of {stated}; use that backbone, or train a head for this one"
    )


def _short(value: str | None) -> str:
    if value is None:
        return "not known"
    return value if len(value) <= 24 else f"{value[:12]}…"

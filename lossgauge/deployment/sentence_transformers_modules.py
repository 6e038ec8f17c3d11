"""A head as modules of sentence-transformers: alone, to be appended to a model of that library, or behind its text backbone, as a whole model.

The library saves and loads them, and a saved model needs no lossgauge.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lossgauge.backbones.sentence_model import SentenceModel
from lossgauge.backbones.transformers_parts import quiet
from lossgauge.deployment.head import ExportedHead
from lossgauge.deployment.model_card import FILE as CARD
from lossgauge.errors import DiskError, InputError, MissingExtra
from lossgauge.files import atomic_folder
from lossgauge.types import Backbone
from lossgauge.user_folders import can_be_written


def sentence_transformers_modules(head: ExportedHead) -> list[Any]:
    """The library's own `Dense` for each layer, and `Normalize`; of a head for queries only, a `Router` with both.

    The center is a part of the first bias: W(x − c) + b = Wx + (b − Wc), computed in float64. A residual head e + B·A·e is one layer
    with the weight I + B·A. Append them to the modules whose output the head was trained on. Where only queries pass through the head, the
    modules are for `encode_query` and `encode_document`, and `encode` is that of documents. Raises MissingExtra without sentence-transformers.
    """
    library = _library()
    modules: list[Any] = []
    center = head.center.double()
    for name, layer in head.layers.items():
        weight, bias = layer.weight.detach(), layer.bias.detach()
        if not modules:
            bias = (bias.double() - weight.double() @ center).to(weight.dtype)
        active: nn.Module = nn.ReLU() if name == "hidden" else nn.Identity()
        modules.append(_dense(library, weight, bias, active))
    if head.manifest.head.sides == "both":
        return [*modules, library.Normalize()]
    documents: list[Any] = []
    if head.manifest.head.centered:
        same = torch.eye(head.feature_width, dtype=head.center.dtype)
        documents.append(_dense(library, same, -head.center, nn.Identity()))
    return [
        library.Router.for_query_document(
            [*modules, library.Normalize()], [*documents, library.Normalize()]
        )
    ]


def sentence_transformer(head: ExportedHead, backbone: SentenceModel) -> Any:
    """A `SentenceTransformer` from texts to embeddings: the backbone's transformer, pooling and normalisation, then the head.

    Its prompts, maximum length and pooling are those with which the features were computed, so its embeddings equal those of the study.
    `backbone` is what `head.load_backbone()` gives. Raises InputError for another kind of backbone, MissingExtra without sentence-transformers.
    """
    library = _library()
    check_text_backbone(backbone, head.manifest.backbone.name)
    recipe = backbone.recipe
    with quiet():
        first = library.Transformer(
            str(backbone.folder), max_seq_length=recipe.max_length, do_lower_case=recipe.lower_case
        )
        modules = [first, library.Pooling(backbone.width, pooling_mode=recipe.pooling)]
        modules += [library.Normalize()] * recipe.normalized
        modules += sentence_transformers_modules(head)
        prompts = {name or _OTHER: words for name, words in recipe.prompts.items()}
        return importlib.import_module("sentence_transformers").SentenceTransformer(
            modules=modules,
            device="cpu",
            prompts=prompts,
            default_prompt_name=_OTHER if prompts.get(_OTHER) else None,
            similarity_fn_name="cosine",
        )


def write_sentence_transformer(
    head: ExportedHead, backbone: SentenceModel, folder: Path, card: str = ""
) -> None:
    """Save the whole model into `folder`, completely or not at all; it is new or empty. `card` is the text of its README.md.

    Raises InputError for a folder with anything in it, DiskError if it cannot be written.
    """
    check_new(folder)
    model = sentence_transformer(head, backbone)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(folder) as temporary, quiet():
            model.save(str(temporary), create_model_card=False)
            if card:
                (temporary / CARD).write_text(card, encoding="utf-8")
    except OSError as error:
        raise DiskError(
            f"the model cannot be written to {folder} ({error.strerror or error}); give another folder"
        ) from None


def check_text_backbone(backbone: Backbone | None, name: str) -> None:
    """InputError unless the backbone is a transformer for texts whose files say how it is used."""
    if not isinstance(backbone, SentenceModel):
        raise InputError(
            f"a whole model for sentence-transformers needs a backbone for texts, got {name}: append "
            "sentence_transformers_modules(head) to a model of your own"
        )


def check_new(folder: Path) -> None:
    """InputError unless `folder` is new or empty, DiskError if it cannot be written. MissingExtra without sentence-transformers."""
    _library()
    if not can_be_written(folder.parent):
        raise DiskError(f"{folder.parent} is not a folder that can be written; give another folder")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            f"{folder} exists, and a model for sentence-transformers is written into a new or empty folder: give another one, "
            "or move it away"
        )


_OTHER = "text"
"""The name of the prompt before texts that are neither queries nor documents."""


def _dense(library: Any, weight: torch.Tensor, bias: torch.Tensor, active: nn.Module) -> Any:
    return library.Dense(
        in_features=weight.shape[1],
        out_features=weight.shape[0],
        bias=True,
        activation_function=active,
        init_weight=weight.clone(memory_format=torch.contiguous_format),
        init_bias=bias.clone(),
    )


def _library() -> Any:
    try:
        return importlib.import_module("sentence_transformers.sentence_transformer.modules")
    except ImportError:
        raise MissingExtra(
            "these modules need sentence-transformers: pip install 'lossgauge[sentence-transformers]'"
        ) from None

"""A head as modules of sentence-transformers, to be appended to a model of that library, which saves and loads them."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import nn

from lossgauge.deployment.head import ExportedHead
from lossgauge.errors import MissingExtra


def sentence_transformers_modules(head: ExportedHead) -> list[Any]:
    """The library's own `Dense` for each layer, and `Normalize`: a saved model needs no lossgauge.

    The center is a part of the first bias: W(x − c) + b = Wx + (b − Wc), computed in float64. Append them to the modules whose
    output the head was trained on. Raises MissingExtra without sentence-transformers.
    """
    try:
        library = importlib.import_module("sentence_transformers.sentence_transformer.modules")
    except ImportError:
        raise MissingExtra(
            "these modules need sentence-transformers: pip install 'lossgauge[sentence-transformers]'"
        ) from None
    modules: list[Any] = []
    center = head.center.double()
    for name, layer in head.layers.items():
        weight, bias = layer.weight.detach(), layer.bias.detach()
        if not modules:
            bias = (bias.double() - weight.double() @ center).to(weight.dtype)
        active: nn.Module = nn.ReLU() if name == "hidden" else nn.Identity()
        modules.append(
            library.Dense(
                in_features=weight.shape[1],
                out_features=weight.shape[0],
                bias=True,
                activation_function=active,
                init_weight=weight.clone(memory_format=torch.contiguous_format),
                init_bias=bias.clone(),
            )
        )
    return [*modules, library.Normalize()]

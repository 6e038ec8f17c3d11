"""Pretrained image towers through transformers 5: CLIP, ViT, DINOv2, SigLIP and ConvNeXt.

Weights are read from safetensors files only: nothing is unpickled, and no code of a checkpoint is run. Images are
prepared by transformers' PIL processors, which do not need torchvision.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from lossgauge.backbones.checkpoint import VIT_B32, find_checkpoint, first_line
from lossgauge.backbones.transformers_parts import (
    device_of,
    dtype_of,
    full_precision,
    load_network,
    quiet,
    transformers_library,
)
from lossgauge.errors import DataError, InputError


def _class_token(output: Any) -> Tensor:
    return output.last_hidden_state[:, 0]  # type: ignore[no-any-return]


class _Family(NamedTuple):
    network: str
    """The class of transformers for the image tower without the text tower."""
    pooled: str
    """The output that is used, in words: part of the identity."""
    pool: Callable[[Any], Tensor | None]
    settings: dict[str, Any]


_CLIP = _Family(
    "CLIPVisionModelWithProjection",
    "image_embeds: class token, layer norm, projection",
    attrgetter("image_embeds"),
    {},
)
_SIGLIP = _Family(
    "SiglipVisionModel",
    "pooler_output: attention pooling",
    attrgetter("pooler_output"),
    {},
)
_FAMILIES = {
    "clip": _CLIP,
    "clip_vision_model": _CLIP,
    "vit": _Family(
        "ViTModel",
        # without the pooler: many checkpoints lack that layer, and transformers then initialises it at random
        "last_hidden_state[:, 0]: class token after the layer norm",
        _class_token,
        {"add_pooling_layer": False},
    ),
    "dinov2": _Family(
        "Dinov2Model",
        "last_hidden_state[:, 0]: class token after the layer norm",
        _class_token,
        {},
    ),
    "siglip": _SIGLIP,
    "siglip_vision_model": _SIGLIP,
    "convnext": _Family(
        "ConvNextModel",
        "pooler_output: mean over positions, layer norm",
        attrgetter("pooler_output"),
        {},
    ),
}

IMAGE_MODELS = tuple(_FAMILIES)
"""The types of models whose image tower can be used."""


class HuggingFace:
    """Frozen features of a pretrained image tower, as float32 on the CPU for every `dtype` and `device`.

    `model` is a folder written by `save_pretrained`, a name on the hub, or a key of `VIT_B32`; `find_checkpoint` says
    where it is searched for. `dtype` is fp32 or bf16, `device` cpu, cuda or cuda:N. The device is not part of the
    identity: a machine without a GPU can use features that were extracted on a GPU.

    Raises MissingExtra without transformers, InputError for a wrong setting or an unsupported type of model,
    DataError for a missing or damaged checkpoint.
    """

    def __init__(
        self,
        model: str,
        *,
        dtype: str = "fp32",
        device: str = "cpu",
        download: bool = False,
        revision: str = "main",
    ) -> None:
        self.device, self.dtype = device_of(device), dtype_of(dtype)
        transformers = transformers_library(model)
        checkpoint = find_checkpoint(model, kinds=_FAMILIES, download=download, revision=revision)
        family = _FAMILIES[checkpoint.kind]
        self._pool = family.pool
        with quiet():
            self._processor = _processor(transformers, checkpoint.folder)
            self.network = load_network(
                getattr(transformers, family.network),
                checkpoint.folder,
                self.dtype,
                **family.settings,
            ).to(self.device)
        self.name = model if model in VIT_B32 else f"hf:{checkpoint.model}"
        self.identity = {
            "model": checkpoint.model,
            "found": checkpoint.found,
            "kind": checkpoint.kind,
            "weights": checkpoint.weights,
            "config": checkpoint.config,
            "preprocessing": json.dumps(self._processor.to_dict(), sort_keys=True, default=str),
            "pooled": family.pooled,
            "dtype": dtype,
            "transformers": transformers.__version__,
        }
        self.width = self._try(checkpoint.folder)

    def prepare(self, image: Image.Image) -> Tensor:
        """3 × height × width numbers, resized and normalised by the processor of the checkpoint.

        An image of any mode is converted to RGB first; transparent parts become white.
        """
        # in each call, because the processors of ViT and ConvNeXt do not convert a grey image to RGB
        prepared = self._processor(image, do_convert_rgb=True, return_tensors="pt")
        pixels: Tensor = prepared["pixel_values"]
        return pixels[0]

    @torch.inference_mode()
    def extract(self, batch: Tensor) -> Float[Tensor, "rows width"]:
        with full_precision():
            pooled = self._pool(self.network(pixel_values=batch.to(self.device, self.dtype)))
        if pooled is None:
            raise InputError(
                f"{self.name} was saved without its pooling layer: it gives no features"
            )
        return pooled.float().cpu()

    def _try(self, folder: Path) -> int:
        """The width of the features of a grey image. Parts that do not fit together fail here, not an hour into a study."""
        try:
            features = self.extract(self.prepare(Image.new("RGB", (40, 30), "gray"))[None])
        except InputError:
            raise
        except Exception as error:
            raise DataError(
                f"the image processor and the network in {folder} do not fit together: {first_line(error)}"
            ) from error
        if not torch.isfinite(features).all():
            raise DataError(f"the weights in {folder} are damaged: a plain image gives NaN or Inf")
        return features.shape[1]


def _processor(transformers: ModuleType, folder: Path) -> Any:
    try:
        made = transformers.AutoImageProcessor.from_pretrained(
            str(folder), backend="pil", local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        raise DataError(
            f"the image processor in {folder} cannot be created: {first_line(error)}"
        ) from error
    if getattr(made, "backend", None) != "pil":
        raise DataError(
            f"the image processor in {folder}, {type(made).__name__}, has no PIL version"
        )
    return made

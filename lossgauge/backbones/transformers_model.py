"""A model of transformers by its folder or name: an image tower, or a model for texts."""

from __future__ import annotations

from lossgauge.backbones.checkpoint import find_folder, has_image_processor, read_config
from lossgauge.backbones.hugging_face import IMAGE_MODELS, HuggingFace
from lossgauge.backbones.sentence_model import SentenceModel
from lossgauge.errors import InputError
from lossgauge.types import Backbone


def from_transformers(
    model: str,
    *,
    dtype: str = "fp32",
    device: str = "cpu",
    download: bool = False,
    revision: str = "main",
    pooling: str | None = None,
    max_length: int | None = None,
    prompt: str | None = None,
) -> Backbone:
    """The backbone for a model: for texts unless it is an image tower or has an image processor. The last three settings are for texts.

    Raises what `HuggingFace` and `SentenceModel` raise; InputError for a setting of texts with an image tower.
    """
    folder, _, _ = find_folder(model, download=download, revision=revision)
    of_texts = {"pooling": pooling, "max_length": max_length, "prompt": prompt}
    shared = {"dtype": dtype, "device": device, "revision": revision}
    of_images = read_config(folder)["model_type"] in IMAGE_MODELS or has_image_processor(folder)
    if not of_images or (folder / "modules.json").is_file():
        return SentenceModel(model, download=download, **shared, **of_texts)  # type: ignore[arg-type]
    for name, value in of_texts.items():
        if value is not None:
            raise InputError(
                f"{name} is a setting for texts, but {model} is a model for images: remove it"
            )
    return HuggingFace(model, download=download, **shared)

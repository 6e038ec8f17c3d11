"""Pixels as features: the result of a head without a network."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor


class Pixels:
    """Pixels divided by 255, flattened row by row, channels last. All images must have the same size."""

    def __init__(self) -> None:
        self.name = "pixels"
        self.identity = {"weights": "none", "preprocessing": "pixel / 255"}

    def prepare(self, image: Image.Image) -> Tensor:
        """The pixels of the image from 0 to 255, grey or RGB."""
        if image.mode not in ("L", "RGB"):
            image = image.convert("RGB")
        return torch.from_numpy(np.array(image))

    def extract(self, batch: Tensor) -> Float[Tensor, "rows width"]:
        return batch.flatten(start_dim=1).float() / 255

"""A backbone of one's own: any object with `prepare` and `extract`.

lossgauge features orl-faces --backbone examples/my_backbone.py:Model
"""

import numpy as np
import torch
from PIL import Image
from torch import Tensor


class Model:
    """Mean colours over a grid of cells. A network goes the same way: load it in `__init__`, call it in `extract`."""

    def __init__(self, *, cells: int = 8) -> None:
        self.cells = cells
        # with weights from a file, say which: self.identity = {"weights": "the file's SHA-256"}

    def prepare(self, image: Image.Image) -> Tensor:
        """One image as bytes, 3 × cells × cells; called in threads, ahead of `extract`."""
        small = image.convert("RGB").resize((self.cells, self.cells), Image.Resampling.BOX)
        return torch.from_numpy(np.array(small)).permute(2, 0, 1)

    def extract(self, batch: Tensor) -> Tensor:
        """Features of a batch of prepared images: float32, one row an image."""
        return batch.flatten(start_dim=1).float() / 255

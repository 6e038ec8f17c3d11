"""Cross-batch memory: the last rows that a training has embedded, as further columns of a pair loss.

XBM, Wang et al. 2020. Heads change slowly, so an embedding of some steps ago is nearly what the present head would give; the drift says
how nearly.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Memory(NamedTuple):
    """Rows of earlier batches, the oldest first. Constants: nothing is trained through them."""

    embeddings: Float[Tensor, "stored width"]
    labels: Int[Tensor, " stored"]
    rows: Int[Tensor, " stored"]
    """Which row of the data each one is: a row is not compared with its own earlier embedding."""

    @classmethod
    def without_rows(cls, like: Float[Tensor, "batch width"]) -> Memory:
        """An empty memory for embeddings of this width, type and device."""
        none = torch.empty(0, dtype=torch.int64, device=like.device)
        return cls(like.detach()[:0].clone(), none, none)

    def after(
        self,
        embeddings: Float[Tensor, "batch width"],
        labels: Int[Tensor, " batch"],
        rows: Int[Tensor, " batch"],
        *,
        size: int,
    ) -> Memory:
        """The last `size` rows of this memory and of the batch after it. Copies at most `size` rows."""
        new = (embeddings.detach(), labels, rows)
        return Memory(
            *(torch.cat((old, of))[-size:].clone() for old, of in zip(self, new, strict=True))
        )


def drift(stored: Float[Tensor, "rows width"], again: Float[Tensor, "rows width"]) -> float:
    """1 − the mean cosine of stored rows and of the same rows embedded again, from 0 (the head has not changed them) to 2.

    NaN without rows; a row of zeros has cosine 0.
    """
    return 1 - float(torch.nn.functional.cosine_similarity(stored.double(), again.double()).mean())

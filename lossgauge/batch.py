"""Rules for what a user hands in: embeddings and labels that make one batch, or one clear error."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lossgauge.errors import InputError

ArrayLike = Tensor | np.ndarray


def as_batch(
    embeddings: ArrayLike, labels: ArrayLike
) -> tuple[Float[Tensor, "batch width"], Int[Tensor, " batch"]]:
    """`embeddings` and `labels` (as int64) as tensors, sharing memory where they can.

    Raises InputError for anything but two dimensions of finite floats and one integer a row.
    The finite check is one sum; only where it fails are the rows searched.
    """
    rows = _as_tensor(embeddings, "embeddings must be numbers")
    if rows.ndim != 2 or not rows.is_floating_point():
        raise InputError(
            f"embeddings must be a (rows, width) array of floats, got shape {tuple(rows.shape)} "
            f"of {rows.dtype}"
        )
    numbers = _as_tensor(labels, "labels must be integers").to(rows.device)
    kind = numbers.dtype
    if numbers.ndim != 1 or kind.is_floating_point or kind.is_complex or kind == torch.bool:
        raise InputError(
            f"labels must be one integer a row, got shape {tuple(numbers.shape)} of {numbers.dtype}"
        )
    if len(rows) != len(numbers):
        raise InputError(
            f"embeddings and labels must have one row each for every sample, "
            f"got {len(rows)} embeddings and {len(numbers)} labels"
        )
    if rows.numel() == 0:
        raise InputError(f"the batch is empty: embeddings have shape {tuple(rows.shape)}")
    detached = rows.detach()
    if not torch.isfinite(detached.sum(dtype=torch.float32)):
        bad = (~torch.isfinite(detached)).any(dim=1).nonzero().flatten()
        if len(bad):
            what = "NaN" if torch.isnan(detached[bad[0]]).any() else "Inf"
            raise InputError(
                f"embeddings must be finite, got {what} in row {int(bad[0])} "
                f"({len(bad)} of {len(rows)} rows are not finite)"
            )
    return rows, numbers.long()


def _as_tensor(values: ArrayLike, rule: str) -> Tensor:
    try:
        if isinstance(values, np.ndarray):
            # torch takes neither foreign byte order nor negative strides, and warns of read-only memory
            native = values.dtype.newbyteorder("=")
            values = np.require(values, dtype=native, requirements=["C", "W"])
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{rule}, got {type(values).__name__}: {error}") from None

"""Rules for a user's embeddings and labels, or queries and documents: they form one valid batch, or raise one clear error."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Number
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lossgauge.errors import InputError

ArrayLike = Tensor | npt.ArrayLike
"""A tensor, a numpy array, a list, or anything else that numpy converts to an array, such as a DataFrame or a Series."""

# torch cannot sum other floats (float8), and cannot order other integers (bits, quantized)
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_INTEGERS = (
    torch.uint8,
    torch.uint16,
    torch.uint32,
    torch.uint64,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
)


class Batch(NamedTuple):
    """Labelled embeddings that follow the rules of `as_batch`."""

    embeddings: Float[Tensor, "batch width"]
    labels: Int[Tensor, " batch"]
    largest: float
    """The largest entry of the embeddings, by its absolute value."""


def as_batch(
    embeddings: ArrayLike, labels: ArrayLike
) -> tuple[Float[Tensor, "batch width"], Int[Tensor, " batch"]]:
    """`embeddings` and `labels` (as int64) as tensors, which share memory with the input where possible.

    Raises InputError unless the embeddings are two-dimensional finite floats with one integer label per row. Arrays
    may come from any library that numpy can read; rows keep their order, and an index is ignored.
    """
    batch = checked_batch(embeddings, labels)
    return batch.embeddings, batch.labels


def checked_batch(embeddings: ArrayLike, labels: ArrayLike) -> Batch:
    """The result of `as_batch`, and the largest entry: the check for finite values computes it in its one pass."""
    rows = _as_rows(embeddings, "embeddings")
    numbers = _as_tensor(labels, "labels", "integers").to(rows.device)
    if numbers.ndim != 1 or numbers.dtype not in _INTEGERS:
        _check_missing(numbers)
        raise InputError(
            f"labels must be one integer per row, got shape {tuple(numbers.shape)} of {numbers.dtype}"
            f"{flattening(numbers.shape)}"
            f"{'; labels are floats: convert whole numbers with .astype(int), or .long() of a tensor' if numbers.dtype in _FLOATS else ''}"
        )
    if len(rows) != len(numbers):
        raise InputError(
            f"embeddings and labels must have one row for each sample, "
            f"got {len(rows)} embeddings and {len(numbers)} labels"
        )
    if rows.numel() == 0:
        raise InputError(f"the batch is empty: embeddings have shape {tuple(rows.shape)}")
    return Batch(rows, _as_int64(numbers), _finite_largest_entry(rows.detach(), "embeddings"))


class PairBatch(NamedTuple):
    """Queries and documents that follow the rules of `checked_pairs`."""

    queries: Float[Tensor, "queries width"]
    documents: Float[Tensor, "documents width"]
    positive: Bool[Tensor, "queries documents"]
    negative: Bool[Tensor, "queries documents"]
    guide: Float[Tensor, "queries documents"] | None
    largest: float
    """The largest entry of queries and documents, by its absolute value."""


def checked_pairs(
    queries: ArrayLike,
    documents: ArrayLike,
    positive: ArrayLike,
    negative: ArrayLike | None = None,
    guide: ArrayLike | None = None,
) -> PairBatch:
    """Queries, documents and the masks of their pairs as tensors, which share memory with the input where possible.

    Without `negative`, a pair that is not positive is negative. Raises InputError unless queries and documents are finite floats
    of one width, the masks and `guide` have one entry for each query and document, and no pair is positive and negative.
    """
    rows, columns = _as_rows(queries, "queries"), _as_rows(documents, "documents")
    if rows.shape[1] != columns.shape[1]:
        raise InputError(
            f"queries and documents must have one width, got {rows.shape[1]} and {columns.shape[1]}"
        )
    if rows.device != columns.device:
        raise InputError(
            f"queries and documents must be on one device, got {rows.device} and {columns.device}; "
            f"move them with .to({str(rows.device)!r})"
        )
    for name, values in (("queries", rows), ("documents", columns)):
        if values.numel() == 0:
            raise InputError(f"the batch is empty: {name} have shape {tuple(values.shape)}")
    shape = (len(rows), len(columns))
    right = _as_mask(positive, "positive", shape).to(rows.device)
    if negative is None:
        wrong = ~right
    else:
        wrong = _as_mask(negative, "negative", shape).to(rows.device)
        both = (right & wrong).nonzero()
        if len(both):
            query, document = both[0].tolist()
            raise InputError(
                f"a pair must not be positive and negative, got query {query} with document {document} "
                f"({len(both)} such pairs); take them out of one mask, as in negative & ~positive"
            )
    return PairBatch(
        rows,
        columns,
        right,
        wrong,
        None if guide is None else _as_guide(guide, shape).to(rows.device),
        max(
            _finite_largest_entry(rows.detach(), "queries"),
            _finite_largest_entry(columns.detach(), "documents"),
        ),
    )


def flattening(shape: Sequence[int]) -> str:
    """How labels of this shape become one for each row, as the end of an error; empty where that is not known."""
    if len(shape) == 2 and shape[1] == 1:
        return ": flatten them with .ravel()"
    if len(shape) == 2 and shape[1] > 1:
        return ": if these are one-hot rows, take .argmax(1)"
    return ""


def largest_entry(rows: Float[Tensor, "*shape"]) -> float:
    """The largest absolute value; NaN if one entry is NaN."""
    lowest, highest = map(float, torch.stack(rows.aminmax()).tolist())
    return max(-lowest, highest)


def _as_rows(values: ArrayLike, name: str) -> Float[Tensor, "rows width"]:
    rows = _as_tensor(values, name, "numbers")
    if rows.ndim != 2 or rows.dtype not in _FLOATS:
        raise InputError(
            f"{name} must be a (rows, width) array of floats of 16, 32 or 64 bits, "
            f"got shape {tuple(rows.shape)} of {rows.dtype}"
        )
    return rows


def _as_mask(values: ArrayLike, name: str, shape: tuple[int, int]) -> Bool[Tensor, "rows columns"]:
    mask = _as_tensor(values, name, "booleans")
    if mask.dtype != torch.bool or mask.shape != shape:
        raise InputError(
            f"{name} must be a (queries, documents) array of booleans, here {shape}, "
            f"got shape {tuple(mask.shape)} of {mask.dtype}"
        )
    return mask


def _as_guide(values: ArrayLike, shape: tuple[int, int]) -> Float[Tensor, "rows columns"]:
    guide = _as_tensor(values, "guide", "numbers").detach()
    if guide.dtype in (torch.float16, torch.bfloat16):
        guide = guide.float()  # half precision has no digits left for a margin
    if guide.dtype not in _FLOATS or guide.shape != shape:
        raise InputError(
            f"guide must hold the similarity of each query and document as floats, here {shape}, "
            f"got shape {tuple(guide.shape)} of {guide.dtype}"
        )
    if not guide.isfinite().all():
        query, document = (~guide.isfinite()).nonzero()[0].tolist()
        raise InputError(
            f"guide must be finite, got {float(guide[query, document])} for query {query} and document {document}"
        )
    return guide


def _finite_largest_entry(rows: Float[Tensor, "batch width"], name: str) -> float:
    """`largest_entry` of rows; InputError if one entry is not finite."""
    try:
        largest = largest_entry(rows)
    except RuntimeError as error:  # an object that imitates a tensor
        raise InputError(
            f"{name} must have values, got {type(rows).__name__}: {' '.join(str(error).split())}"
        ) from None
    if not largest < float("inf"):
        bad = (~torch.isfinite(rows)).any(dim=1).nonzero().flatten()
        what = "NaN" if torch.isnan(rows[bad[0]]).any() else "Inf"
        raise InputError(
            f"{name} must be finite, got {what} in row {int(bad[0])} "
            f"({len(bad)} of {len(rows)} rows are not finite)"
        )
    return largest


def _as_int64(labels: Tensor) -> Int[Tensor, " batch"]:
    numbers = labels.long()
    if labels.dtype == torch.uint64 and (numbers < 0).any():
        row = int((numbers < 0).nonzero()[0])
        raise InputError(
            f"labels must be below 2^63, got {int(numbers[row]) + 2**64} in row {row}; number the classes from 0"
        )
    return numbers


def _as_tensor(values: Any, name: str, kind: str) -> Tensor:
    if isinstance(values, Tensor):
        return _plain(values, name)
    if np.ma.is_masked(values):
        raise InputError(
            f"{name} must have no masked entries, got {np.ma.count_masked(values)}; "
            "leave those rows out or fill them"
        )
    try:
        if isinstance(values, list | tuple) and any(isinstance(row, Tensor) for row in values):
            return _plain(torch.stack(list(values)), name)
        array = np.asarray(values)
    except InputError:
        raise
    except Exception as error:  # the array type of another library may raise anything
        raise InputError(
            f"{name} must be {kind}, got {type(values).__name__}: {' '.join(str(error).split())}"
        ) from None
    if array.dtype.kind not in "biufc" or array.dtype.itemsize > 8:
        raise _not_numbers(values, array, name, kind)
    # torch accepts no foreign byte order and no negative strides, and warns about read-only memory
    native = np.dtype(array.dtype.str).newbyteorder(
        "="
    )  # C has two names for 64 bits, torch knows one
    return torch.from_numpy(np.require(array, dtype=native, requirements=["C", "W"]))


def _not_numbers(values: Any, array: npt.NDArray[Any], name: str, kind: str) -> InputError:
    """The error for an array that torch cannot use, with the fix that converts it to numbers."""
    if array.ndim == 0:  # numpy cannot read it as rows
        if hasattr(values, "toarray"):
            return InputError(
                f"{name} must be dense, got {type(values).__name__}; call .toarray() first"
            )
        what = (
            repr(values)[:40] if isinstance(values, str | bytes | None) else type(values).__name__
        )
        return InputError(f"{name} must be an array of {kind}, got {what}")
    entries = list(array.flat) if array.dtype.kind == "O" else []
    is_text = array.dtype.kind in "UST" or any(isinstance(entry, str | bytes) for entry in entries)
    got = f"{name} must be {kind}, got {type(values).__name__} of {'text' if is_text else array.dtype.name}"
    for place, entry in enumerate(entries):
        if not isinstance(entry, str | bytes | Number) or entry != entry:
            shown = " ".join(repr(entry).split())[:40]
            row = place // (array.size // len(array))
            return InputError(f"{got}, with {shown} in row {row}; leave such rows out")
    if kind == "integers" and not (
        entries and all(isinstance(entry, int) and abs(entry) < 2**63 for entry in entries)
    ):
        mixed = is_text and not all(isinstance(entry, str | bytes) for entry in entries)
        classes = "numpy.array(labels, str)" if mixed else "labels"
        return InputError(
            f"{got}; number the classes, as in numpy.unique({classes}, return_inverse=True)[1]"
        )
    if is_text:
        return InputError(f"{got}; remove the text, or convert it to numbers")
    return InputError(
        f"{got}; convert it with .astype({'int' if kind == 'integers' else 'float'!r})"
    )


def _check_missing(labels: Tensor) -> None:
    """InputError for labels that are floats only because some are missing, as pandas stores them."""
    if labels.ndim == 1 and labels.dtype in _FLOATS and torch.isnan(labels).any():
        missing = torch.isnan(labels).nonzero().flatten()
        raise InputError(
            f"labels must be one integer per row, but {len(missing)} of {len(labels)} are missing (NaN), the first in "
            f"row {int(missing[0])}; leave those rows out"
        )


def _plain(values: Tensor, name: str) -> Tensor:
    """`values`, or InputError unless it is a tensor whose numbers can be read."""
    if values.is_nested:
        raise InputError(f"{name} must be one array, got a nested tensor; pad it to one width")
    if values.layout != torch.strided:
        raise InputError(f"{name} must be dense, got {values.layout}; call .to_dense() first")
    if values.is_meta:
        raise InputError(
            f"{name} must have values, got a tensor on the meta device; create it on a real device"
        )
    if _is_traced(values):
        raise InputError(
            f"{name} cannot be traced (torch.func's grad and vmap, torch.jit.trace, torch.export): a loss reads "
            "the numbers and computes its gradient in closed form; call it outside, and use backward()"
        )
    return values


def _is_traced(values: Tensor) -> bool:
    if torch.compiler.is_compiling():
        return torch.compiler.is_exporting()
    # inside a transform of torch.func every result is wrapped, even if the input is not
    result = values.detach()
    return torch.jit.is_tracing() or torch.func.debug_unwrap(result) is not result  # type: ignore[attr-defined]

import numpy as np
import pytest
import torch

from lossgauge.batch import as_batch
from lossgauge.errors import InputError
from lossgauge.losses import load_loss

Z = np.eye(3, dtype=np.float32)


@pytest.mark.parametrize(
    ("embeddings", "labels", "message"),
    [
        (Z, [0, 1], "got 3 embeddings and 2 labels"),
        (Z.astype(int), [0, 1, 2], "array of floats"),
        (Z.astype(str), [0, 1, 2], "embeddings must be numbers"),
        (Z, ["a", "b", "c"], "labels must be integers"),
        (Z[0], [0, 1, 2], r"got shape \(3,\)"),
        (Z, [[0, 1, 2]], r"got shape \(1, 3\)"),
        (Z, [0.0, 1.0, 2.0], "one integer a row"),
        (Z[:0], [], "the batch is empty"),
        (np.where(np.eye(3) * [0, 1, 0], np.nan, Z), [0, 1, 2], r"got NaN in row 1 \(1 of 3 rows"),
        (np.where(np.eye(3) * [0, 0, 1], -np.inf, Z), [0, 1, 2], "got Inf in row 2"),
    ],
)
def test_what_is_no_batch_is_refused_with_the_rule_and_the_value(embeddings, labels, message):
    numbers = np.array(labels, dtype=np.int64) if not len(np.ravel(labels)) else np.array(labels)
    with pytest.raises(InputError, match=message):
        as_batch(embeddings, numbers)
    with pytest.raises(InputError, match=message):
        load_loss("triplet")(embeddings, numbers)


def test_finite_rows_whose_sum_overflows_are_taken():
    rows, _ = as_batch(torch.full((8, 2), 60000.0).half(), torch.arange(8))
    assert len(rows) == 8


def test_arrays_and_tensors_of_any_integer_type_are_taken():
    assert torch.equal(as_batch(Z[::-1], np.arange(3)[::-1])[0], torch.from_numpy(Z[::-1].copy()))
    assert torch.equal(as_batch(Z.astype(">f4"), np.arange(3))[0], torch.from_numpy(Z))
    frozen = np.array([1, 2, 3])
    frozen.flags.writeable = False
    for labels in (
        np.array([1, 2, 2**62]),
        np.array([1, 2, 3], dtype=np.uint32),
        torch.tensor([1, 2, 3], dtype=torch.int32),
        frozen,
    ):
        assert as_batch(Z, labels)[1].dtype == torch.int64

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from torch._subclasses import FakeTensorMode
from torch.autograd import forward_ad

from lossgauge.batch import _as_tensor, as_batch
from lossgauge.errors import InputError
from lossgauge.losses.registry import load_loss

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
        (Z, [0.0, 1.0, 2.0], "one integer per row"),
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


ROWS = torch.nn.functional.normalize(torch.tensor([[1.0, 0.2], [0.3, 1], [1, -0.4], [-0.6, 1]]))
LABELS = torch.tensor([0, 1, 0, 1])
FRAME = pd.DataFrame(ROWS.numpy())
SERIES = pd.Series(LABELS.numpy())
NUMBERED = r"number the classes, as in numpy.unique\(labels, return_inverse=True\)\[1\]$"
MASK = np.array([True, False, False, False])


def longer(values):
    """A Series of which every second row is left: its index has gaps."""
    return pd.Series(np.repeat(values, 2))[::2]


@pytest.mark.parametrize(
    "rows",
    [
        ROWS.tolist(),
        list(ROWS),
        list(ROWS.numpy()),
        FRAME,
        FRAME.set_index(np.array([3, 2, 1, 0])),
        np.ma.array(ROWS.numpy()),
        np.frombuffer(b"-" + ROWS.numpy().tobytes(), "f4", offset=1).reshape(4, 2),
        torch.nn.Parameter(ROWS),
    ],
    ids=lambda rows: type(rows).__name__,
)
def test_rows_of_any_library_are_taken_in_their_order(rows):
    found, _ = as_batch(rows, LABELS)
    torch.testing.assert_close(found.detach().float(), ROWS, rtol=0, atol=0)


@pytest.mark.parametrize(
    "labels",
    [
        LABELS.tolist(),
        range(4),
        longer(LABELS.numpy()),
        SERIES.set_axis(np.array([3, 2, 1, 0])),
        SERIES.astype("Int64"),
        SERIES.astype("category"),
        pd.Index(LABELS.numpy()),
        LABELS.to(torch.uint16),
        LABELS.to(torch.uint64),
        LABELS.numpy().astype(">u8"),
        np.ma.array(LABELS.numpy(), mask=False),
    ],
    ids=lambda labels: type(labels).__name__,
)
def test_labels_of_any_library_are_taken_in_their_order(labels):
    assert as_batch(ROWS, labels)[1].tolist() == list(labels)


def test_the_gradient_reaches_tensors_in_a_list():
    leaf = ROWS.clone().requires_grad_()
    load_loss("triplet")(list(leaf), LABELS).backward()
    wanted = ROWS.clone().requires_grad_()
    load_loss("triplet")(wanted, LABELS).backward()
    assert torch.equal(leaf.grad, wanted.grad)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 2**63, 1, 1], dtype=torch.uint64), "got 9223372036854775808 in row 1"),
        (np.array([0, 1, 2**64 - 1, 1], dtype="u8"), "got 18446744073709551615 in row 2"),
        ([2**63] * 4, "below 2\\^63, got 9223372036854775808 in row 0"),
        ([2**70] * 4, "labels must be integers, got list of object"),
        (np.ma.array([0, 1, 0, 1], mask=MASK), "no masked entries, got 1"),
        (SERIES.astype("Int64").where(~MASK), "1 of 4 are missing .NaN., the first in row 0"),
        (SERIES.astype(float), r"labels are floats: convert whole numbers with \.astype\(int\)"),
        (list("abab"), rf"got list of text; {NUMBERED}"),
        (pd.Categorical(list("abab")), rf"got Categorical of text; {NUMBERED}"),
        (SERIES.astype(str), rf"labels must be integers, got Series of text; {NUMBERED}"),
        (
            pd.Categorical(["a", None, "b", "b"]),
            "got Categorical of text, with nan in row 1; leave",
        ),
        (pd.Series([0, "a", 0, "a"]), r"numpy.unique\(numpy.array\(labels, str\), return_inverse"),
        ([0, None, 1, 1], "got list of object, with None in row 1; leave such rows out"),
        ([b"a"] * 4, rf"got list of text; {NUMBERED}"),
        ("abab", "labels must be an array of integers, got 'abab'$"),
        (LABELS.numpy().astype(object), r"ndarray of object; convert it with .astype\('int'\)"),
        (np.zeros(4, dtype=[("a", "i4")]), "labels must be integers, got ndarray of void"),
        (np.zeros(4, dtype="M8[s]"), "labels must be integers, got ndarray of datetime64"),
        (
            pd.DataFrame(SERIES),
            r"one integer per row, got shape \(4, 1\) of .*: flatten them with \.ravel\(\)$",
        ),
        (
            torch.eye(4).long(),
            r"got shape \(4, 4\) of torch\.int64: if these are one-hot rows, take \.argmax\(1\)$",
        ),
        (torch.zeros(4), r"convert whole numbers with \.astype\(int\), or \.long\(\) of a tensor$"),
        (LABELS.to("meta"), "labels must have values, got a tensor on the meta device"),
        (LABELS.to_sparse(), "labels must be dense, got torch.sparse_coo"),
        (
            torch.nested.nested_tensor([LABELS[:1], LABELS[1:]], layout=torch.jagged),
            "nested tensor",
        ),
        (LABELS.float().requires_grad_(), "one integer per row"),
        (LABELS > 0, "one integer per row"),
        (torch.empty(4, dtype=torch.bits8), "one integer per row"),
        (torch.tensor(1), r"one integer per row, got shape \(\)"),
    ],
)
def test_labels_that_are_no_integers_are_refused_in_one_line(labels, message):
    with pytest.raises(InputError, match=message) as error:
        as_batch(ROWS, labels)
    assert "\n" not in str(error.value)


class _Stubborn:
    def __array__(self, *_, **__):
        raise ZeroDivisionError("of its\nown")


def stand_in():
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        return mode.from_tensor(ROWS)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ROWS.to("meta"), "embeddings must have values, got a tensor on the meta device"),
        (stand_in(), "embeddings must have values, got FakeTensor"),
        (ROWS.to_sparse(), "must be dense, got torch.sparse_coo; call .to_dense"),
        (ROWS.to_mkldnn(), "must be dense, got torch._mkldnn"),
        (
            torch.nested.nested_tensor([ROWS[:2], ROWS[2:]], layout=torch.jagged),
            "a nested tensor; pad",
        ),
        (ROWS.to(torch.float8_e4m3fn), "floats of 16, 32 or 64 bits, .* torch.float8_e4m3fn"),
        (ROWS.to(torch.complex64), "floats of 16, 32 or 64 bits"),
        (np.ma.array(ROWS.numpy(), mask=ROWS.numpy() > 0.95), "no masked entries"),
        (
            ROWS.numpy().astype(np.longdouble),
            "must be numbers, got ndarray of (longdouble|float128)",
        ),
        (FRAME.astype(object), r"got DataFrame of object; convert it with .astype\('float'\)"),
        ([[Decimal(1)], [Decimal(2)]], r"list of object; convert it with .astype\('float'\)"),
        (FRAME.assign(name="x"), "got DataFrame of text; remove the text"),
        (FRAME.astype(object).where(ROWS.numpy() < 0.9, None), "with (None|nan) in row [0-3]"),
        ("rows.npy", "embeddings must be an array of numbers, got 'rows.npy'$"),
        ([[1.0], [1.0, 2.0]], "embeddings must be numbers, got list"),
        (_Stubborn(), "embeddings must be numbers, got _Stubborn: of its own"),
        (torch.tensor(1.0), r"\(rows, width\) array of floats .* got shape \(\)"),
    ],
    ids=lambda value: None if isinstance(value, str) else type(value).__name__,
)
def test_embeddings_that_cannot_be_read_are_refused_in_one_line(rows, message):
    with pytest.raises(InputError, match=message) as error:
        as_batch(rows, LABELS)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (scipy.sparse.csr_matrix(ROWS.numpy()), "must be dense, got csr_matrix; call .toarray"),
        (scipy.sparse.coo_array(ROWS.numpy()), "must be dense, got coo_array; call .toarray"),
        (None, "embeddings must be an array of numbers, got None$"),
        ({"a": 1}, "embeddings must be an array of numbers, got dict$"),
        ((row for row in ROWS), "embeddings must be an array of numbers, got generator$"),
    ],
    ids=lambda value: None if isinstance(value, str) else type(value).__name__,
)
def test_what_is_no_array_at_all_is_refused_in_one_line(values, message):
    # the types of as_batch, which tests check, allow none of it
    with pytest.raises(InputError, match=message):
        _as_tensor(values, "embeddings", "numbers")


TRANSFORMS = {
    "grad": lambda loss: torch.func.grad(lambda rows: loss(rows, LABELS))(ROWS),
    "grad at the loss's own": lambda loss: torch.func.grad(
        lambda own: torch.func.functional_call(loss, own, (ROWS, LABELS))
    )({name: tensor.detach() for name, tensor in loss.named_parameters()}),
    "vmap": lambda loss: torch.vmap(lambda rows: loss(rows, LABELS))(torch.stack([ROWS, ROWS])),
    "vmap of labels": lambda loss: torch.vmap(lambda y: loss(ROWS, y))(LABELS.expand(2, -1)),
    "jvp": lambda loss: torch.func.jvp(lambda rows: loss(rows, LABELS), (ROWS,), (ROWS,)),
    "trace": lambda loss: torch.jit.trace(loss, (ROWS, LABELS)),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("name", ["triplet", "n_pair", "ccl"])
def test_a_transform_that_cannot_see_the_numbers_is_refused_in_words(name, transform):
    sizes = {"class_count": 2, "embedding_size": 2} if name == "ccl" else {}
    with pytest.raises(InputError, match="cannot be traced"):
        TRANSFORMS[transform](load_loss(name, **sizes))


def test_forward_mode_is_refused_in_words():
    with forward_ad.dual_level(), pytest.raises(InputError, match="no forward-mode derivative"):
        load_loss("triplet")(forward_ad.make_dual(ROWS, ROWS), LABELS)


def test_a_loss_called_with_other_parameters_has_their_value():
    loss, other = (load_loss("ccl", class_count=2, embedding_size=2) for _ in range(2))
    value = torch.func.functional_call(loss, dict(other.named_parameters()), (ROWS, LABELS))
    assert torch.equal(value, other(ROWS, LABELS))


def test_a_loss_on_another_device_than_its_embeddings_is_refused_in_words():
    loss = load_loss("ccl", class_count=2, embedding_size=2).to("meta")
    with pytest.raises(InputError, match="proxies on meta, got embeddings on cpu"):
        loss(ROWS, LABELS)

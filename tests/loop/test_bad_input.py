"""A loop that does something wrong gets one clear error, and never a gradient of 0."""

import numpy as np
import pytest
import torch
from torch import nn

import lossgauge as lg
from lossgauge.errors import InputError, RunError
from lossgauge.loop.probe import Probe
from lossgauge.losses.registry import load_loss
from tests.loop.trainings import SIZE, batch, seeded_network, train


class Returns(nn.Module):
    """A loss that returns what it is told to."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, z, y):
        return self.make(nn.functional.cross_entropy(z, y))


def parts(loss=None, **settings):
    network = seeded_network()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    loss = nn.CrossEntropyLoss() if loss is None else loss
    return network, optimizer, loss, Probe(optimizer, loss=loss, **settings)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda value: {"loss": value, "n": 1}, r"got a dict with 'loss', 'n'; .*\['loss'\]"),
        (lambda value: (value, None), r"got a tuple; .*\[0\]"),
        (lambda value: value.expand(3), r"got a tensor of shape \(3,\); reduce it"),
        (float, "got float; reduce it"),
    ],
    ids=["dict", "tuple", "vector", "float"],
)
def test_a_loss_must_return_one_number(make, message):
    network, _, loss, probe = parts(Returns(lambda value: make(value.detach())))
    x, y = batch(0)
    with pytest.raises(InputError, match=message):
        loss(probe.embeddings(network(x), y), y)


def test_the_number_in_a_dict_is_chosen_with_a_function():
    network, optimizer, loss, _ = parts(Returns(lambda value: {"loss": value}))
    probe = Probe(optimizer)
    criterion = probe.loss(lambda *inputs: loss(*inputs)["loss"], name="mine")
    with pytest.raises(InputError, match="got a dict"):  # the module is still watched by the other
        criterion(network(batch(0)[0]), batch(0)[1])


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        (torch.ones(24, 4), "have no graph"),
        (torch.ones(24, 4, dtype=torch.int64), "dense .* tensor of floats, got shape"),
        (torch.ones(0, 4, requires_grad=True), r"got shape \(0, 4\)"),
        (torch.ones(24, 4).to_sparse(), "sparse"),
        ({"sentence_embedding": 1}, "must be the tensor that the model returned, got dict"),
        (np.ones((24, 4)), "got ndarray"),
    ],
    ids=["no graph", "integers", "empty", "sparse", "dict", "array"],
)
def test_embeddings_are_rows_with_a_graph(embeddings, message):
    with pytest.raises(InputError, match=message):
        parts()[-1].embeddings(embeddings, batch(0)[1])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.zeros(23, dtype=torch.int64), "got 24 embeddings and 23 labels"),
        (torch.zeros(24, 3, dtype=torch.int64), r"got shape \(24, 3\); with several labels per"),
        (torch.zeros(24, dtype=torch.int64, device="meta"), "meta device"),
        (torch.zeros(24), "labels must be integers, got torch.float32; for targets"),
        (np.array(["a", "b"] * 12, dtype=object), r"number the classes"),
        (np.array([0, None] * 12, dtype=object), "with None in row 1"),
    ],
    ids=["length", "several", "meta", "floats", "text", "objects"],
)
def test_labels_are_one_integer_for_each_row(labels, message):
    network, _, _, probe = parts()
    with pytest.raises(InputError, match=message):
        probe.embeddings(network(batch(0)[0]), labels)


def test_labels_may_be_a_list_or_an_array():
    network, optimizer, loss, probe = parts()
    x, y = batch(0)
    for labels in (y.tolist(), y.numpy(), y.to(torch.uint8)):
        loss(probe.embeddings(network(x), labels), y).backward()
        optimizer.step()
    assert {row["batch_class_count"] for row in probe.rows} == {3}


def test_a_loop_that_never_calls_the_loss():
    network, _, _, probe = parts()
    probe.embeddings(network(batch(0)[0]), batch(0)[1])
    with pytest.raises(InputError, match="no call of the loss was seen"):
        _ = probe.rows


def test_a_loop_that_never_calls_backward_is_told_at_the_next_batch_and_at_the_rows():
    network, _, loss, probe = parts()
    x, y = batch(0)
    loss(probe.embeddings(network(x), y), y)
    with pytest.raises(InputError, match="no backward pass through it was seen"):
        probe.embeddings(network(x), y)
    with pytest.raises(InputError, match="no backward pass through it was seen"):
        _ = probe.rows


@pytest.mark.parametrize("make_optimizer", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize(
    ("calls_loss", "message"),
    [(True, "no backward pass through it was seen"), (False, "no call of the loss was seen")],
)
def test_a_loop_that_steps_without_a_backward_pass(make_optimizer, calls_loss, message):
    network, loss = seeded_network(), nn.CrossEntropyLoss()
    optimizer = make_optimizer(network.parameters(), lr=0.1)
    probe = Probe(optimizer, loss=loss)
    x, y = batch(0)
    optimizer.zero_grad()
    z = probe.embeddings(network(x), y)
    if calls_loss:
        loss(z, y)
    optimizer.step()
    with pytest.raises(InputError, match=message):
        _ = probe.rows
    with pytest.raises(InputError, match=message):
        probe.embeddings(network(x), y)


@pytest.mark.parametrize("skipped", [1, 2])
def test_a_loop_may_leave_backward_out_of_a_later_batch(skipped):
    network, optimizer, loss, probe = parts()
    for step in range(4):
        x, y = batch(step)
        optimizer.zero_grad()
        value = loss(probe.embeddings(network(x), y), y)
        if step != skipped:
            value.backward()
        optimizer.step()
    assert [row["step"] for row in probe.rows] == [step for step in range(4) if step != skipped]


def test_the_first_updates_may_be_of_another_loss():
    network, optimizer, loss, probe = parts()
    for step in range(4):
        x, y = batch(step)
        optimizer.zero_grad()
        value = loss(probe.embeddings(network(x), y), y)
        if step < 2:  # a start on the weights alone
            value = sum(p.square().sum() for p in network.parameters())
        value.backward()
        optimizer.step()
    assert [row["step"] for row in probe.rows] == [2, 3]


@pytest.mark.parametrize("cleared", [False, True])
def test_a_loop_that_never_calls_step(cleared):
    network, optimizer, loss, probe = parts()
    x, y = batch(0)
    for _ in range(3):
        loss(probe.embeddings(network(x), y), y).backward()
        if cleared:
            optimizer.zero_grad()
    with pytest.raises(InputError, match="no step of the optimizer was seen"):
        _ = probe.rows


def test_a_loop_that_is_told_after_many_batches_without_a_step():
    network, optimizer, loss, probe = parts()
    x, y = batch(0)

    def train_on():
        for _ in range(1000):
            loss(probe.embeddings(network(x), y), y).backward()
            optimizer.zero_grad()

    with pytest.raises(InputError, match="no step of the optimizer was seen"):
        train_on()


def test_the_optimizer_of_another_model():
    _, _, loss, probe = parts()
    other = seeded_network()
    x, y = batch(0)
    loss(probe.embeddings(other(x), y), y).backward()
    with pytest.raises(InputError, match="gave no gradient to a parameter of the optimizer"):
        probe.embeddings(other(x), y)
    with pytest.raises(InputError, match="gave no gradient to a parameter of the optimizer"):
        _ = probe.rows


def test_a_loss_of_a_detached_copy():
    network, _, loss, probe = parts()
    head = nn.Linear(SIZE, SIZE)
    probe._watched[0].optimizer.add_param_group({"params": head.parameters()})
    x, y = batch(0)
    z = probe.embeddings(network(x), y)
    with pytest.raises(InputError, match="no gradient reached the embeddings"):
        loss(head(z.detach()), y).backward()


def test_a_loss_that_is_called_without_embeddings():
    network, optimizer, loss, probe = parts()
    x, y = batch(0)
    loss(network(x), y).backward()
    optimizer.step()
    with pytest.raises(InputError, match="no embeddings were given before"):
        _ = probe.rows


def test_a_second_probe_of_the_same_loss_is_not_disturbed_by_the_first():
    """As when the cell of a notebook is run again."""
    network, optimizer, loss, first = parts(load_loss("triplet"))
    x, y = batch(0)

    def loop(probe):
        for _ in range(3):
            loss(probe.embeddings(network(x), y), y).backward()
            optimizer.step()
            optimizer.zero_grad()

    loop(first)
    second = Probe(optimizer, loss=loss)
    loop(second)
    assert [len(probe.rows) for probe in (first, second)] == [3, 3]
    assert all(row["term_count"] for row in second.rows)
    first.close()
    loop(second)
    assert len(second.rows) == 6


@pytest.mark.parametrize(
    ("calls_loss", "message"), [(True, "no backward pass"), (False, "no call of the loss was seen")]
)
def test_gradients_that_are_left_from_an_earlier_loop_do_not_hide_a_missing_backward_pass(
    calls_loss, message
):
    network, optimizer, loss, first = parts(load_loss("triplet"))
    x, y = batch(0)
    loss(first.embeddings(network(x), y), y).backward()
    optimizer.step()
    second = Probe(optimizer, loss=loss)
    for _ in range(2):
        z = second.embeddings(network(x), y)
        if calls_loss:
            loss(z, y)
        optimizer.step()
    with pytest.raises(InputError, match=message):
        _ = second.rows
    assert len(first.rows) == 1


def test_a_gradient_that_does_not_come_through_the_loss():
    network, _, _, probe = parts()
    x, y = batch(0)
    with pytest.raises(InputError, match="did not come through the loss that the probe watches"):
        nn.functional.cross_entropy(probe.embeddings(network(x), y), y).backward()


def test_what_is_no_optimizer_or_no_loss():
    network, optimizer, loss, _ = parts()
    with pytest.raises(InputError, match=r"needs a torch\.optim\.Optimizer .* got Network"):
        Probe(network, loss=loss)
    with pytest.raises(InputError, match=r"criterion = probe\.loss\(function\)"):
        Probe(optimizer, loss=nn.functional.cross_entropy)
    with pytest.raises(InputError, match="the probe needs the optimizer"):
        Probe(loss=loss)
    with pytest.raises(InputError, match="a loss must be a function or a module, got int"):
        Probe(optimizer).loss(3)
    with pytest.raises(InputError, match="model must be a torch module, got function"):
        Probe(optimizer, loss=loss, model=lambda x: x)
    with pytest.raises(InputError, match="this probe has no optimizer"):
        Probe().embeddings(network(batch(0)[0]))
    with pytest.raises(InputError, match="the probe knows no loss"):
        Probe(optimizer).embeddings(network(batch(0)[0]))
    with pytest.raises(InputError, match=r"sees the steps itself"):
        Probe(optimizer, loss=loss)(None)


@pytest.mark.parametrize("every", [0, -1, 1.5, True, "2"])
def test_every_is_a_whole_number(every):
    with pytest.raises(InputError, match="every must be a whole number"):
        parts(every=every)


def test_on_nan_is_one_of_three():
    with pytest.raises(InputError, match=r"^unknown on_nan 'rais' \(did you mean 'raise'\?\)$"):
        parts(on_nan="rais")
    known = r"^unknown on_nan 'ignore' \(known: raise, leave-out, record\)$"
    with pytest.raises(InputError, match=known):
        parts(on_nan="ignore")


def test_a_model_whose_output_has_no_embeddings():
    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    network, optimizer, loss, _ = parts()
    pair = Pair()
    Probe(optimizer, loss=loss, model=pair)
    with pytest.raises(InputError, match="model= must return a tensor or a dict"):
        pair(network(batch(0)[0]))


def nan_loop(on_nan, *, in_row=None, steps=4):
    """A loop whose third batch has a NaN: in a row of the embeddings, or in the value of the loss."""
    network, optimizer, loss, probe = parts(on_nan=on_nan)
    for step in range(steps):
        x, y = batch(step)
        z = network(x)
        if step == 2 and in_row is not None:
            z = z * torch.ones(24, 1).index_fill(0, torch.tensor([in_row]), torch.nan)
        z = probe.embeddings(z, y)
        value = loss(z, y)
        before = [p.detach().clone() for p in network.parameters()]
        value.backward()
        try:
            optimizer.step()
        except RunError:
            assert all(map(torch.equal, before, network.parameters()))
            raise
        optimizer.zero_grad()
    return probe


def test_a_nan_is_raised_before_the_update_with_its_step_and_row():
    message = r"step 2: the embedding of row 5 is not finite; .*on_nan='record'"
    with pytest.raises(RunError, match=message):
        nan_loop("raise", in_row=5)


def test_a_nan_is_recorded():
    rows = nan_loop("record", in_row=5, steps=3).rows
    assert [row["not_finite"] for row in rows] == [None, None, "the embedding of row 5"]
    assert rows[2]["loss_value"] is None
    assert rows[2]["embedding_gradient"] is None


class IgnoresNaN(nn.Module):
    """Cross-entropy of the rows without NaN, which gives the others a gradient of 0."""

    def forward(self, z, y):
        good = z.isfinite().all(1)
        return nn.functional.cross_entropy(torch.where(good[:, None], z, 0.0)[good], y[good])


def test_a_loss_that_leaves_nan_out_gives_no_numbers_and_no_findings_that_follow():
    network, loss = seeded_network(), IgnoresNaN()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    probe = Probe(optimizer, loss=loss, on_nan="record")
    for step in range(4):
        x, y = batch(step)
        z = network(x)
        if step == 3:
            z = torch.full_like(z, torch.nan) + 0 * z
            z = torch.cat([z[:20], network(x)[20:] * 0])
        value = loss(probe.embeddings(z, y), y)
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
    row = probe.rows[3]
    assert row["not_finite"] == "the embedding of row 0"
    columns = ("loss_value", "embedding_gradient", "embedding_gradient_p50", "tangent_gradient")
    assert all(
        row[column] is None for column in (*columns, "head_gradient", "gradient_active_ratio")
    )
    assert probe.rows[2]["embedding_gradient"] > 0
    assert [found.name for found in probe.findings() if found.level != "ok"] == ["not-finite"]


def test_a_nan_is_left_out():
    rows = nan_loop("leave-out", in_row=5, steps=3).rows
    assert [row["step"] for row in rows] == [0, 1]


@pytest.mark.parametrize("on_nan", ["raise", "record", "leave-out"])
def test_our_losses_refuse_a_nan_themselves(on_nan):
    network, _, loss, probe = parts(load_loss("triplet"), on_nan=on_nan)
    x, y = batch(0)
    z = probe.embeddings(network(x) * torch.nan, y)
    with pytest.raises(InputError, match=r"finite|NaN"):
        loss(z, y)


def test_the_loss_that_is_not_finite_is_named():
    network, optimizer, loss, _ = parts()
    probe = Probe(optimizer, loss={"cross": loss}, on_nan="record")

    class Inf(nn.Module):
        def forward(self, z, y):
            return z.sum() * 0 + torch.inf

    probe.loss(inf := Inf(), name="wild")
    x, y = batch(0)
    z = probe.embeddings(network(x), y)
    (loss(z, y) + inf(z, y)).backward()
    optimizer.step()
    assert probe.rows[0]["not_finite"] == "the value of the loss 'wild'"


def test_a_weight_of_zero_gives_no_number_rather_than_a_wrong_one():
    network, optimizer, loss, probe = parts()
    x, y = batch(0)
    (0 * loss(probe.embeddings(network(x), y), y)).backward()
    optimizer.step()
    row = probe.rows[0]
    assert row["loss_factor"] == 0
    assert row["loss_value"] is not None
    assert row["embedding_gradient"] is row["head_gradient"] is None


def test_a_scaler_that_the_probe_cannot_see_is_asked_for_once():
    """It is unscaled and stepped by hand; without `scaler=` a clipped gradient would be too small by its scale."""

    def loop(**settings):
        network, optimizer, loss, probe = parts(**settings)
        for step in range(2):
            x, y = batch(step)
            (1024 * loss(probe.embeddings(network(x), y), y)).backward()
            for p in network.parameters():
                p.grad /= 1024
            optimizer.step()
            optimizer.zero_grad()
        return probe

    class Scaler:
        def scale(self, value):
            return value * 1024

    probe = loop()
    with pytest.warns(UserWarning, match=r"give lg\.Probe\(scaler=\.\.\.\) the scaler"):
        rows = probe.rows
    assert [row["clipped_head_gradient"] for row in rows] == [None, None]
    for row in loop(scaler=Scaler()).rows:
        assert row["clipped_head_gradient"] == pytest.approx(row["head_gradient"])


def test_our_losses_still_refuse_bad_batches_themselves():
    network, _, loss, probe = parts(load_loss("triplet"))
    z = probe.embeddings(network(batch(0)[0]), batch(0)[1])
    with pytest.raises(InputError, match="one row for each sample"):
        loss(z, batch(0)[1][:3])


def test_rows_before_the_first_batch_are_empty():
    assert parts()[-1].rows == []
    assert lg.Probe().rows == []


def test_training_works_with_a_value_that_is_not_scalar_shaped():
    class Column(nn.Module):
        def forward(self, z, y):
            return nn.functional.cross_entropy(z, y)[None]

    row = train(probed=True, steps=1, loss=Column()).rows[0]
    assert row["loss_factor"] == 1

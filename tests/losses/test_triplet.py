from functools import partial

import pytest
import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.reducers import AvgNonZeroReducer, MeanReducer

from lossgauge.errors import InputError
from lossgauge.losses.pairs import pair_masks
from lossgauge.losses.registry import load_loss
from lossgauge.losses.triplet import Triplet, triplet_terms
from tests.losses.cases import assert_agrees, assert_same_as_peer, make_batch, without_kernel


def slow(rows, labels, margin, power=2):
    terms = []
    for a in range(len(rows)):
        distances = [
            None if i == a else (rows[a] - rows[i]).square().sum() ** (power / 2)
            for i in range(len(rows))
        ]
        for p in range(len(rows)):
            for n in range(len(rows)):
                if a != p and labels[a] == labels[p] and labels[a] != labels[n]:
                    terms.append((distances[p] - distances[n] + margin).clamp(min=0))
    return terms


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("margin", [0.0, 0.2, 1.0])
def test_value_and_gradient_are_those_of_the_loop(batch, margin, power):
    loss = Triplet(margin=margin, power=power)
    assert_agrees(loss, lambda r, y: slow(r, y, margin, power), batch)


def peer(margin, reducer, power=2):
    return TripletMarginLoss(
        margin=margin,
        distance=LpDistance(power=power, normalize_embeddings=False),
        reducer=reducer,
    )


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("margin", [0.05, 0.2])
def test_value_and_gradient_are_those_of_pytorch_metric_learning(batch, margin, power):
    loss = Triplet(margin=margin, power=power)
    assert_same_as_peer(loss, peer(margin, MeanReducer(), power), batch)


def margin_loss_of_torch(rows, labels):
    """Every triplet of the batch through `torch.nn.TripletMarginLoss`, without its eps inside the distance."""
    positive, negative = pair_masks(labels)
    a, p, n = (positive[:, :, None] & negative[:, None]).nonzero(as_tuple=True)
    return torch.nn.TripletMarginLoss(margin=0.3, eps=0)(rows[a], rows[p], rows[n])


def test_unsquared_it_is_the_triplet_margin_loss_of_torch(batch):
    assert_same_as_peer(Triplet(margin=0.3, power=1), margin_loss_of_torch, batch)


@pytest.mark.parametrize("form", ["kernel", "torch"])
def test_unsquared_it_is_homogeneous_and_depends_on_no_origin_and_no_rotation(form):
    embeddings, labels = make_batch([0, 1, 2, 3] * 5, unit=False)
    rotation, _ = torch.linalg.qr(make_batch([0] * 6, seed=1)[0])

    def outcome(rows, margin):
        loss = Triplet(margin=margin, power=1)
        with torch.no_grad():
            return (loss.outcome if form == "kernel" else partial(without_kernel, loss))(
                rows, labels
            )

    plain = outcome(embeddings, 0.4)
    for moved, margin, factor in (
        (3 * embeddings, 1.2, 3.0),
        (embeddings + 7, 0.4, 1.0),
        (embeddings @ rotation, 0.4, 1.0),
    ):
        other = outcome(moved, margin)
        torch.testing.assert_close(other.value, factor * plain.value)
        torch.testing.assert_close(
            other.forces.gradient.norm(dim=1), plain.forces.gradient.norm(dim=1)
        )
        assert torch.equal(other.weight, plain.weight)


def test_active_triplets_are_those_of_pytorch_metric_learning():
    embeddings, labels = make_batch([0, 1, 2, 3, 4] * 8, seed=3)
    other = peer(0.2, AvgNonZeroReducer(collect_stats=True))
    other(embeddings, labels)
    evaluation = Triplet(margin=0.2, tolerance=0).evaluate(embeddings, labels)
    assert evaluation.active_count == other.reducer.num_past_filter


@pytest.mark.parametrize("power", [1, 2])
def test_a_collapsed_batch_has_value_margin_every_triplet_active_and_exactly_no_gradient(power):
    rows = torch.nn.functional.normalize(torch.ones(12, 7)).requires_grad_()
    evaluation = Triplet(margin=0.2, power=power).evaluate(rows, torch.arange(12) % 3)
    evaluation.value.backward()
    assert evaluation.value.item() == pytest.approx(0.2)
    assert evaluation.active_count == evaluation.term_count
    assert rows.grad.abs().max() == 0


@pytest.mark.parametrize("form", ["kernel", "torch"])
def test_unsquared_an_equal_pair_has_no_force_and_the_rest_of_its_triplets_has(form):
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.6, 0.8]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 1])
    loss = Triplet(margin=1.0, power=1)
    with torch.no_grad():
        outcome = (loss.outcome if form == "kernel" else partial(without_kernel, loss))(
            rows, labels
        )
    away = (rows[2] - rows[0]) / (rows[2] - rows[0]).norm()
    torch.testing.assert_close(
        outcome.value, torch.tensor([1.0, 1.0, 0.0]).double() * (1 - 0.8**0.5)
    )
    torch.testing.assert_close(outcome.forces.gradient, torch.stack([away, away, -2 * away]))
    assert (outcome.forces.pull == 0).all()


@pytest.mark.parametrize("power", [0, 3, -1, 1.5, "2", True])
def test_a_power_is_one_or_two(power):
    with pytest.raises(
        InputError, match=r"^power of Triplet must be (a whole number|at least 1|1 .distances)"
    ):
        Triplet(power=power)


def test_the_error_for_the_name_of_torch_says_which_setting_gives_it():
    with pytest.raises(
        InputError, match=r"no loss is named 'TripletMarginLoss'.*'triplet'.*power=1"
    ):
        load_loss("TripletMarginLoss")


def test_an_anchor_weight_is_its_share_of_violated_triplets():
    embeddings, labels = make_batch([0, 1, 2] * 4, seed=1)
    evaluation = Triplet(margin=0.2).evaluate(embeddings, labels)
    for anchor in range(len(labels)):
        d = (embeddings[anchor] - embeddings).square().sum(1)
        positives = [p for p in range(len(d)) if p != anchor and labels[p] == labels[anchor]]
        negatives = [n for n in range(len(d)) if labels[n] != labels[anchor]]
        violated = [d[p] - d[n] + 0.2 > 0 for p in positives for n in negatives]
        assert evaluation.anchor_weight[anchor] == pytest.approx(sum(violated) / len(violated))


def test_the_plain_form_sums_long_rows_of_near_equal_distances_without_cancelling():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(1200) % 2
    # a value is a hundredth of the distances it is the difference of
    distances = 2 + 0.02 * torch.rand(1200, 1200, generator=generator)
    terms = {
        dtype: triplet_terms(distances.to(dtype), *pair_masks(labels), margin=0.0, tolerance=0.0)
        for dtype in (torch.float32, torch.float64)
    }
    found, wanted = (of.value.double() for of in terms.values())
    torch.testing.assert_close(found, wanted, rtol=2e-7, atol=0)

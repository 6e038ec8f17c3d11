import pytest
import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.reducers import AvgNonZeroReducer, MeanReducer

from lossgauge.losses.pairs import pair_masks
from lossgauge.losses.triplet import Triplet, triplet_terms
from tests.losses.cases import assert_agrees, assert_same_as_peer, make_batch


def slow(rows, labels, margin):
    terms = []
    for a in range(len(rows)):
        for p in range(len(rows)):
            for n in range(len(rows)):
                if a != p and labels[a] == labels[p] and labels[a] != labels[n]:
                    to_positive = (rows[a] - rows[p]).square().sum()
                    to_negative = (rows[a] - rows[n]).square().sum()
                    terms.append((to_positive - to_negative + margin).clamp(min=0))
    return terms


@pytest.mark.parametrize("margin", [0.0, 0.2, 1.0])
def test_value_and_gradient_are_those_of_the_loop(batch, margin):
    assert_agrees(Triplet(margin=margin), lambda r, y: slow(r, y, margin), batch)


def peer(margin, reducer):
    return TripletMarginLoss(
        margin=margin, distance=LpDistance(power=2, normalize_embeddings=False), reducer=reducer
    )


@pytest.mark.parametrize("margin", [0.05, 0.2])
def test_value_and_gradient_are_those_of_pytorch_metric_learning(batch, margin):
    assert_same_as_peer(Triplet(margin=margin), peer(margin, MeanReducer()), batch)


def test_active_triplets_are_those_of_pytorch_metric_learning():
    embeddings, labels = make_batch([0, 1, 2, 3, 4] * 8, seed=3)
    other = peer(0.2, AvgNonZeroReducer(collect_stats=True))
    other(embeddings, labels)
    evaluation = Triplet(margin=0.2, tolerance=0).evaluate(embeddings, labels)
    assert evaluation.active_count == other.reducer.num_past_filter


def test_a_collapsed_batch_has_value_margin_every_triplet_active_and_exactly_no_gradient():
    rows = torch.nn.functional.normalize(torch.ones(12, 7)).requires_grad_()
    evaluation = Triplet(margin=0.2).evaluate(rows, torch.arange(12) % 3)
    evaluation.value.backward()
    assert evaluation.value.item() == pytest.approx(0.2)
    assert evaluation.active_count == evaluation.term_count
    assert rows.grad.abs().max() == 0


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

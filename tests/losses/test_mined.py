"""Miners against pytorch-metric-learning 2.9 and against loops, and a loss over what they keep."""

import pytest
import torch
from pytorch_metric_learning import losses as peer_losses
from pytorch_metric_learning import miners as peer
from scipy.stats import chisquare

from lossgauge.errors import InputError
from lossgauge.losses.miners import MINERS, Masks, distance_weights, distances, mined
from lossgauge.losses.pairs import pair_masks
from lossgauge.losses.registry import load_loss
from tests.losses.cases import BATCHES, make_batch

PEERS = {
    "hard": peer.BatchHardMiner(),
    "semihard": peer.TripletMarginMiner(margin=0.2, type_of_triplets="semihard"),
    "multi_similarity": peer.MultiSimilarityMiner(epsilon=0.1),
}


def masks_of(indices, count):
    """The pairs that a miner of the other library returns, as triplets or as pairs."""
    first, positives, *rest = indices
    second, negatives = rest if len(rest) == 2 else (first, *rest)
    masks = torch.zeros(2, count, count, dtype=torch.bool)
    masks[0, first, positives] = True
    masks[1, second, negatives] = True
    return Masks(*masks)


def kept(miner, rows, labels, **keywords):
    return mined(miner, rows @ rows.T, Masks(*pair_masks(labels)), width=rows.shape[1], **keywords)


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("miner", PEERS)
def test_the_pairs_are_those_of_pytorch_metric_learning(miner, name):
    some = 0
    for seed in range(4):
        rows, labels = make_batch(BATCHES[name], seed=seed)
        found, wanted = kept(miner, rows, labels), masks_of(PEERS[miner](rows, labels), len(rows))
        assert torch.equal(found.positive, wanted.positive)
        assert torch.equal(found.negative, wanted.negative)
        some += int(found.negative.sum())
    assert some


def test_semihard_pairs_are_those_of_a_loop_over_all_triplets():
    rows, labels = make_batch(BATCHES["unbalanced"], seed=9)
    distance = torch.cdist(rows, rows)
    positive, negative = pair_masks(labels)
    wanted = torch.zeros(2, *distance.shape, dtype=torch.bool)
    for a, p in positive.nonzero().tolist():
        for n in negative[a].nonzero().flatten().tolist():
            if 0 < distance[a, n] - distance[a, p] <= 0.2:
                wanted[0, a, p] = wanted[1, a, n] = True
    found = kept("semihard", rows, labels)
    assert torch.equal(torch.stack(found), wanted)
    assert not found.positive.equal(positive)


def test_distances_are_weighted_by_the_inverse_of_their_density_on_the_sphere():
    rows, labels = make_batch([0] * 3 + [1] * 40, seed=1, width=5)
    negative = pair_masks(labels)[1]
    found = distance_weights(distances(rows @ rows.T), negative, width=5)
    for anchor in range(len(rows)):
        weights = {}
        for other in negative[anchor].nonzero().flatten().tolist():
            d = max(float((rows[anchor] - rows[other]).norm()), 0.5)
            if d < 1.4:
                weights[other] = 1 / (d ** (5 - 2) * (1 - d * d / 4) ** ((5 - 3) / 2))
        assert {*found[anchor].nonzero().flatten().tolist()} == {*weights}
        for other, weight in weights.items():
            assert float(found[anchor, other]) == pytest.approx(weight / sum(weights.values()))


def test_drawn_negatives_follow_their_weights_as_those_of_pytorch_metric_learning_do():
    # classes of two: one draw for each anchor
    rows, labels = make_batch([0, 0, 1, 1, 2, 2, 3, 3], seed=2, width=4)
    weights = distance_weights(distances(rows @ rows.T), pair_masks(labels)[1], width=4)
    generator = torch.Generator().manual_seed(0)
    draws = 200
    ours = sum(kept("distance", rows, labels, generator=generator).negative for _ in range(draws))
    theirs = torch.zeros_like(weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(draws):
            anchors, _, negatives = peer.DistanceWeightedMiner()(rows, labels)
            theirs.index_put_(
                (anchors, negatives), torch.ones(len(anchors)).double(), accumulate=True
            )
    for counts in (ours.double(), theirs):
        for anchor in range(len(rows)):
            can = weights[anchor] > 0
            assert not counts[anchor][~can].any()
            total = counts[anchor].sum()
            if can.sum() > 1:
                assert chisquare(counts[anchor][can], total * weights[anchor][can]).pvalue > 1e-4
        assert counts.sum(dim=1).min() >= draws


def test_a_draw_keeps_at_most_as_many_negatives_as_positives_and_follows_its_generator():
    rows, labels = make_batch(BATCHES["balanced"], seed=3)
    draws = [
        kept("distance", rows, labels, generator=torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    ]
    assert (draws[0].negative.sum(dim=1) <= draws[0].positive.sum(dim=1)).all()
    assert torch.equal(draws[0].negative, draws[1].negative)
    assert not torch.equal(draws[0].negative, draws[2].negative)


@pytest.mark.parametrize("miner", MINERS)
def test_a_batch_without_positives_or_without_negatives_keeps_no_negative(miner):
    for labels in (torch.arange(6), torch.zeros(6, dtype=torch.long)):
        rows, _ = make_batch([0] * 6)
        loss = load_loss("mined", of="triplet", miner=miner)
        evaluation = loss.evaluate(rows.clone().requires_grad_(), labels)
        assert evaluation.term_count == 0
        assert evaluation.value == 0
        assert evaluation.columns["mined_share"] != evaluation.columns["mined_share"]


@pytest.mark.parametrize("of", ["triplet", "info_nce", "contrastive", "scl", "relaxed"])
def test_all_pairs_give_the_loss_itself(of):
    rows, labels = make_batch(BATCHES["with lone samples"])
    results = []
    for loss in (load_loss(of), load_loss("mined", of=of, miner="all")):
        at = rows.clone().requires_grad_()
        evaluation = loss.evaluate(at, labels)
        evaluation.value.backward()
        results.append((evaluation.value.detach(), at.grad, evaluation.pull, evaluation.push))
    for found, wanted in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
    assert evaluation.columns["mined_share"] == 1


def test_a_mined_loss_is_that_of_pytorch_metric_learning_with_its_miner():
    rows, labels = make_batch(BATCHES["balanced"], seed=5)
    results = []
    theirs = peer_losses.TripletMarginLoss(
        margin=0.3, triplets_per_anchor="all", reducer=None, distance=None
    )
    for found in ("ours", "theirs"):
        at = rows.clone().requires_grad_()
        if found == "ours":
            evaluation = load_loss(
                "mined",
                of=load_loss("triplet", margin=0.3, power=1),
                miner="hard",
                reduction="active",
            ).evaluate(at, labels)
            value = evaluation.value
        else:
            value = theirs(at, labels, PEERS["hard"](rows, labels))
        value.backward()
        # theirs normalises the rows, so its gradient has no part along them
        along = (at.grad * rows).sum(dim=1, keepdim=True)
        results.append((value.detach(), at.grad - along * rows))
    for mine, wanted in zip(*results, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-7, atol=1e-9)
    positive, negative = pair_masks(labels)
    terms = int((positive.sum(dim=1) * negative.sum(dim=1)).sum())
    assert evaluation.columns["mined_share"] == len(rows) / terms


def test_a_wrong_name_is_refused():
    with pytest.raises(
        InputError, match=r"unknown miner of the loss 'mined' 'hardest' \(did you mean 'hard'"
    ):
        load_loss("mined", miner="hardest")
    with pytest.raises(InputError, match=r"must be one of contrastive, .*, got 'arcface'"):
        load_loss("mined", of="arcface")
    with pytest.raises(InputError, match=r"unknown miner 'hrad' .did you mean 'hard'"):
        kept("hrad", *make_batch([0, 0, 1, 1]))

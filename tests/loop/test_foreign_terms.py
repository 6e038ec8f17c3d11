"""The terms of pytorch-metric-learning's losses, against loops over every term."""

import copy
import gc
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pytorch_metric_learning import distances, losses, miners, reducers
from torch import Tensor, nn

import lossgauge as lg
from lossgauge.loop.foreign_terms import reader_for
from lossgauge.types import Evaluation

Pair = tuple[int, int]
Term = tuple[int, float, float]
"""Anchor, value, W."""

LABELS = torch.tensor([0, 0, 1, 1, 1, 2, 3, 0, 2, 4])


def embeddings_of(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(LABELS), 5, dtype=torch.float64, generator=generator)


def lp(x: Tensor, y: Tensor) -> float:
    return float((x / x.norm() - y / y.norm()).square().sum().sqrt())


def squared(x: Tensor, y: Tensor) -> float:
    return lp(x, y) ** 2


def cosine(x: Tensor, y: Tensor) -> float:
    return float((x / x.norm()) @ (y / y.norm()))


def dot(x: Tensor, y: Tensor) -> float:
    return float(x @ y)


def snr(x: Tensor, y: Tensor) -> float:
    x, y = x / x.norm(), y / y.norm()
    return float((x - y).var() / x.var())


DISTANCES: dict[str, tuple[nn.Module, Callable[[Tensor, Tensor], float], int]] = {
    "Lp": (distances.LpDistance(), lp, 1),
    "squared": (distances.LpDistance(power=2), squared, 1),
    "cosine": (distances.CosineSimilarity(), cosine, -1),
    "dot": (distances.DotProductSimilarity(normalize_embeddings=False), dot, -1),
    "SNR": (distances.SNRDistance(), snr, 1),
}
"""The library's distance, ours for one pair, and 1 where it grows as things differ."""


EACH_DISTANCE = pytest.mark.parametrize(
    "distance",
    [
        pytest.param(name, marks=pytest.mark.slow if name in ("squared", "SNR") else ())
        for name in DISTANCES
    ],
)


def between(name: str, rows: Tensor) -> list[list[float]]:
    """The distance of every pair, one by one."""
    of = DISTANCES[name][1]
    return [[of(one, other) for other in rows] for one in rows]


MINERS: dict[str, Callable[[], nn.Module] | None] = {
    "all pairs": None,
    "pairs": lambda: miners.MultiSimilarityMiner(epsilon=0.1),
    "triplets": lambda: miners.TripletMarginMiner(margin=0.3, type_of_triplets="all"),
}


def pairs_of(mined: Any) -> tuple[list[Pair], list[Pair]]:
    """Positive and negative pairs, with repetitions."""
    count = range(len(LABELS))
    if mined is None:
        same = [(i, j) for i in count for j in count if i != j and LABELS[i] == LABELS[j]]
        other = [(i, j) for i in count for j in count if LABELS[i] != LABELS[j]]
        return same, other
    first, positive, second, negative = (
        [part.tolist() for part in mined]
        if len(mined) == 4
        else [mined[0].tolist(), mined[1].tolist(), mined[0].tolist(), mined[2].tolist()]
    )
    return list(zip(first, positive, strict=True)), list(zip(second, negative, strict=True))


def triplets_of(mined: Any) -> list[tuple[int, int, int]]:
    if mined is not None and len(mined) == 3:
        return list(zip(*(part.tolist() for part in mined), strict=True))
    same, other = pairs_of(mined)
    return [(a, p, n) for a, p in same for b, n in other if a == b]


def check(evaluation: Evaluation, terms: list[Term], *, skipped: int, weights: bool = True) -> None:
    assert evaluation.term_count == len(terms)
    assert evaluation.active_count == sum(value > 1e-6 for _, value, _ in terms)
    assert evaluation.skipped_anchors == skipped
    if not terms:
        return
    assert evaluation.anchor_value is not None
    for row in range(len(LABELS)):
        own = [term for term in terms if term[0] == row]
        for part, which in ((evaluation.anchor_value, 1), (evaluation.anchor_weight, 2)):
            if part is None:
                assert which == 2
                assert not weights
            elif own:
                mean = sum(term[which] for term in own) / len(own)
                assert float(part[row]) == pytest.approx(mean, rel=1e-5, abs=1e-6)
            else:
                assert math.isnan(part[row])


def without_term(terms: list[Term]) -> int:
    return len(set(range(len(LABELS))) - {anchor for anchor, _, _ in terms})


def evaluated(criterion: nn.Module, rows: Tensor, *inputs: Any) -> Evaluation:
    reader = reader_for(criterion)
    assert reader is not None
    output = criterion(rows, *inputs)
    return reader((rows, *inputs), output)


def mined_by(miner: str, rows: Tensor) -> Any:
    make = MINERS[miner]
    return None if make is None else make()(rows, LABELS)


@pytest.mark.parametrize("miner", MINERS)
@EACH_DISTANCE
def test_contrastive(distance, miner):
    module, _, sign = DISTANCES[distance]
    rows = embeddings_of()
    of = between(distance, rows)
    mined = mined_by(miner, rows)
    positive_margin, negative_margin = (0.2, 0.9) if sign > 0 else (0.8, 0.1)
    criterion = losses.ContrastiveLoss(
        positive_margin, negative_margin, distance=module, reducer=reducers.MeanReducer()
    )
    evaluation = evaluated(criterion, rows, LABELS, mined)
    same, other = pairs_of(mined)
    near = [(a, max(0.0, sign * (of[a][p] - positive_margin))) for a, p in same]
    far = [(a, max(0.0, sign * (negative_margin - of[a][n]))) for a, n in other]
    terms = [(anchor, value, float(value > 0)) for anchor, value in near + far]
    check(evaluation, terms, skipped=without_term(terms))
    mean = sum(value for _, value in near) / len(near) + sum(value for _, value in far) / len(far)
    assert float(evaluation.value.detach()) == pytest.approx(mean)


@pytest.mark.parametrize("miner", MINERS)
@EACH_DISTANCE
@pytest.mark.parametrize("smooth", [False, True])
def test_triplet(distance, miner, smooth):
    module, _, sign = DISTANCES[distance]
    rows = embeddings_of()
    of = between(distance, rows)
    mined = mined_by(miner, rows)
    criterion = losses.TripletMarginLoss(
        0.3, smooth_loss=smooth, distance=module, reducer=reducers.MeanReducer()
    )
    evaluation = evaluated(criterion, rows, LABELS, mined)
    terms = []
    for a, p, n in triplets_of(mined):
        violation = sign * (of[a][p] - of[a][n]) + 0.3
        value = math.log1p(math.exp(violation)) if smooth else max(0.0, violation)
        terms.append((a, value, 1 / (1 + math.exp(-violation)) if smooth else float(value > 0)))
    check(evaluation, terms, skipped=without_term(terms))
    mean = sum(value for _, value, _ in terms) / len(terms)
    assert float(evaluation.value.detach()) == pytest.approx(mean)


@pytest.mark.parametrize("miner", MINERS)
@EACH_DISTANCE
def test_ntxent(distance, miner):
    module, _, sign = DISTANCES[distance]
    rows = embeddings_of()
    of = between(distance, rows)
    mined = mined_by(miner, rows)
    evaluation = evaluated(losses.NTXentLoss(0.5, distance=module), rows, LABELS, mined)
    same, other = pairs_of(mined)
    terms = []
    for a, p in same:
        positive = math.exp(-sign * of[a][p] / 0.5)
        negatives = [math.exp(-sign * of[a][n] / 0.5) for b, n in other if a == b]
        share = positive / (positive + sum(negatives))
        terms.append((a, -math.log(share), 1 - share))
    check(evaluation, terms, skipped=without_term(terms))
    mean = sum(value for _, value, _ in terms) / len(terms)
    assert float(evaluation.value.detach()) == pytest.approx(mean)


@pytest.mark.parametrize("miner", MINERS)
@pytest.mark.parametrize("distance", ["cosine", "Lp"])
def test_supcon(distance, miner):
    module, _, sign = DISTANCES[distance]
    rows = embeddings_of()
    of = between(distance, rows)
    mined = mined_by(miner, rows)
    evaluation = evaluated(losses.SupConLoss(0.5, distance=module), rows, LABELS, mined)
    same, other = (set(pairs) for pairs in pairs_of(mined))
    terms = []
    for a in sorted({a for a, _ in same}):
        positives = [of[a][p] * -sign / 0.5 for b, p in sorted(same) if a == b]
        negatives = [of[a][n] * -sign / 0.5 for b, n in other if a == b]
        total = math.log(sum(math.exp(s) for s in positives + negatives))
        terms.append((a, sum(total - s for s in positives) / len(positives), math.nan))
    check(evaluation, terms, skipped=len(LABELS) - len(terms), weights=False)
    active = [value for _, value, _ in terms if value > 0]
    assert float(evaluation.value) == pytest.approx(sum(active) / len(active))


@pytest.mark.parametrize("miner", MINERS)
def test_n_pairs(miner):
    rows = embeddings_of()
    mined = mined_by(miner, rows)
    evaluation = evaluated(losses.NPairsLoss(), rows, LABELS, mined)
    same, _ = pairs_of(mined)
    first: dict[int, Pair] = {}
    for a, p in same:
        first.setdefault(int(LABELS[a]), (a, p))
    # the library's dot product normalises rows
    unit = rows / rows.norm(dim=1, keepdim=True)
    pairs = [first[label] for label in sorted(first)]
    terms = []
    for a, p in pairs:
        logits = [dot(unit[a], unit[q]) for _, q in pairs]
        share = math.exp(dot(unit[a], unit[p])) / sum(math.exp(logit) for logit in logits)
        terms.append((a, -math.log(share), 1 - share))
    check(evaluation, terms, skipped=5 - len(terms))
    mean = sum(value for _, value, _ in terms) / len(terms)
    assert float(evaluation.value.detach()) == pytest.approx(mean)


@pytest.mark.parametrize("miner", MINERS)
def test_arcface(miner):
    rows = embeddings_of()
    mined = mined_by(miner, rows)
    torch.manual_seed(0)
    criterion = losses.ArcFaceLoss(5, 5, margin=20, scale=6).double()
    evaluation = evaluated(criterion, rows, LABELS, mined)
    count = [1.0] * len(LABELS)
    if mined is not None:
        every = torch.cat(mined).tolist()
        count = [float(every.count(row)) for row in range(len(LABELS))]
    terms = []
    for row, label in enumerate(LABELS.tolist()):
        angles = [math.acos(cosine(rows[row], w)) for w in criterion.W.detach().T]
        margin = math.radians(20)
        own = (
            math.cos(angles[label] + margin)
            if angles[label] <= math.pi - margin
            else math.cos(angles[label]) - margin * math.sin(margin)
        )
        logits = [math.cos(angle) for angle in angles]
        logits[label] = own
        share = math.exp(6 * own) / sum(math.exp(6 * logit) for logit in logits)
        weight = count[row] / max(count)
        terms.append((row, -weight * math.log(share), weight * (1 - share)))
    check(evaluation, terms, skipped=0)
    mean = sum(value for _, value, _ in terms) / len(terms)
    assert float(evaluation.value.detach()) == pytest.approx(mean)


def sides_of(mined: Any, row: int) -> tuple[set[int], set[int]]:
    """The positives and the negatives of a row."""
    same, other = pairs_of(mined)
    return {p for a, p in same if a == row}, {n for a, n in other if a == row}


@pytest.mark.parametrize("miner", MINERS)
@EACH_DISTANCE
def test_multi_similarity(distance, miner):
    module, _, sign = DISTANCES[distance]
    rows = embeddings_of()
    of = between(distance, rows)
    mined = mined_by(miner, rows)
    criterion = losses.MultiSimilarityLoss(
        2, 5, 0.4, distance=module, reducer=reducers.MeanReducer()
    )
    evaluation = evaluated(criterion, rows, LABELS, mined)
    terms = []
    for a in range(len(rows)):
        positives, negatives = sides_of(mined, a)
        pull = sum(math.exp(sign * 2 * (of[a][p] - 0.4)) for p in positives)
        push = sum(math.exp(sign * 5 * (0.4 - of[a][n])) for n in negatives)
        sides = [x / (1 + x) for x, some in ((pull, positives), (push, negatives)) if some]
        if sides:
            value = math.log1p(pull) / 2 + math.log1p(push) / 5
            terms.append((a, value, sum(sides) / len(sides)))
    check(evaluation, terms, skipped=len(rows) - len(terms))
    mean = sum(value for _, value, _ in terms) / len(rows)
    assert float(evaluation.value.detach()) == pytest.approx(mean)


@pytest.mark.parametrize("miner", MINERS)
def test_circle(miner):
    rows = embeddings_of()
    of = between("cosine", rows)
    mined = mined_by(miner, rows)
    criterion = losses.CircleLoss(m=0.3, gamma=4, reducer=reducers.MeanReducer())
    evaluation = evaluated(criterion, rows, LABELS, mined)
    terms = []
    for a in range(len(rows)):
        positives, negatives = sides_of(mined, a)
        if positives and negatives:
            pull = sum(math.exp(-4 * max(0, 1.3 - of[a][p]) * (of[a][p] - 0.7)) for p in positives)
            push = sum(math.exp(4 * max(0, of[a][n] + 0.3) * (of[a][n] - 0.3)) for n in negatives)
            terms.append((a, math.log1p(pull * push), pull * push / (1 + pull * push)))
    check(evaluation, terms, skipped=len(rows) - len(terms))
    mean = sum(value for _, value, _ in terms) / len(rows)
    assert float(evaluation.value.detach()) == pytest.approx(mean)


def test_reference_embeddings_are_no_anchors():
    """Anchors are rows of the batch, and a row may be its own reference."""
    rows, reference = embeddings_of(), embeddings_of(1)[:4]
    labels = LABELS[:4]
    evaluation = evaluated(losses.SupConLoss(0.5), rows, LABELS, None, reference, labels)
    assert evaluation.term_count == 6  # the rows of classes 0 and 1
    assert evaluation.skipped_anchors == 4
    evaluation = evaluated(losses.NTXentLoss(), rows, LABELS, None, reference, labels)
    assert evaluation.term_count == 12
    assert evaluation.skipped_anchors == 4
    evaluation = evaluated(losses.CircleLoss(), rows, LABELS, None, reference, labels)
    assert (evaluation.term_count, evaluation.skipped_anchors) == (6, 4)
    evaluation = evaluated(losses.MultiSimilarityLoss(), rows, LABELS, None, reference, labels)
    assert (evaluation.term_count, evaluation.skipped_anchors) == (10, 0)


def test_a_batch_without_terms_has_none():
    rows = embeddings_of()
    labels = torch.arange(len(LABELS))
    for criterion in (losses.TripletMarginLoss(), losses.NTXentLoss(), losses.SupConLoss()):
        evaluation = evaluated(criterion, rows, labels)
        assert evaluation[1:4] == (0, 0, 10)
    assert evaluated(losses.NPairsLoss(), rows, labels)[1:4] == (0, 0, 10)
    assert evaluated(losses.ContrastiveLoss(), rows, labels).term_count == 90
    assert evaluated(losses.CircleLoss(), rows, labels)[1:4] == (0, 0, 10)
    assert evaluated(losses.MultiSimilarityLoss(), rows, labels).term_count == 10


def test_a_regulariser_is_no_term():
    from pytorch_metric_learning.regularizers import LpRegularizer

    criterion = losses.NTXentLoss(embedding_regularizer=LpRegularizer())
    plain = evaluated(losses.NTXentLoss(), embeddings_of(), LABELS)
    evaluation = evaluated(criterion, embeddings_of(), LABELS)
    assert evaluation.value > plain.value
    assert evaluation.term_count == plain.term_count


def test_other_losses_have_no_reader():
    class Own(losses.TripletMarginLoss):
        pass

    for criterion in (losses.FastAPLoss(), Own(), nn.CrossEntropyLoss(), nn.Linear(2, 2)):
        assert reader_for(criterion) is None


def test_the_criterion_is_unchanged_when_nobody_reads_it():
    criterion = losses.NTXentLoss()
    reader = reader_for(criterion)
    rows = embeddings_of()
    assert torch.equal(criterion(rows, LABELS), losses.NTXentLoss()(rows, LABELS))
    for other in (copy.deepcopy(criterion), pickle.loads(pickle.dumps(criterion))):
        assert torch.equal(other(rows, LABELS), criterion(rows, LABELS))
    assert criterion.reducer._forward_hooks
    del reader
    gc.collect()
    assert not criterion.reducer._forward_hooks


def test_the_probe_shows_the_terms_of_a_loss_with_a_miner():
    torch.manual_seed(0)
    head = nn.Linear(5, 5).double()
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    criterion, miner = losses.TripletMarginLoss(0.2), miners.TripletMarginMiner(margin=0.2)
    probe = lg.Probe(optimizer, loss=criterion)
    counts = []
    for _ in range(3):
        z = probe.embeddings(head(embeddings_of()), LABELS)
        mined = miner(z, LABELS)
        counts.append(len(mined[0]))
        optimizer.zero_grad()
        criterion(z, LABELS, mined).backward()
        optimizer.step()
    assert [row["term_count"] for row in probe.rows] == counts
    assert all(row["term_active_ratio"] == 1 for row in probe.rows)  # the miner gives no others
    assert all(0 <= row["skipped_anchor_ratio"] < 1 for row in probe.rows)

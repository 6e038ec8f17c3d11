"""The terms of sentence-transformers' losses, against loops over every term."""

import copy
import gc
import itertools
import math
import pickle

import pytest
import torch
from torch import Tensor

from lossgauge.loop.foreign_terms import reader_for
from lossgauge.types import Evaluation

pytestmark = [
    pytest.mark.slow,  # importing sentence-transformers takes seconds
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
sentence_losses = pytest.importorskip(
    "sentence_transformers.sentence_transformer.losses",
    reason="needs sentence-transformers: pip install 'lossgauge[sentence-transformers]'",
)


def columns_of(count: int, rows: int = 6) -> list[Tensor]:
    generator = torch.Generator().manual_seed(count)
    return [torch.randn(rows, 4, dtype=torch.float64, generator=generator) for _ in range(count)]


def evaluated(
    criterion: torch.nn.Module, columns: list[Tensor], labels: Tensor | None = None
) -> Evaluation:
    reader = reader_for(criterion)
    assert reader is not None
    output = criterion.compute_loss_from_embeddings(columns, labels)
    return reader(([], labels), output)


def cosine(x: Tensor, y: Tensor) -> float:
    return float((x / x.norm()) @ (y / y.norm()))


def check(evaluation: Evaluation, values: list[float], weights: list[float]) -> None:
    assert evaluation.term_count == len(values)
    assert evaluation.active_count == sum(value > 1e-6 for value in values)
    assert evaluation.skipped_anchors == 0
    assert float(evaluation.value) == pytest.approx(sum(values) / len(values))
    assert evaluation.anchor_value.tolist() == pytest.approx(values, rel=1e-5, abs=1e-6)
    assert evaluation.anchor_weight.tolist() == pytest.approx(weights, rel=1e-5, abs=1e-6)


EVERY = ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")


@pytest.mark.parametrize(
    "hardness", [None, "in_batch_negatives", "hard_negatives", "all_negatives"]
)
@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize(
    ("directions", "mode"),
    [
        (("query_to_doc",), "joint"),
        (("query_to_doc", "doc_to_query"), "per_direction"),
        (EVERY, "joint"),
        (("query_to_doc", "doc_to_query"), "joint"),
    ],
)
def test_multiple_negatives_ranking(directions, mode, count, hardness):
    criterion = sentence_losses.MultipleNegativesRankingLoss(
        None,
        scale=3.0,
        directions=directions,
        partition_mode=mode,
        hardness_mode=hardness,
        hardness_strength=2.0,
    )
    columns = columns_of(count)
    queries, documents = columns[0], columns[1:]
    rows = range(len(queries))
    every = [(k, j) for k in range(count - 1) for j in rows]
    values, weights = [], []
    for i in rows:
        candidates: dict[str, list[float]] = {name: [] for name in directions}
        for k, j in every:
            similarity = cosine(queries[i], documents[k][j])
            is_hard = j == i and k > 0
            harder = {
                None: False,
                "in_batch_negatives": j != i,
                "hard_negatives": is_hard,
                "all_negatives": j != i or is_hard,
            }[hardness]
            candidates["query_to_doc"].append(similarity * (3 + 2 * harder))
        for j in rows:
            if "query_to_query" in directions and j != i:
                candidates["query_to_query"].append(3 * cosine(queries[i], queries[j]))
            if "doc_to_query" in directions:
                candidates["doc_to_query"].append(3 * cosine(queries[j], documents[0][i]))
        if "doc_to_doc" in directions:
            candidates["doc_to_doc"] += [
                3 * cosine(documents[k][j], documents[0][i]) for k, j in every if j != i
            ]
        positive = 3 * cosine(queries[i], documents[0][i])
        sums = {n: sum(math.exp(s) for s in scores) for n, scores in candidates.items()}
        with_positive = [n for n in directions if n in ("query_to_doc", "doc_to_query")]
        if mode == "joint":
            whole = sum(sums.values())
            values.append(math.log(whole) - positive)
            weights.append(max(0.0, 1 - len(with_positive) * math.exp(positive) / whole))
        else:
            values.append(sum(map(math.log, sums.values())) / len(sums) - positive)
            shares = [math.exp(positive) / sums[n] for n in with_positive]
            weights.append(1 - sum(shares) / len(sums))
    check(evaluated(criterion, columns), values, weights)


@pytest.mark.parametrize("metric", ["COSINE", "EUCLIDEAN", "MANHATTAN"])
def test_triplet(metric):
    distance = {
        "COSINE": lambda x, y: 1 - cosine(x, y),
        "EUCLIDEAN": lambda x, y: float((x - y).norm()),
        "MANHATTAN": lambda x, y: float((x - y).abs().sum()),
    }[metric]
    criterion = sentence_losses.TripletLoss(
        None,
        distance_metric=getattr(sentence_losses.TripletDistanceMetric, metric),
        triplet_margin=0.1,
    )
    columns = columns_of(3)
    gaps = [distance(a, p) - distance(a, n) for a, p, n in zip(*columns, strict=True)]
    values = [max(0.0, gap + 0.1) for gap in gaps]
    assert 0 < sum(value > 0 for value in values) < len(values)
    check(evaluated(criterion, columns), values, [float(value > 0) for value in values])


@pytest.mark.parametrize(
    "labels", [[0.1, 0.5, 0.5, 0.9, 0.0, 0.2], [1, 0, 1, 0, 0, 1], [0.3] * 6, [0, 0, 0, 0, 0, 1]]
)
def test_cosent(labels):
    criterion = sentence_losses.CoSENTLoss(None, scale=15.0)
    first, second = columns_of(2)
    scores = [15 * cosine(x, y) for x, y in zip(first, second, strict=True)]
    pairs = [(i, j) for i, j in itertools.product(range(6), repeat=2) if labels[i] > labels[j]]
    values = [math.log1p(math.exp(scores[j] - scores[i])) for i, j in pairs]
    evaluation = evaluated(criterion, [first, second], torch.tensor(labels))
    whole = math.log1p(sum(math.exp(scores[j] - scores[i]) for i, j in pairs))
    assert float(evaluation.value) == pytest.approx(whole)
    assert evaluation.term_count == len(pairs)
    assert evaluation.active_count == sum(value > 1e-6 for value in values)
    assert evaluation.skipped_anchors == 6 - len({row for pair in pairs for row in pair})
    assert evaluation.anchor_value is None


def test_some_cosent_terms_are_not_active():
    """So the comparison of the counts can fail."""
    criterion = sentence_losses.CoSENTLoss(None)
    first = torch.eye(2, dtype=torch.float64)
    evaluation = evaluated(criterion, [first, first[[0, 0]]], torch.tensor([1.0, 0.0]))
    assert (evaluation.term_count, evaluation.active_count) == (1, 0)


def test_what_is_not_known_has_no_reader():
    class Own(sentence_losses.TripletLoss):
        pass

    for criterion in (
        Own(None),
        sentence_losses.MultipleNegativesRankingLoss(None, gather_across_devices=True),
        sentence_losses.CosineSimilarityLoss(None),
    ):
        assert reader_for(criterion) is None


def test_the_criterion_is_as_before_when_nobody_reads_it():
    criterion = sentence_losses.MultipleNegativesRankingLoss(None)
    columns = columns_of(3)
    wanted = sentence_losses.MultipleNegativesRankingLoss(None).compute_loss_from_embeddings(
        columns, None
    )
    readers = [reader_for(criterion), reader_for(criterion)]
    for other in (
        criterion,
        copy.deepcopy(criterion),
        copy.deepcopy(copy.deepcopy(criterion)),
        pickle.loads(pickle.dumps(criterion)),
    ):
        assert other.compute_loss_from_embeddings(columns, None) == wanted
    assert [reader(([],), wanted).term_count for reader in readers] == [6, 6]
    readers.pop()
    gc.collect()
    assert "compute_loss_from_embeddings" in vars(criterion)
    readers.pop()
    gc.collect()
    assert "compute_loss_from_embeddings" not in vars(criterion)

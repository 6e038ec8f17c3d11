import numpy as np
import pytest
import torch
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

from lossgauge.errors import InputError
from lossgauge.ranking.metrics import checked_ranks, retrieval


def make_batch(*, sizes=(7, 2, 5, 1, 9, 1), width=5, seed=0, levels=None):
    """Rows in classes of these sizes; with `levels`, rounded so that many similarities are equal."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    labels = labels[torch.randperm(len(labels), generator=generator)]
    rows = torch.randn(len(labels), width, dtype=torch.float64, generator=generator)
    return (rows if levels is None else (rows * levels).round() / levels), labels


def slow(rows, labels, recall_at):
    recalls, precisions, averages = {k: [] for k in recall_at}, [], []
    for query in range(len(labels)):
        others = [i for i in range(len(labels)) if i != query]
        others.sort(key=lambda i: (-float(rows[query] @ rows[i]), i))
        hits = [bool(labels[i] == labels[query]) for i in others]
        relevant = sum(hits)
        if relevant == 0:
            continue
        for k in recall_at:
            recalls[k].append(any(hits[:k]))
        precisions.append(sum(hits[:relevant]) / relevant)
        at_hits = [sum(hits[: i + 1]) / (i + 1) for i in range(relevant) if hits[i]]
        averages.append(sum(at_hits) / relevant)
    mean = np.mean
    return {k: mean(v) for k, v in recalls.items()}, mean(precisions), mean(averages)


@pytest.mark.parametrize("levels", [None, 1, 2], ids=["no ties", "many ties", "some ties"])
@pytest.mark.parametrize("seed", range(4))
def test_metrics_are_those_of_the_loop(levels, seed):
    rows, labels = make_batch(levels=levels, seed=seed)
    found = retrieval(rows, labels, block_rows=4)
    recalls, precision, average = slow(rows, labels, (1, 2, 4, 8))
    assert found.recall_at == pytest.approx(recalls)
    assert found.r_precision == pytest.approx(precision)
    assert found.map_at_r == pytest.approx(average)
    assert (found.query_count, found.skipped_count) == (23, 2)


def test_metrics_are_those_of_pytorch_metric_learning():
    rows, labels = make_batch(sizes=(20, 35, 11, 40, 2), width=16)
    rows = torch.nn.functional.normalize(rows).float()
    calculator = AccuracyCalculator(
        include=("precision_at_1", "r_precision", "mean_average_precision_at_r"), k="max_bin_count"
    )
    peer = calculator.get_accuracy(rows, labels, rows, labels, ref_includes_query=True)
    found = retrieval(rows, labels)
    assert found.recall_at[1] == pytest.approx(peer["precision_at_1"])
    assert found.r_precision == pytest.approx(peer["r_precision"])
    assert found.map_at_r == pytest.approx(peer["mean_average_precision_at_r"])


def test_duplicates_never_find_themselves():
    rows = torch.ones(4, 2)
    found = retrieval(rows, torch.tensor([0, 1, 0, 1]), recall_at=(1,))
    # nearest by index among equals: rows 1, 2, 3 see row 0 first, row 0 sees row 1; only row 2 is of row 0's class
    assert found.recall_at[1] == 1 / 4


def test_a_large_block_and_a_small_one_give_the_same_numbers():
    rows, labels = make_batch(levels=2)
    assert retrieval(rows, labels, block_rows=1) == retrieval(rows, labels, block_rows=100)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_block_size_moves_no_bit(dtype):
    rows, labels = make_batch(sizes=(50, 7, 20, 1, 13), width=48)
    rows = torch.nn.functional.normalize(rows).to(dtype)
    whole = retrieval(rows, labels)
    for block_rows in (1, 7, 31, 33):
        assert retrieval(rows, labels, block_rows=block_rows) == whole


def test_embeddings_of_any_size_are_ranked():
    rows, labels = make_batch(sizes=(12, 13), width=6)
    expected = retrieval(rows, labels)
    for dtype, exponent in ((torch.float32, -120), (torch.float32, 120), (torch.float64, 1000)):
        scaled = rows.float().to(dtype) * 2.0**exponent
        assert retrieval(scaled, labels) == retrieval(rows.float(), labels)
    assert expected.query_count == 25


def test_cosine_is_the_dot_product_of_normalised_rows():
    rows, labels = make_batch(sizes=(20, 30, 10), width=8)
    unit = rows / rows.norm(dim=1, keepdim=True)
    assert retrieval(rows, labels, similarity="cosine") == retrieval(unit, labels)
    assert retrieval(rows, labels) != retrieval(unit, labels)


def test_rows_in_a_narrow_cone_have_the_recall_of_float64():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 10
    around = torch.randn(16, generator=generator)
    classes = torch.randn(10, 16, generator=generator)[labels]
    rows = around + 1e-3 * (classes + torch.randn(400, 16, generator=generator))
    exact = rows.double() / rows.double().norm(dim=1, keepdim=True)
    distance = torch.cdist(exact, exact, compute_mode="donot_use_mm_for_euclid_dist")
    nearest = distance.fill_diagonal_(torch.inf).argmin(dim=1)
    recall = float((labels[nearest] == labels).double().mean())
    assert retrieval(rows, labels, similarity="cosine").recall_at[1] == recall


@pytest.mark.parametrize("ranks", [(), (0,), (1, -2), (1.5,), ("1",), 5, None, [None]])
def test_ranks_that_are_no_positive_whole_numbers_are_refused(ranks):
    with pytest.raises(InputError, match="recall_at must be positive whole numbers"):
        checked_ranks(ranks)


def test_ranks_may_be_numbers_of_numpy():
    assert checked_ranks(np.array([1, 4])) == (1, 4)


def test_an_unknown_similarity_is_refused():
    with pytest.raises(
        InputError, match="similarity must be one of dot, cosine, euclidean, got 'cos'"
    ):
        retrieval(*make_batch(), similarity="cos")


def test_a_block_of_no_rows_is_refused():
    with pytest.raises(InputError, match="block_rows must be a whole number of at least 1, got 0"):
        retrieval(*make_batch(), block_rows=0)


def test_order_of_rows_and_names_of_classes_do_not_matter_without_ties():
    rows, labels = make_batch(sizes=(20, 30, 10))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(5))
    names = torch.tensor([2**62 + 1, -3, 2**62])
    moved = retrieval(rows[order], names[labels][order])
    expected = retrieval(rows, labels)
    assert moved.recall_at == expected.recall_at
    assert moved == expected


def test_more_neighbours_than_there_are_rows_can_be_asked_for():
    rows, labels = make_batch(sizes=(3, 2))
    assert retrieval(rows, labels, recall_at=(100,)).recall_at == {100: 1.0}


def test_arrays_of_half_precision_are_taken():
    rows, labels = make_batch()
    half = rows.half()
    assert retrieval(half.numpy(), labels.numpy()) == retrieval(half.float(), labels)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([3, 3, 3], "at least two classes, got only label 3"),
        ([1, 2, 3], "each of the 3 classes has only one sample"),
    ],
)
def test_labels_that_leave_nothing_to_find_are_refused(labels, message):
    with pytest.raises(InputError, match=message):
        retrieval(torch.eye(3), torch.tensor(labels))

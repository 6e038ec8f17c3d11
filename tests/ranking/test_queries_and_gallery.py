"""Queries against a gallery, rows that are left out, and metrics of the whole ranking: against slow loops and other libraries."""

import math

import ir_measures as measures
import numpy as np
import pytest
import torch
from pytorch_metric_learning.distances import CosineSimilarity, LpDistance
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN
from sklearn.metrics import average_precision_score, ndcg_score

from lossgauge.errors import InputError
from lossgauge.ranking.metrics import retrieval


def make_sides(*, queries=40, gallery=60, classes=5, width=6, levels=None, seed=0):
    """Two sides of normal rows with labels; with `levels`, rounded so that many similarities are equal."""
    generator = torch.Generator().manual_seed(seed)

    def side(rows):
        values = torch.randn(rows, width, dtype=torch.float64, generator=generator)
        labels = torch.randint(classes, (rows,), generator=generator)
        return (values if levels is None else (values * levels).round() / levels), labels

    return side(queries), side(gallery)


def similarity_of(a, b, kind):
    if kind == "dot":
        return float(a @ b)
    if kind == "cosine":
        return float((a / a.norm()) @ (b / b.norm()))
    return -float((a - b).norm())


def slow(queries, gallery, *, kind="dot", is_left_out=lambda query, row: False, gains=None):
    """Every number of every query by sorting its candidates, in Python."""
    (rows, labels), (others, other_labels) = queries, gallery
    found = []
    for query in range(len(rows)):
        scores = {
            row: similarity_of(rows[query], others[row], kind)
            for row in range(len(others))
            if not is_left_out(query, row)
        }
        ranking = sorted(scores, key=lambda row: (-scores[row], row))
        hits = [bool(other_labels[row] == labels[query]) for row in ranking]
        r = sum(hits)
        if r == 0:
            continue
        right = [row for row, hit in zip(ranking, hits, strict=True) if hit]
        wrong = [row for row, hit in zip(ranking, hits, strict=True) if not hit]
        precision = [sum(hits[: i + 1]) / (i + 1) for i in range(len(hits))]
        gain = [
            float(h) if gains is None else float(gains[query][g])
            for h, g in zip(hits, ranking, strict=True)
        ]
        discounted = [g / math.log2(i + 2) for i, g in enumerate(gain)]
        best = [g / math.log2(i + 2) for i, g in enumerate(sorted(gain, reverse=True))]
        found.append(
            {
                "query": query,
                "right_count": r,
                "first_right_rank": hits.index(True) + 1,
                "r_precision": sum(hits[:r]) / r,
                "ap_at_r": sum(p for p, h in zip(precision[:r], hits[:r], strict=True) if h) / r,
                "average_precision": sum(p for p, h in zip(precision, hits, strict=True) if h) / r,
                "ndcg": sum(discounted) / sum(best),
                "nearest_right": right[0],
                "nearest_right_similarity": scores[right[0]],
                "nearest_wrong": wrong[0] if wrong else -1,
                "nearest_wrong_similarity": scores[wrong[0]] if wrong else math.nan,
            }
        )
    return {name: np.array([row[name] for row in found]) for name in found[0]}


def assert_same(found, expected):
    for name, values in expected.items():
        ours = getattr(found.per_query, name)
        if values.dtype.kind in "iu":
            assert ours.tolist() == values.tolist(), name
        else:
            np.testing.assert_allclose(ours, values, rtol=1e-12, atol=1e-14, err_msg=name)
    for k, value in found.recall_at.items():
        assert value == (expected["first_right_rank"] <= k).mean()
    assert found.mrr == pytest.approx((1 / expected["first_right_rank"]).mean())
    assert found.r_precision == pytest.approx(expected["r_precision"].mean())
    assert found.map_at_r == pytest.approx(expected["ap_at_r"].mean())
    assert found.mean_average_precision == pytest.approx(expected["average_precision"].mean())
    assert found.ndcg == pytest.approx(expected["ndcg"].mean())


@pytest.mark.parametrize("kind", ["dot", "cosine", "euclidean"])
@pytest.mark.parametrize("classes", [3, 25], ids=["many right rows", "few right rows"])
@pytest.mark.parametrize("levels", [None, 1], ids=["no ties", "many ties"])
def test_queries_against_a_gallery_are_those_of_the_loop(kind, classes, levels):
    if kind == "cosine" and levels:
        pytest.skip("equal cosines of different rows differ in their last bit")
    queries, gallery = make_sides(classes=classes, levels=levels)
    expected = slow(queries, gallery, kind=kind)
    found = retrieval(
        queries=queries, gallery=gallery, similarity=kind, full_ranking=True, block_rows=7
    )
    assert_same(found, expected)
    assert found.similarity == kind
    assert found.query_count + found.skipped_count == 40
    # a rank that the search did not sort is counted
    part = retrieval(queries=queries, gallery=gallery, similarity=kind, recall_at=(1, 30, 60))
    assert part.per_query.first_right_rank.tolist() == expected["first_right_rank"].tolist()
    assert part.per_query.nearest_right.tolist() == expected["nearest_right"].tolist()
    assert part.recall_at[30] == (expected["first_right_rank"] <= 30).mean()
    assert part.mean_average_precision is None
    assert part.ndcg is None


@pytest.mark.parametrize("levels", [None, 1], ids=["no ties", "many ties"])
def test_a_right_row_far_down_is_ranked_by_counting(levels):
    """One right row among 300, and a ranking that is sorted to a depth of 8 only."""
    (rows, _), (others, _) = make_sides(queries=50, gallery=300, width=3, levels=levels)
    labels = torch.arange(50)
    other_labels = torch.cat([labels, torch.full((250,), 77)])
    expected = slow((rows, labels), (others, other_labels))
    found = retrieval(queries=(rows, labels), gallery=(others, other_labels))
    assert (expected["first_right_rank"] > 9).sum() > 30
    assert found.per_query.first_right_rank.tolist() == expected["first_right_rank"].tolist()
    assert found.per_query.nearest_right.tolist() == labels.tolist()


def test_rows_in_a_cone_are_counted_in_float64():
    generator = torch.Generator().manual_seed(3)
    around = torch.ones(8, dtype=torch.float64)
    rows = (around + 1e-3 * torch.randn(200, 8, dtype=torch.float64, generator=generator)).float()
    labels = torch.arange(100).repeat(2)
    expected = slow(
        (rows.double(), labels),
        (rows.double(), labels),
        kind="euclidean",
        is_left_out=lambda q, g: q == g,
    )
    found = retrieval(rows, labels, similarity="euclidean")
    assert found.per_query.first_right_rank.tolist() == expected["first_right_rank"].tolist()


@pytest.mark.parametrize("classes", [3, 15])
def test_own_id_and_own_camera_are_left_out(classes):
    queries, gallery = make_sides(classes=classes, levels=1)
    generator = np.random.default_rng(0)
    ids, other_ids = generator.permutation(200)[:40], generator.permutation(200)[:60]
    cameras = generator.choice(["left", "right"], 40)
    other_cameras = generator.choice(["left", "right"], 60)

    def is_left_out(query, row):
        own = queries[1][query] == gallery[1][row] and cameras[query] == other_cameras[row]
        return own or ids[query] == other_ids[row]

    assert any(is_left_out(q, g) and ids[q] == other_ids[g] for q in range(40) for g in range(60))
    found = retrieval(
        queries=queries,
        gallery=gallery,
        query_ids=ids,
        gallery_ids=other_ids,
        query_groups=cameras,
        gallery_groups=other_cameras,
        full_ranking=True,
        block_rows=9,
    )
    assert_same(found, slow(queries, gallery, is_left_out=is_left_out))
    # and where the search sorts only the first few
    part = retrieval(
        queries=queries,
        gallery=gallery,
        query_ids=ids,
        gallery_ids=other_ids,
        query_groups=cameras,
        gallery_groups=other_cameras,
    )
    for name in ("first_right_rank", "ap_at_r", "nearest_right", "nearest_wrong"):
        ours, whole = getattr(part.per_query, name), getattr(found.per_query, name)
        assert ours.tolist() == whole.tolist()


def test_rows_against_each_other_may_have_groups_too():
    queries, _ = make_sides(classes=4)
    cameras = torch.arange(40) % 3

    def is_left_out(query, row):
        same = queries[1][query] == queries[1][row] and cameras[query] == cameras[row]
        return query == row or bool(same)

    found = retrieval(*queries, query_groups=cameras, full_ranking=True)
    assert_same(found, slow(queries, queries, is_left_out=is_left_out))


@pytest.mark.parametrize("ranks", [(1, 2, 4, 8), (3, 40)])
def test_means_without_the_queries_are_the_same(ranks):
    queries, gallery = make_sides(classes=25)
    whole = retrieval(queries=queries, gallery=gallery, recall_at=ranks)
    means = retrieval(queries=queries, gallery=gallery, recall_at=ranks, per_query=False)
    assert (whole.per_query.first_right_rank > 8).any()
    for name in ("recall_at", "r_precision", "map_at_r", "query_count", "skipped_count"):
        assert getattr(means, name) == getattr(whole, name)
    assert means.per_query is means.per_class is means.mrr is None


def test_a_gallery_that_is_the_queries_leaves_each_row_itself_out():
    queries, _ = make_sides()
    copied = tuple(part.clone() for part in queries)
    assert retrieval(queries=queries, gallery=copied) == retrieval(*queries)
    assert retrieval(queries=queries, gallery=copied, full_ranking=True) == retrieval(
        *queries, full_ranking=True
    )
    ids = torch.arange(40)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    shuffled = queries[0][order], queries[1][order]
    by_id = retrieval(queries=queries, gallery=shuffled, query_ids=ids, gallery_ids=ids[order])
    assert by_id == retrieval(*queries)
    without_ids = retrieval(queries=queries, gallery=shuffled, similarity="cosine")
    assert without_ids.recall_at[1] == 1


@pytest.mark.parametrize("kind", ["cosine", "euclidean"])
@pytest.mark.parametrize("is_apart", [True, False])
def test_metrics_are_those_of_pytorch_metric_learning(kind, is_apart):
    queries, gallery = make_sides(queries=80, gallery=120, width=8, classes=6)
    if not is_apart:
        gallery = queries
    distance = CosineSimilarity() if kind == "cosine" else LpDistance(normalize_embeddings=False)
    calculator = AccuracyCalculator(
        include=(
            *("precision_at_1", "r_precision", "mean_average_precision_at_r"),
            *("mean_average_precision", "mean_reciprocal_rank"),
        ),
        k=len(gallery[0]) - (not is_apart),
        knn_func=CustomKNN(distance),
    )
    peer = calculator.get_accuracy(*queries, *gallery, ref_includes_query=not is_apart)
    found = retrieval(
        queries=queries,
        gallery=gallery if is_apart else None,
        similarity=kind,
        full_ranking=True,
    )
    assert found.recall_at[1] == pytest.approx(peer["precision_at_1"])
    assert found.r_precision == pytest.approx(peer["r_precision"])
    assert found.map_at_r == pytest.approx(peer["mean_average_precision_at_r"])
    assert found.mean_average_precision == pytest.approx(peer["mean_average_precision"])
    assert found.mrr == pytest.approx(peer["mean_reciprocal_rank"])


def test_metrics_of_the_whole_ranking_are_those_of_scikit_learn():
    queries, gallery = make_sides(queries=30, gallery=50, width=8, classes=4)
    gains = np.random.default_rng(0).integers(0, 4, (30, 50)).astype(float)
    gains[:, 0] += 1
    scores = (queries[0] @ gallery[0].T).numpy()
    right = (queries[1][:, None] == gallery[1]).numpy()
    found = retrieval(queries=queries, gallery=gallery, full_ranking=True, block_rows=4)
    of = found.per_query
    for at, query in enumerate(of.query):
        peer = average_precision_score(right[query], scores[query])
        assert of.average_precision[at] == pytest.approx(peer)
        peer = ndcg_score([right[query].astype(float)], [scores[query]])
        assert of.ndcg[at] == pytest.approx(peer)
    graded = retrieval(queries=queries, gallery=gallery, relevance=gains, block_rows=4)
    for at, query in enumerate(of.query):
        peer = ndcg_score([gains[query]], [scores[query]])
        assert graded.per_query.ndcg[at] == pytest.approx(peer)
    assert graded.mean_average_precision == found.mean_average_precision


def test_graded_gains_are_those_of_the_loop_and_may_lie_on_disk(tmp_path):
    queries, gallery = make_sides(levels=1)
    gains = np.random.default_rng(0).integers(0, 3, (40, 60)).astype(np.float32)
    cameras, other_cameras = np.arange(40) % 2, np.arange(60) % 2
    np.save(tmp_path / "gains.npy", gains)

    def is_left_out(query, row):
        return bool(queries[1][query] == gallery[1][row]) and cameras[query] == other_cameras[row]

    found = retrieval(
        queries=queries,
        gallery=gallery,
        query_groups=cameras,
        gallery_groups=other_cameras,
        relevance=np.load(tmp_path / "gains.npy", mmap_mode="r"),
        block_rows=7,
    )
    assert_same(found, slow(queries, gallery, is_left_out=is_left_out, gains=gains))


def test_means_of_a_class_are_those_of_its_queries():
    queries, gallery = make_sides(classes=4)
    found = retrieval(queries=queries, gallery=gallery, full_ranking=True)
    per_class, per_query = found.per_class, found.per_query
    assert per_class.label.tolist() == [0, 1, 2, 3]
    for at, label in enumerate(per_class.label):
        own = per_query.label == label
        assert per_class.query_count[at] == own.sum()
        for name, values in (
            ("r_precision", per_query.r_precision),
            ("map_at_r", per_query.ap_at_r),
            ("mrr", 1 / per_query.first_right_rank),
            ("mean_average_precision", per_query.average_precision),
            ("ndcg", per_query.ndcg),
        ):
            assert getattr(per_class, name)[at] == pytest.approx(values[own].mean())
        assert per_class.recall_at[4][at] == (per_query.first_right_rank[own] <= 4).mean()
    weights = per_class.query_count / per_class.query_count.sum()
    assert found.map_at_r == pytest.approx((per_class.map_at_r * weights).sum())


@pytest.mark.parametrize("kind", ["dot", "cosine", "euclidean"])
def test_the_block_size_moves_no_bit(kind):
    queries, gallery = make_sides(queries=70, gallery=90, classes=20)
    gains = np.random.default_rng(0).random((70, 90))
    whole = retrieval(queries=queries, gallery=gallery, similarity=kind, relevance=gains)
    for block_rows in (1, 7, 33):
        part = retrieval(
            queries=queries,
            gallery=gallery,
            similarity=kind,
            relevance=gains,
            block_rows=block_rows,
        )
        assert part == whole
        for ours, theirs in zip(part.per_query, whole.per_query, strict=True):
            assert np.array_equal(ours, theirs, equal_nan=True)


def test_a_query_without_a_right_answer_is_skipped_and_counted():
    queries, gallery = make_sides(classes=5)
    missing = queries[1] == 2
    kept = gallery[1] != 2
    gallery = gallery[0][kept], gallery[1][kept]
    found = retrieval(queries=queries, gallery=gallery)
    assert found.skipped_count == int(missing.sum()) > 0
    assert found.per_query.query.tolist() == (~missing).nonzero().flatten().tolist()
    assert 2 not in found.per_class.label


def test_one_query_has_an_answer():
    queries, gallery = make_sides(queries=1, classes=3)
    found = retrieval(queries=queries, gallery=gallery, full_ranking=True)
    assert_same(found, slow(queries, gallery))
    assert found.query_count == 1


def test_equal_rows_are_ranked_by_index():
    queries = torch.ones(3, 2), torch.tensor([0, 1, 2])
    gallery = torch.ones(40, 2), torch.arange(40) // 14
    found = retrieval(queries=queries, gallery=gallery, full_ranking=True)
    assert found.per_query.first_right_rank.tolist() == [1, 15, 29]
    part = retrieval(queries=queries, gallery=gallery)
    assert part.per_query.first_right_rank.tolist() == [1, 15, 29]
    assert part.per_query.nearest_right.tolist() == [0, 14, 28]
    few = gallery[0], torch.tensor([0] * 38 + [1, 2])
    assert retrieval(queries=queries, gallery=few).per_query.first_right_rank.tolist() == [
        1,
        39,
        40,
    ]


def test_where_all_candidates_are_right_none_is_the_nearest_wrong():
    queries = torch.eye(3), torch.tensor([0, 0, 1])
    gallery = torch.eye(3)[:2], torch.tensor([0, 1])
    found = retrieval(queries=queries, gallery=gallery, query_ids=[10, 7, 8], gallery_ids=[5, 10])
    # query 0 has the id of the only row of the other class
    assert found.per_query.nearest_wrong.tolist() == [-1, 1, 0]
    assert np.isnan(found.per_query.nearest_wrong_similarity).tolist() == [True, False, False]


SIDES = make_sides()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({}, "retrieval needs either embeddings and labels, or queries="),
        ({"gallery": SIDES[1]}, "retrieval needs either embeddings and labels, or queries="),
        ({"queries": [*SIDES[0], SIDES[0][1]]}, "queries must be a pair of embeddings and labels"),
        (
            {"queries": SIDES[0], "gallery": (SIDES[1][0][:, :4], SIDES[1][1])},
            "queries and gallery must have the same width, got 6 and 4",
        ),
        (
            {"queries": SIDES[0], "gallery": (SIDES[1][0], SIDES[1][1][:9])},
            "gallery: embeddings and labels must have one row for each sample, got 60 embeddings and 9 labels",
        ),
        (
            {"queries": (SIDES[0][0] * torch.nan, SIDES[0][1]), "gallery": SIDES[1]},
            "queries: embeddings must be finite, got NaN in row 0",
        ),
        (
            {"queries": SIDES[0], "gallery": SIDES[1], "similarity": "l2"},
            "similarity must be one of dot, cosine, euclidean, got 'l2'",
        ),
        (
            {"queries": SIDES[0], "gallery": SIDES[1], "query_ids": range(40)},
            "query_ids and gallery_ids belong together: give gallery_ids",
        ),
        (
            {"queries": SIDES[0], "gallery": SIDES[1], "gallery_groups": range(60)},
            "query_groups and gallery_groups belong together: give query_groups",
        ),
        (
            {"queries": SIDES[0], "query_ids": range(39)},
            r"query_ids must have one entry for each of the 40 rows, got shape \(39,\)",
        ),
        (
            {"queries": SIDES[0], "query_ids": np.linspace(0, 1, 40)},
            "query_ids must be whole numbers or text, got float64",
        ),
        (
            {
                "queries": SIDES[0],
                "gallery": SIDES[1],
                "query_ids": range(40),
                "gallery_ids": ["x"] * 60,
            },
            "must both be whole numbers or both be text",
        ),
        (
            {"queries": SIDES[0], "gallery": (SIDES[1][0], SIDES[1][1] + 100)},
            "none of the 40 queries has a row of its class in the gallery",
        ),
        (
            {"queries": SIDES[0], "query_groups": [0] * 40},
            "none of the 40 queries has a row of its class in the gallery that is not left out",
        ),
        (
            {"queries": SIDES[0], "gallery": (SIDES[1][0], SIDES[1][1] * 0)},
            "the gallery needs at least two classes, got only label 0",
        ),
        (
            {"queries": SIDES[0], "gallery": SIDES[1], "relevance": np.ones((40, 59))},
            r"relevance must have one row for each query and one column for each gallery row, \(40, 60\)",
        ),
        (
            {"queries": SIDES[0], "gallery": SIDES[1], "relevance": -np.ones((40, 60))},
            "relevance must be finite numbers of at least 0",
        ),
        (
            {"queries": SIDES[0], "gallery": SIDES[1], "relevance": np.zeros((40, 60))},
            "relevance must be above 0 for at least one candidate of each query, got none for query 0",
        ),
    ],
)
def test_what_cannot_be_ranked_is_one_clear_line(how, message):
    with pytest.raises(InputError, match=message) as caught:
        retrieval(**how)
    assert "\n" not in str(caught.value)


def test_metrics_are_those_of_ir_measures():
    queries, gallery = make_sides(classes=5)
    scores = (queries[0] @ gallery[0].T).numpy()
    right = (queries[1][:, None] == gallery[1]).numpy().astype(int)
    gains = np.random.default_rng(0).integers(0, 4, (40, 60))
    gains[:, 0] += 1

    def peer(of, *names):
        pairs = [(q, g) for q in range(40) for g in range(60)]
        judged = [measures.Qrel(f"q{q}", f"g{g}", int(of[q, g])) for q, g in pairs]
        ranked = [measures.ScoredDoc(f"q{q}", f"g{g}", float(scores[q, g])) for q, g in pairs]
        asked = [measures.parse_measure(name) for name in names]
        values = measures.pytrec_eval.calc_aggregate(asked, judged, ranked)
        return [values[measure] for measure in asked]

    found = retrieval(queries=queries, gallery=gallery, full_ranking=True, recall_at=(1, 5))
    ours = [found.mean_average_precision, found.mrr, found.ndcg, *found.recall_at.values()]
    assert ours == pytest.approx(peer(right, "AP", "RR", "nDCG", "Success@1", "Success@5"))
    graded = retrieval(queries=queries, gallery=gallery, relevance=gains)
    assert [graded.ndcg] == pytest.approx(peer(gains, "nDCG"))

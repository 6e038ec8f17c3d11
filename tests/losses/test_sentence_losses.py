"""MNRL, GIST and CoSENT: loops over every term, and the same value and gradient as sentence-transformers in float64."""

import pytest
import torch
import torch.nn.functional as F

from lossgauge.errors import InputError
from lossgauge.losses.cosent import CoSENT
from lossgauge.losses.gist import GIST, MASKED
from lossgauge.losses.info_nce import InfoNCE
from lossgauge.losses.mnrl import MNRL
from tests.losses.cases import BATCHES, make_batch
from tests.losses.test_pairs import assert_pairs_agree, make_pairs

BATCH, WIDTH = 6, 5


def chosen(mask):
    return mask.nonzero().flatten().tolist()


def slow_mnrl(q, d, positive, negative, scale=4.0):
    terms = []
    for matrix, right, wrong in ((q @ d.T, positive, negative), (d @ q.T, positive.T, negative.T)):
        for i in range(len(matrix)):
            rest = sum((scale * matrix[i, n]).exp() for n in chosen(wrong[i]))
            for p in chosen(right[i]):
                own = (scale * matrix[i, p]).exp()
                terms.append(-(own / (own + rest)).log())
    return terms


def test_mnrl_in_both_directions_is_its_loop_and_in_one_it_is_info_nce():
    pairs = make_pairs()
    assert_pairs_agree(MNRL(scale=4.0, symmetric=True), slow_mnrl, pairs)
    info_nce = InfoNCE(temperature=0.25).evaluate_pairs(*pairs)
    torch.testing.assert_close(MNRL(scale=4.0).evaluate_pairs(*pairs).value, info_nce.value)


def test_mnrl_over_labels_has_one_value_in_one_direction_and_in_both():
    embeddings, labels = make_batch(BATCHES["unbalanced"])
    one, both = (MNRL(symmetric=symmetric)(embeddings, labels) for symmetric in (False, True))
    torch.testing.assert_close(one, both)


def guide_of(pairs, seed=5):
    generator = torch.Generator().manual_seed(seed)
    guide = torch.rand(pairs[2].shape, dtype=torch.float64, generator=generator) * 2 - 1
    return guide.round(decimals=1)  # with ties


def slow_gist(q, d, positive, negative, guide, *, margin, relative, temperature=0.2):
    terms, masked, total = [], 0, 0
    for i in range(len(q)):
        for p in chosen(positive[i]):
            limit = guide[i, p] - (guide[i, p].abs() * margin if relative else margin)
            kept = [n for n in chosen(negative[i]) if guide[i, n] <= limit]
            masked, total = (
                masked + int(negative[i].sum()) - len(kept),
                total + int(negative[i].sum()),
            )
            rest = sum((q[i] @ d[n] / temperature).exp() for n in kept)
            own = (q[i] @ d[p] / temperature).exp()
            terms.append(-(own / (own + rest)).log())
    return terms, masked / total


@pytest.mark.parametrize(
    ("strategy", "margin"), [("absolute", 0.0), ("absolute", 0.2), ("relative", 0.3)]
)
def test_gist_is_its_loop_with_several_positives_and_ties_of_the_guide(strategy, margin):
    pairs = make_pairs()
    guide = guide_of(pairs)
    loss = GIST(temperature=0.2, margin=margin, margin_strategy=strategy)
    sides = [pairs[0].clone().requires_grad_(), pairs[1].clone().requires_grad_()]
    relative = strategy == "relative"
    terms, masked = slow_gist(*sides, *pairs[2:], guide, margin=margin, relative=relative)
    wanted = torch.autograd.grad(torch.stack(terms).mean(), sides)
    evaluation = loss.evaluate_pairs(*sides, *pairs[2:], guide=guide)
    torch.testing.assert_close(evaluation.value, torch.stack(terms).mean())
    gradient = torch.autograd.grad(evaluation.value, sides)
    torch.testing.assert_close(gradient, wanted, rtol=1e-8, atol=1e-11)
    assert evaluation.term_count == len(terms)
    assert evaluation.active_count == sum(term > 1e-6 for term in terms)
    assert 0 < masked < 1
    assert evaluation.columns == {MASKED: pytest.approx(masked)}


def test_gist_with_a_guide_that_ranks_no_negative_above_is_mnrl():
    pairs = make_pairs()
    evaluation = GIST(temperature=0.05).evaluate_pairs(*pairs, guide=pairs[2].double())
    torch.testing.assert_close(evaluation.value, MNRL().evaluate_pairs(*pairs).value)
    assert evaluation.columns == {MASKED: 0.0}


def test_gist_at_a_small_temperature_is_right_in_float32():
    queries, documents, *masks = make_pairs()
    guide = guide_of((queries, documents, *masks))
    loss = GIST(temperature=0.0002)
    found = []
    for number in (torch.float32, torch.float64):
        sides = [queries.to(number).requires_grad_(), documents.to(number).requires_grad_()]
        value = loss.evaluate_pairs(*sides, *masks, guide=guide).value
        found.append([value, *torch.autograd.grad(value, sides)])
    for single, double in zip(*found, strict=True):
        torch.testing.assert_close(single.double(), double, rtol=1e-3, atol=1e-3)


def test_gist_needs_its_guide_and_has_no_form_for_labels():
    queries, documents, positive, _ = make_pairs()
    with pytest.raises(InputError, match="GIST needs guide=, the similarities of the frozen"):
        GIST().evaluate_pairs(queries, documents, positive)
    with pytest.raises(InputError, match=r"guide must hold the similarity .* got shape"):
        GIST().evaluate_pairs(queries, documents, positive, guide=torch.zeros(2, 2))
    with pytest.raises(InputError, match="guide must be finite, got nan for query 0 and doc"):
        GIST().evaluate_pairs(queries, documents, positive, guide=positive / 0.0)
    with pytest.raises(InputError, match="GIST compares queries with documents, and has no form"):
        GIST()(*make_batch(BATCHES["balanced"]))


def test_cosent_is_a_sum_over_all_combinations_of_a_positive_and_a_negative():
    queries, documents, positive, negative = make_pairs()
    sides = [queries.clone().requires_grad_(), documents.clone().requires_grad_()]
    s = sides[0] @ sides[1].T
    total = 1 + sum(
        (4 * (s[i, n] - s[j, p])).exp()
        for i, n in negative.nonzero().tolist()
        for j, p in positive.nonzero().tolist()
    )
    evaluation = CoSENT(scale=4.0).evaluate_pairs(*sides, positive, negative)
    torch.testing.assert_close(evaluation.value, total.log())
    torch.testing.assert_close(
        torch.autograd.grad(evaluation.value, sides),
        torch.autograd.grad(total.log(), sides),
        rtol=1e-8,
        atol=1e-11,
    )
    assert evaluation.anchor_weight[0].item() == pytest.approx(1 - 1 / total.item())


# --- sentence-transformers


def rows_of(columns, seed):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(BATCH, WIDTH, dtype=torch.float64, generator=generator) for _ in range(columns)
    ]


def own_documents():
    """Queries × (right documents, then hard negatives): the diagonal is positive."""
    return torch.eye(BATCH, dtype=torch.bool)


def compare(ours, theirs, columns, record_property):
    """Value and gradient at the embeddings before normalisation."""
    results = []
    for function in (ours, theirs):
        leaves = [rows.clone().requires_grad_() for rows in columns]
        value = function(leaves)
        results.append([value.detach(), *torch.autograd.grad(value, leaves)])
    differences = [float((a - b).abs().max()) for a, b in zip(*results, strict=True)]
    print("largest difference of value and gradient:", differences[0], max(differences[1:]))
    record_property("differences", differences)
    assert max(differences) < 1e-12
    assert all(gradient.any() for gradient in results[0][1:])


@pytest.mark.parametrize("columns", [2, 3, 4])
def test_mnrl_is_that_of_sentence_transformers(columns, record_property):
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    def ours(symmetric):
        def value(leaves):
            queries, *documents = map(F.normalize, leaves)
            positive = torch.cat([own_documents(), *[own_documents() & False] * (columns - 2)], 1)
            loss = MNRL(symmetric=symmetric)
            return loss.evaluate_pairs(queries, torch.cat(documents), positive).value

        return value

    for symmetric in (False, True):
        peer = MultipleNegativesRankingLoss(
            None,
            directions=("query_to_doc", "doc_to_query") if symmetric else ("query_to_doc",),
            partition_mode="per_direction",
        )
        theirs = lambda leaves, peer=peer: peer.compute_loss_from_embeddings(leaves, None)  # noqa: E731
        compare(ours(symmetric), theirs, rows_of(columns, columns), record_property)


@pytest.mark.parametrize("columns", [2, 3])
@pytest.mark.parametrize(("strategy", "margin"), [("absolute", 0.05), ("relative", 0.1)])
def test_gist_is_that_of_sentence_transformers(columns, strategy, margin, record_property):
    from sentence_transformers.sentence_transformer.losses import GISTEmbedLoss

    guides = rows_of(columns, 9)

    def ours(leaves):
        queries, *documents = map(F.normalize, leaves)
        guide = F.normalize(guides[0]) @ torch.cat([F.normalize(rows) for rows in guides[1:]]).T
        positive = torch.cat([own_documents(), *[own_documents() & False] * (columns - 2)], 1)
        loss = GIST(margin=margin, margin_strategy=strategy, temperature=0.05)
        evaluation = loss.evaluate_pairs(queries, torch.cat(documents), positive, guide=guide)
        assert 0 < evaluation.columns[MASKED] < 1
        return evaluation.value

    peer = GISTEmbedLoss.__new__(GISTEmbedLoss)
    torch.nn.Module.__init__(peer)
    peer.temperature, peer.margin, peer.margin_strategy = 0.05, margin, strategy
    peer.contrast_anchors = peer.contrast_positives = False  # queries against documents only
    peer.gather_across_devices = peer.must_retokenize = False
    peer.model = lambda features: {"sentence_embedding": features["rows"]}
    peer.guide = lambda features: {"sentence_embedding": features["guide"]}
    peer.cross_entropy_loss = torch.nn.CrossEntropyLoss()
    peer.similarity_fct = torch.nn.CosineSimilarity(dim=-1)

    def theirs(leaves):
        features = [
            {"rows": rows, "guide": guide} for rows, guide in zip(leaves, guides, strict=True)
        ]
        return peer(features, None)

    compare(ours, theirs, rows_of(columns, columns), record_property)


def test_cosent_is_that_of_sentence_transformers(record_property):
    from sentence_transformers.sentence_transformer.losses import CoSENTLoss

    _, _, positive, negative = make_pairs()
    pairs = (positive | negative).nonzero()
    shape = positive.shape
    generator = torch.Generator().manual_seed(3)
    columns = [torch.randn(n, WIDTH, dtype=torch.float64, generator=generator) for n in shape]
    peer = CoSENTLoss(None)

    def ours(leaves):
        queries, documents = map(F.normalize, leaves)
        return CoSENT().evaluate_pairs(queries, documents, positive, negative).value

    def theirs(leaves):
        queries, documents = leaves
        sides = [queries[pairs[:, 0]], documents[pairs[:, 1]]]
        return peer.compute_loss_from_embeddings(sides, positive[tuple(pairs.T)].double())

    compare(ours, theirs, columns, record_property)

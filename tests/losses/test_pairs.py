"""Losses over queries × documents: every term by a loop, and the same numbers as the square where they are the same pairs."""

import pytest
import torch
import torch.nn.functional as F

import lossgauge as lg
from lossgauge.errors import InputError
from lossgauge.losses.base import Loss
from lossgauge.losses.pairs import pair_masks, squared_distances
from lossgauge.losses.registry import ALL_LOSSES, check_form, load_loss, loss_class
from tests.losses.cases import BATCHES, make_batch

QUERIES, DOCUMENTS, WIDTH = 5, 9, 6


def make_pairs(*, seed=0, unit=True):
    """Queries, documents, and masks: several positives, pairs that are neither, a query without positives, one without negatives."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(QUERIES + DOCUMENTS, WIDTH, dtype=torch.float64, generator=generator)
    rows = F.normalize(rows) if unit else rows
    drawn = torch.rand(QUERIES, DOCUMENTS, generator=generator)
    positive, negative = drawn < 0.3, drawn > 0.45
    positive[2], negative[3] = False, False
    positive[3, 4] = True
    return rows[:QUERIES], rows[QUERIES:], positive, negative


def pair_losses():
    return [name for name in ALL_LOSSES if loss_class(name).pair_form]


def slow_contrastive(q, d, positive, negative, margin=1.0):
    terms = []
    for i in range(len(q)):
        for j in range(len(d)):
            distance = (q[i] - d[j]).norm()
            if positive[i, j]:
                terms.append(distance**2)
            elif negative[i, j]:
                terms.append((margin - distance).clamp(min=0) ** 2)
    return terms


def slow_triplet(q, d, positive, negative, margin=0.2):
    return [
        ((q[i] - d[p]).square().sum() - (q[i] - d[n]).square().sum() + margin).clamp(min=0)
        for i in range(len(q))
        for p in positive[i].nonzero().flatten()
        for n in negative[i].nonzero().flatten()
    ]


def slow_info_nce(q, d, positive, negative, temperature=0.1):
    terms = []
    for i in range(len(q)):
        rest = sum((q[i] @ d[n] / temperature).exp() for n in negative[i].nonzero().flatten())
        for p in positive[i].nonzero().flatten():
            own = (q[i] @ d[p] / temperature).exp()
            terms.append(-(own / (own + rest)).log())
    return terms


def slow_scl(q, d, positive, negative, temperature=0.1):
    terms = []
    for i in range(len(q)):
        right = positive[i].nonzero().flatten()
        if len(right):
            rest = sum(
                (q[i] @ d[a] / temperature).exp() for a in (positive | negative)[i].nonzero()[:, 0]
            )
            logs = [((q[i] @ d[p] / temperature).exp() / rest).log() for p in right]
            terms.append(-torch.stack(logs).mean())
    return terms


SLOW = {
    "contrastive": slow_contrastive,
    "triplet": slow_triplet,
    "info_nce": slow_info_nce,
    "scl": slow_scl,
}


def assert_pairs_agree(loss, slow, pairs):
    """Value, gradient at both sides, counts and the split into pull and push are those of `slow`, which lists every term."""
    queries, documents, positive, negative = pairs
    leaves = [queries.clone().requires_grad_(), documents.clone().requires_grad_()]
    terms = torch.stack(slow(*leaves, positive, negative))
    active = int((terms > loss.tolerance).sum())
    at_parameters = list(loss.parameters())
    wanted_gradient = torch.autograd.grad(terms.sum(), [*leaves, *at_parameters])
    for reduction, count in (("mean", len(terms)), ("active", active)):
        loss.reduction = reduction
        leaves = [queries.clone().requires_grad_(), documents.clone().requires_grad_()]
        evaluation = loss.evaluate_pairs(*leaves, positive, negative)
        gradient = torch.autograd.grad(evaluation.value, [*leaves, *at_parameters])
        torch.testing.assert_close(evaluation.value, terms.sum() / count, rtol=1e-10, atol=1e-12)
        for found, wanted in zip(gradient, wanted_gradient, strict=True):
            torch.testing.assert_close(found, wanted / count, rtol=1e-8, atol=1e-11)
        assert (evaluation.term_count, evaluation.active_count) == (len(terms), active)
    loss.reduction = "mean"
    assert evaluation.anchor_count == len(evaluation.anchor_value) == len(queries)
    weights = evaluation.anchor_weight
    assert ((weights.nan_to_num() >= 0) & (weights.nan_to_num() <= 1 + 1e-12)).all()


@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("name", SLOW)
def test_value_and_both_gradients_are_those_of_the_loop(name, unit):
    assert_pairs_agree(load_loss(name), SLOW[name], make_pairs(unit=unit))


@pytest.mark.parametrize("name", SLOW)
def test_without_negatives_given_every_other_pair_is_negative(name):
    queries, documents, positive, _ = make_pairs()
    loss = load_loss(name)
    given = loss.evaluate_pairs(queries, documents, positive, ~positive)
    torch.testing.assert_close(loss.evaluate_pairs(queries, documents, positive).value, given.value)


def square_pairs(loss, rows, labels):
    """The pairs of a batch as queries × documents, which are the same rows: the evaluation, and the sum of both gradients."""
    sides = [rows.clone().requires_grad_(), rows.clone().requires_grad_()]
    evaluation = loss.evaluate_pairs(*sides, *pair_masks(labels))
    return evaluation, sum(torch.autograd.grad(evaluation.value, sides))


@pytest.mark.parametrize("name", [name for name in pair_losses() if loss_class(name).square_form])
@pytest.mark.parametrize("labels", ["unbalanced", "with lone samples"])
def test_the_pairs_of_a_batch_with_itself_give_the_loss_of_the_batch(name, labels):
    embeddings, numbers = make_batch(BATCHES[labels])
    loss = load_loss(name).double()
    leaf = embeddings.clone().requires_grad_()
    square = loss.evaluate(leaf, numbers)
    (wanted,) = torch.autograd.grad(square.value, leaf)
    evaluation, gradient = square_pairs(loss, embeddings, numbers)
    torch.testing.assert_close(gradient, wanted, rtol=1e-8, atol=1e-11)
    for field in ("value", "anchor_value", "anchor_weight"):
        torch.testing.assert_close(
            getattr(evaluation, field), getattr(square, field), equal_nan=True
        )
    for field in ("term_count", "active_count", "skipped_anchors"):
        assert getattr(evaluation, field) == getattr(square, field)
    assert evaluation.effective_share == pytest.approx(square.effective_share)
    assert evaluation.columns == pytest.approx(square.columns)


@pytest.mark.parametrize("name", ["contrastive", "triplet", "info_nce"])
def test_pull_is_the_part_of_positives_and_push_that_of_negatives_at_the_rows_of_both_sides(name):
    queries, documents, positive, negative = make_pairs()
    evaluation = load_loss(name).evaluate_pairs(queries, documents, positive, negative)
    parts = []
    for held in (negative, positive):
        # the terms read the held pairs from rows that have no graph
        sides = torch.cat((queries, documents)).requires_grad_()
        q, d = sides.split([QUERIES, DOCUMENTS])
        if name == "info_nce":
            near = far = q @ d.T
        else:
            near = far = (q[:, None] - d).square().sum(2)
        if held is negative:
            far = far.detach()
        else:
            near = near.detach()
        terms = []
        for i in range(QUERIES):
            right, wrong = near[i][positive[i]], far[i][negative[i]]
            if name == "contrastive":
                terms += [*right, *((1 - wrong.sqrt()).clamp(min=0).square())]
            elif name == "triplet":
                terms += [(p - n + 0.2).clamp(min=0) for p in right for n in wrong]
            else:
                terms += [F.softplus((wrong / 0.1).logsumexp(0) - p / 0.1) for p in right]
        (part,) = torch.autograd.grad(torch.stack(terms).mean(), sides)
        parts.append(part.norm(dim=1).mean().item())
    assert [evaluation.pull.item(), evaluation.push.item()] == pytest.approx(parts)


def evaluated(loss, *pairs):
    """The evaluation and its gradients at both sides; a loss that needs a guide gets the similarities themselves."""
    queries, documents, *masks = pairs
    sides = [queries.clone().requires_grad_(), documents.clone().requires_grad_()]
    guide = {"guide": queries.double() @ documents.double().T} if loss.needs_guide else {}
    evaluation = loss.evaluate_pairs(*sides, *masks, **guide)
    return evaluation, torch.autograd.grad(evaluation.value, sides)


@pytest.mark.parametrize("name", pair_losses())
def test_edges_give_a_value_and_a_gradient_of_zero_or_finite_and_are_counted(name):
    queries, documents, positive, negative = make_pairs()
    loss = load_loss(name).double()
    nothing = torch.zeros_like(positive)
    cases = {
        "no pair": (queries, documents, nothing, nothing),
        "no positive": (queries, documents, nothing, negative),
        "no negative": (queries, documents, positive, nothing),
        "one pair": (queries[:1], documents[:1], torch.ones(1, 1, dtype=torch.bool)),
        "equal points": (queries[:1].expand(5, -1), queries[:1].expand(9, -1), positive, negative),
        "twins": (queries, queries.repeat(2, 1)[:DOCUMENTS], positive, negative),
        "zeros": (queries * 0, documents * 0, positive, negative),
    }
    for case, pairs in cases.items():
        evaluation, gradients = evaluated(loss, *pairs)
        assert evaluation.value.isfinite(), case
        assert all(gradient.isfinite().all() for gradient in gradients), case
        if evaluation.term_count == 0:
            assert evaluation.value.item() == 0, case
            assert not any(gradient.any() for gradient in gradients), case
            assert evaluation.anchor_value.isnan().all(), case
            assert evaluation.skipped_anchors == len(pairs[0]), case
    evaluation, _ = evaluated(loss, *cases["no pair"])
    assert evaluation.term_count == 0


@pytest.mark.parametrize("name", pair_losses())
def test_half_precision_large_and_small_rows_and_frozen_documents(name):
    queries, documents, positive, negative = make_pairs()
    loss = load_loss(name)
    for dtype in (torch.float16, torch.bfloat16):
        half = queries.to(dtype), documents.to(dtype)
        evaluation, gradients = evaluated(loss, *half, positive, negative)
        wanted, _ = evaluated(loss, *(rows.float() for rows in half), positive, negative)
        assert evaluation.value.dtype == torch.float32
        torch.testing.assert_close(evaluation.value, wanted.value)
        assert [gradient.dtype for gradient in gradients] == [dtype, dtype]
    for factor in (1e-20, 1e15):  # one side only: the other is of the usual size
        evaluation, gradients = evaluated(loss, queries * factor, documents, positive, negative)
        assert evaluation.value.isfinite()
        assert all(gradient.isfinite().all() for gradient in gradients)
    guide = {"guide": torch.zeros(QUERIES, DOCUMENTS)} if loss.needs_guide else {}
    leaf = queries.float().requires_grad_()  # documents of another type, and without a graph
    loss.evaluate_pairs(leaf, documents, positive, negative, **guide).value.backward()
    assert leaf.grad.any()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *((name, {"temperature": 0.0002}) for name in ("nscl", "dcl", "relaxed", "info_nce")),
        *((name, {"scale": 5000.0}) for name in ("mnrl", "cosent", "siglip")),
        ("mnrl", {"scale": 5000.0, "symmetric": True}),
    ],
    ids=str,
)
def test_float32_is_right_where_the_logits_are_in_the_thousands(name, settings):
    queries, documents, *masks = make_pairs()
    single = queries.float(), documents.float()
    loss = load_loss(name, **settings)
    found, gradients = evaluated(loss, *single, *masks)
    wanted, wanted_gradients = evaluated(loss.double(), *(rows.double() for rows in single), *masks)
    torch.testing.assert_close(found.value.double(), wanted.value, rtol=1e-5, atol=0)
    for one, other in zip(gradients, wanted_gradients, strict=True):
        error = (one.double() - other).norm() / other.norm()
        assert error < 1e-3  # logits of 5000 are rounded to 2⁻¹¹


@pytest.mark.parametrize("number", [torch.float32, torch.float64])
def test_equal_rows_of_both_sides_have_distance_zero(number):
    for width in (8, 128, 1024):
        generator = torch.Generator().manual_seed(0)
        queries, others = torch.randn(2, 150, width, dtype=number, generator=generator)
        documents = torch.cat((others[:37], queries))
        distances = squared_distances(F.normalize(queries), F.normalize(documents))
        assert not distances[:, 37:].diagonal().any()
        assert (distances > 0).sum() == 150 * (37 + 149)


WORDS = [
    (lambda q, d, p: (q, d[:, :3], p), "queries and documents must have one width, got 6 and 3"),
    (lambda q, d, p: (q[0], d, p), r"queries must be a \(rows, width\) array of floats"),
    (lambda q, d, p: (q, d.long(), p), r"documents must be a \(rows, width\) array of floats"),
    (lambda q, d, p: (q[:0], d, p[:0]), r"the batch is empty: queries have shape \(0, 6\)"),
    (lambda q, d, p: (q, d[:0], p[:, :0]), "the batch is empty: documents have shape"),
    (lambda q, d, p: (q, d * torch.nan, p), "documents must be finite, got NaN in row 0"),
    (lambda q, d, p: (q, d, p.long()), r"positive must be .* booleans, here \(5, 9\), got shape .* of torch.int64"),
    (lambda q, d, p: (q, d, p.T), r"positive must be .* got shape \(9, 5\)"),
    (lambda q, d, p: (q, d, p, p[:2]), r"negative must be .* got shape \(2, 9\)"),
    (lambda q, d, p: (q, d, p, p), r"a pair must not be positive and negative, got query \d with d"),
]  # fmt: skip


@pytest.mark.parametrize(("pairs", "message"), WORDS, ids=[message for _, message in WORDS])
def test_bad_pairs_give_one_clear_error(pairs, message):
    queries, documents, positive, _ = make_pairs()
    with pytest.raises(InputError, match=message):
        load_loss("info_nce").evaluate_pairs(*pairs(queries, documents, positive))


def test_a_guide_is_refused_where_it_has_no_effect():
    queries, documents, positive, _ = make_pairs()
    with pytest.raises(InputError, match="guide has no effect on InfoNCE"):
        load_loss("info_nce").evaluate_pairs(queries, documents, positive, guide=positive.double())


def test_numpy_arrays_and_lists_are_pairs_too():
    queries, documents, positive, _ = make_pairs()
    loss = load_loss("info_nce")
    given = loss.evaluate_pairs(queries.numpy(), documents.tolist(), positive.tolist())
    torch.testing.assert_close(given.value, loss.evaluate_pairs(queries, documents, positive).value)


def test_a_loss_without_the_form_says_so():
    for name in ALL_LOSSES:
        made = loss_class(name)
        assert made.pair_form == hasattr(made, "evaluate_pairs"), name
    assert not Loss.pair_form
    for name, of_pairs in (("ccl", True), ("gist", False)):
        check_form(name, of_pairs=not of_pairs)
        with pytest.raises(InputError, match=f"the loss '{name}' has no form for .*: contrastive"):
            check_form(name, of_pairs=of_pairs)


def test_the_probe_reads_pairs_in_both_of_its_forms():
    queries, documents, positive, negative = make_pairs()
    features = torch.cat((queries, documents)).float()
    loss = load_loss("info_nce")
    steps, rows = lg.Probe(), []
    torch.manual_seed(0)
    head = torch.nn.Linear(WIDTH, 4)
    optimizer = torch.optim.SGD(head.parameters(), 0.1)
    probe = lg.Probe(optimizer, loss=loss)
    for number in range(12):
        optimizer.zero_grad()
        rows = probe.embeddings(F.normalize(head(features)))
        rows.retain_grad()
        sides = rows.split([QUERIES, DOCUMENTS])
        evaluation = loss.evaluate_pairs(*sides, positive, negative)
        evaluation.value.backward()
        steps(lg.Step(number, 0, evaluation, rows, tuple(head.parameters()), ()))
        optimizer.step()
    for row in (probe.rows[0], steps.rows[0]):
        assert row["term_count"] == positive.sum()
        assert row["skipped_anchor_ratio"] == pytest.approx(1 / QUERIES)
        assert row["gradient_active_ratio"] is not None
    for column in ("mean_weight", "pull", "push", "effective_share", "embedding_gradient"):
        of_steps = [row[column] for row in steps.rows]
        assert of_steps == pytest.approx([row[column] for row in probe.rows], rel=1e-5), column
    assert probe.findings() is not None


def test_the_probe_records_the_own_numbers_of_a_loss_in_both_of_its_forms():
    rows, labels = make_batch(BATCHES["balanced"])
    head = torch.nn.Linear(WIDTH, 4)
    loss = load_loss("relaxed", threshold=0.0)
    optimizer = torch.optim.SGD(head.parameters(), 0.1)
    probe, steps = lg.Probe(optimizer, loss=loss), lg.Probe()
    embeddings = probe.embeddings(F.normalize(head(rows.float())))
    embeddings.retain_grad()
    evaluation = loss.evaluate(embeddings, labels)
    evaluation.value.backward()
    steps(lg.Step(0, 0, evaluation, embeddings, tuple(head.parameters()), ()))
    optimizer.step()
    wanted = evaluation.columns["penalty_active"]
    assert 0 <= wanted <= 1
    assert probe.rows[0]["penalty_active"] == steps.rows[0]["penalty_active"] == wanted
    assert "penalty_active" in probe.frame.columns

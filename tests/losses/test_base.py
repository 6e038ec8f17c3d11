"""The edge rules, which all seven share."""

import math
from contextlib import nullcontext
from functools import partial
from unittest.mock import patch

import pytest
import torch

from lossgauge.errors import InputError
from lossgauge.losses.base import effective_share
from lossgauge.losses.pairs import squared_distances
from lossgauge.losses.registry import LOSSES, load_loss
from tests.losses.cases import BATCHES, make_batch, without_kernel
from tests.support.forking import fork_script

PAIR_LOSSES = [name for name in LOSSES if name not in ("arcface", "ccl")]


def make_loss(name, **settings):
    torch.manual_seed(0)
    sizes = {} if name in PAIR_LOSSES else {"class_count": 5, "embedding_size": 6}
    return load_loss(name, **sizes, **settings).double()


def terms_of(name, near, far, labels):
    """The terms at default settings, from one matrix given twice: `near` is read for positives, `far` for negatives."""
    terms = []
    same = labels[:, None] == labels
    for i in range(len(labels)):
        positives = [p for p in range(len(labels)) if same[i, p] and p != i]
        rivals = far[i][~same[i]]
        if name == "contrastive":
            terms += [near[i, p] for p in positives]
            terms += [(1 - rival.sqrt()).clamp(min=0).square() for rival in rivals]
        elif name == "triplet":
            terms += [(near[i, p] - r + 0.2).clamp(min=0) for p in positives for r in rivals]
        elif name == "info_nce":
            log_sum_negatives = (rivals / 0.1).logsumexp(0)
            terms += [
                torch.nn.functional.softplus(log_sum_negatives - near[i, p] / 0.1)
                for p in positives
            ]
        elif positives:
            inside = torch.stack([near[i, p] for p in positives]) / 0.1
            terms.append(torch.cat([inside, rivals / 0.1]).logsumexp(0) - inside.mean())
    return torch.stack(terms)


@pytest.mark.parametrize("form", ["kernel", "torch"])
@pytest.mark.parametrize("name", ["contrastive", "triplet", "info_nce", "scl"])
def test_pull_is_the_gradient_with_the_negatives_held_and_push_with_the_positives(name, form):
    embeddings, labels = make_batch(BATCHES["unbalanced"])
    parts = []
    for held in ("far", "near"):
        leaf = embeddings.clone().requires_grad_()
        if name in ("contrastive", "triplet"):
            matrix = (leaf[:, None] - leaf).square().sum(2)
        else:
            matrix = leaf @ leaf.T
        both = {"near": matrix, "far": matrix} | {held: matrix.detach()}
        (part,) = torch.autograd.grad(terms_of(name, **both, labels=labels).mean(), leaf)
        parts.append(part.norm(dim=1).mean().item())
    loss = make_loss(name)
    with patch.object(loss, "outcome", partial(without_kernel, loss)) if form == "torch" else nullcontext():  # fmt: skip
        evaluation = loss.evaluate(embeddings, labels)
    assert [evaluation.pull.item(), evaluation.push.item()] == pytest.approx(parts)


def test_pull_and_push_of_losses_with_proxies_and_of_n_pair_hold_the_other_part_likewise():
    embeddings, labels = make_batch(BATCHES["balanced"])
    for name in ("arcface", "ccl", "n_pair"):
        loss = make_loss(name)
        parts = []
        for held in ("far", "near"):
            leaf = embeddings.clone().requires_grad_()
            if name == "n_pair":
                first = [int((labels == c).nonzero()[0]) for c in range(4)]
                second = [int((labels == c).nonzero()[1]) for c in range(4)]
                matrix, own, scale = leaf[first] @ leaf[second].T, torch.arange(4), 1
            else:
                matrix = leaf @ torch.nn.functional.normalize(loss.proxies.detach()).T
                own, scale = labels, 64 if name == "arcface" else 32
            near, far = (matrix, matrix.detach()) if held == "far" else (matrix.detach(), matrix)
            rows = torch.arange(len(own))
            target = near[rows, own]
            if name == "arcface":
                target = (target.acos() + 0.5).cos()
            elif name == "ccl":
                target = target - 0.2
            mask = torch.nn.functional.one_hot(own, matrix.shape[1]).bool()
            log_sum_negatives = (far.masked_fill(mask, -torch.inf) * scale).logsumexp(1)
            terms = torch.nn.functional.softplus(log_sum_negatives - scale * target)
            if name == "ccl" and held == "far":
                centers = torch.nn.functional.normalize(loss.proxies.detach())[labels]
                terms = terms + (leaf - centers).square().sum(1)
            (part,) = torch.autograd.grad(terms.mean(), leaf)
            if (
                name == "arcface"
            ):  # its embeddings are normalised inside: only the tangent part arrives
                part = part - (part * embeddings).sum(1, keepdim=True) * embeddings
            parts.append(part.norm(dim=1).mean().item())
        evaluation = loss.evaluate(embeddings, labels)
        assert [evaluation.pull.item(), evaluation.push.item()] == pytest.approx(parts), name


@pytest.mark.parametrize("name", PAIR_LOSSES)
@pytest.mark.parametrize("labels", [[0], [0, 1, 2, 3], [7, 7, 7]], ids=str)
def test_a_batch_without_what_a_loss_needs_has_value_zero_or_finite_and_a_graph(name, labels):
    embeddings, _ = make_batch(labels)
    leaf = embeddings.requires_grad_()
    evaluation = make_loss(name).evaluate(leaf, torch.tensor(labels))
    evaluation.value.backward()
    assert evaluation.value.isfinite()
    if evaluation.term_count == 0:
        assert evaluation.value.item() == 0
        assert leaf.grad.abs().max() == 0
        assert evaluation.anchor_value.isnan().all()


@pytest.mark.parametrize("name", ["triplet", "info_nce", "scl", "n_pair"])
def test_anchors_without_a_positive_are_left_out_and_counted(name):
    embeddings, labels = make_batch(BATCHES["with lone samples"])
    evaluation = make_loss(name).evaluate(embeddings, labels)
    assert evaluation.skipped_anchors == 3
    lone = (labels[:, None] == labels).sum(1) == 1
    assert evaluation.anchor_value[lone].isnan().all()


@pytest.mark.parametrize("name", LOSSES)
def test_the_value_is_the_mean_of_anchor_values_weighted_by_their_terms(name):
    embeddings, labels = make_batch(BATCHES["balanced"])
    evaluation = make_loss(name).evaluate(embeddings, labels)
    assert evaluation.anchor_value.nanmean().item() == pytest.approx(evaluation.value.item())


@pytest.mark.parametrize("name", LOSSES)
def test_the_active_reduction_has_the_gradient_of_the_mean_over_the_active_ratio(name):
    embeddings, labels = make_batch(BATCHES["balanced"])
    gradients = {}
    for reduction in ("mean", "active"):
        leaf = embeddings.clone().requires_grad_()
        evaluation = make_loss(name, reduction=reduction).evaluate(leaf, labels)
        (gradients[reduction],) = torch.autograd.grad(evaluation.value, leaf)
    ratio = evaluation.active_count / evaluation.term_count
    torch.testing.assert_close(gradients["active"] * ratio, gradients["mean"])


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32_and_gets_its_own_gradient_back(name, dtype):
    embeddings, labels = make_batch(BATCHES["balanced"])
    loss = make_loss(name).float()
    half = embeddings.to(dtype).requires_grad_()
    value = loss(half, labels)
    value.backward()
    assert value.dtype == torch.float32
    assert half.grad.dtype == dtype
    torch.testing.assert_close(value, loss(half.detach().float(), labels))


@pytest.mark.parametrize("name", LOSSES)
def test_a_second_backward_is_refused_in_words(name):
    embeddings, labels = make_batch(BATCHES["balanced"])
    leaf = embeddings.requires_grad_()
    with pytest.raises(InputError, match="can be differentiated only once"):
        torch.autograd.grad(make_loss(name)(leaf, labels), leaf, create_graph=True)


def test_effective_share_is_one_for_equal_weights_and_one_pair_for_a_single_weight():
    assert effective_share(torch.full((3, 4), -2.0), pairs=12) == pytest.approx(1)
    lone = torch.zeros(3, 4)
    lone[1, 2] = 1e-30  # its square underflows in float32
    assert effective_share(lone, pairs=12) == pytest.approx(1 / 12)
    assert math.isnan(effective_share(torch.zeros(3, 4), pairs=12))


def weights_of(name, loss, embeddings, labels):
    """|∂(sum of all terms)/∂matrix| by autograd of the formula, whatever the loss says of itself."""
    if name in ("contrastive", "triplet"):
        matrix = (embeddings[:, None] - embeddings).square().sum(2).requires_grad_()
    elif name == "n_pair":
        first = [int((labels == c).nonzero()[0]) for c in labels.unique()]
        second = [int((labels == c).nonzero()[1]) for c in labels.unique()]
        matrix = (embeddings[first] @ embeddings[second].T).requires_grad_()
    elif name in ("arcface", "ccl"):
        directions = torch.nn.functional.normalize(loss.proxies.detach())
        matrix = (embeddings @ directions.T).requires_grad_()
    else:
        matrix = (embeddings @ embeddings.T).requires_grad_()
    if name in ("n_pair", "arcface", "ccl"):
        own = torch.arange(len(matrix)) if name == "n_pair" else labels
        rows = torch.arange(len(own))
        target, scale = matrix[rows, own], {"n_pair": 1, "arcface": 64, "ccl": 32}[name]
        if name == "arcface":
            beyond = target < -math.cos(0.5)
            target = torch.where(beyond, target - 0.5 * math.sin(0.5), (target.acos() + 0.5).cos())
        elif name == "ccl":
            target = target - 0.2
        logits = (matrix * scale).index_put((rows, own), target * scale)
        total = torch.nn.functional.cross_entropy(logits, own, reduction="sum")
    else:
        total = terms_of(name, matrix, matrix, labels).sum()
    return torch.autograd.grad(total, matrix)[0].abs()


@pytest.mark.parametrize(
    ("name", "form"),
    [
        (name, form)
        for name in LOSSES
        for form in ("kernel", "torch")
        if (name, form) != ("n_pair", "kernel")
    ],
)
def test_the_effective_share_is_that_of_the_gradient_at_the_matrix(name, form):
    embeddings, labels = make_batch([0] * 9 + [1] * 2 + [2] * 5 + [3] * 3)
    loss = make_loss(name)
    weights = weights_of(name, loss, embeddings, labels)
    # a sample is no pair with itself; a class row is one with each sample
    pairs = weights.numel() - (0 if name in ("n_pair", "arcface", "ccl") else len(labels))
    wanted = float(weights.sum() ** 2 / weights.square().sum() / pairs)
    plain = form == "torch" and name != "n_pair"
    outcome = partial(without_kernel, loss) if plain else loss.outcome
    with torch.no_grad():
        assert outcome(embeddings, labels).effective_share == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("name", ["arcface", "ccl"])
def test_fresh_proxies_are_near_the_unit_sphere_in_every_width(name):
    for width in (2, 128, 1000):
        norms = load_loss(name, class_count=500, embedding_size=width).proxies.detach().norm(dim=1)
        assert float(norms.square().mean()) == pytest.approx(1, rel=0.2)


@pytest.mark.parametrize("form", ["kernel", "torch"])
def test_a_weight_of_contrastive_is_at_most_one_off_the_sphere_too(form):
    embeddings, labels = make_batch(BATCHES["unbalanced"], unit=False)
    loss = make_loss("contrastive", margin=3.0)
    wanted = []
    for i in range(len(labels)):
        distances = (embeddings - embeddings[i]).norm(dim=1)
        same = labels == labels[i]
        shares = torch.where(same, (distances / 2).clamp(max=1), (3 - distances).clamp(min=0) / 3)
        wanted.append(float(shares.sum()) / (len(labels) - 1))
    outcome = loss.outcome if form == "kernel" else partial(without_kernel, loss)
    with patch.object(loss, "outcome", outcome):
        found = loss.evaluate(embeddings, labels).anchor_weight
    assert (embeddings[:, None] - embeddings).norm(dim=2).max() > 4
    assert found.tolist() == pytest.approx(wanted)


def test_distances_of_equal_rows_are_exactly_zero_beyond_the_rows_where_libraries_switch_formula():
    rows = torch.nn.functional.normalize(
        torch.randn(60, 128, generator=torch.Generator().manual_seed(0))
    )
    twins = torch.cat([rows, rows])
    distances = squared_distances(twins)
    assert (distances.diagonal(60) == 0).all()
    assert torch.equal(distances, distances.T)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "tripplet"}, r"unknown loss 'tripplet' \(did you mean 'triplet'"),
        ({"name": "triplet", "margn": 1.0}, r"no setting 'margn' \(did you mean 'margin'"),
        (
            {"name": "triplet", "margin": -1.0},
            "margin of the loss 'triplet' must be at least 0 and finite, got -1.0",
        ),
        (
            {"name": "scl", "temperature": 0.0},
            "temperature of the loss 'scl' must be positive and finite, got 0.0",
        ),
        (
            {"name": "scl", "reduction": "sum"},
            r"unknown reduction of the loss 'scl' 'sum' \(known: mean, active",
        ),
        ({"name": "arcface"}, "needs the setting 'class_count'"),
        (
            {"name": "arcface", "class_count": 3, "embedding_size": 4, "margin": 30.0},
            "angle in radians",
        ),
        ({"name": "nowhere.py:Pull"}, "there is no file 'nowhere.py'"),
    ],
)
def test_a_wrong_name_or_setting_is_refused_in_words(settings, message):
    with pytest.raises(InputError, match=message):
        load_loss(**settings)


def test_a_loss_of_ones_own_comes_from_a_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "import torch\n"
        "class Pull(torch.nn.Module):\n"
        "    def __init__(self, *, power=2.0):\n        super().__init__()\n        self.power = power\n"
        "    def forward(self, z, y):\n        return (z[:1] - z).norm(dim=1).pow(self.power).mean()\n"
        "def plain(z, y):\n    return z.sum()\n"
    )
    assert load_loss(f"{file}:Pull", power=3.0).power == 3.0
    assert load_loss(f"{file}:plain")(torch.ones(2, 2), torch.tensor([0, 1])) == 4
    with pytest.raises(InputError, match=r"has no loss 'Pul' \(did you mean 'Pull'"):
        load_loss(f"{file}:Pul")
    with pytest.raises(InputError, match=r"no setting 'powr' \(did you mean 'power'"):
        load_loss(f"{file}:Pull", powr=3.0)


@pytest.mark.parametrize("name", LOSSES)
def test_autocast_does_not_reach_the_similarities(name):
    embeddings, labels = make_batch(BATCHES["balanced"])
    loss = make_loss(name).float()
    expected = loss(embeddings.float(), labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(loss(embeddings.float(), labels), expected)


def test_a_number_that_yaml_reads_as_text_is_a_number():
    assert load_loss("scl", temperature="1e-1").temperature == 0.1


COMPILED = """
import torch
from torch.nn.functional import normalize
from lossgauge import load_loss

rows, labels = torch.randn(12, 4, dtype=torch.float64, requires_grad=True), torch.arange(12) % 3
for name, sizes in (("triplet", {}), ("arcface", {"class_count": 3, "embedding_size": 4})):
    loss = load_loss(name, **sizes).double()

    def step(rows):
        return loss(normalize(rows), labels)

    plain, compiled = step(rows), torch.compile(step, backend="eager")(rows)
    assert compiled.item() == plain.item()
    assert torch.equal(*(torch.autograd.grad(value, rows)[0] for value in (plain, compiled)))
    try:
        torch.export.export(loss, (rows.detach(), labels))
    except Exception as error:
        assert "embeddings cannot be traced" in str(error), error
    else:
        raise AssertionError("a loss was exported")
"""


def test_a_compiled_training_step_gives_the_same_value_and_gradient_and_an_export_is_refused():
    # in a process without checks of shapes, which torch.compile would trace as well
    process = fork_script(COMPILED)
    assert process.wait() == 0, process.output


@pytest.mark.parametrize("form", ["kernel", "torch"])
def test_with_a_margin_of_zero_no_negative_has_a_weight(form):
    embeddings, labels = make_batch(BATCHES["unbalanced"])
    loss = make_loss("contrastive", margin=0.0)
    distances = (embeddings[:, None] - embeddings).norm(dim=2)
    positive = (labels[:, None] == labels).double().fill_diagonal_(0)
    expected = (positive * distances / 2).sum(dim=1) / (len(labels) - 1)
    outcome = loss.outcome if form == "kernel" else partial(without_kernel, loss)
    with patch.object(loss, "outcome", outcome):
        found = loss.evaluate(embeddings, labels)
    assert found.anchor_weight.tolist() == pytest.approx(expected.tolist())


@pytest.mark.parametrize("form", ["kernel", "torch"])
def test_a_distance_is_zero_below_twice_the_rounding_of_its_terms_and_not_above(form):
    eps = torch.finfo(torch.float64).eps
    loss = make_loss("contrastive", margin=1.0)
    outcome = loss.outcome if form == "kernel" else partial(without_kernel, loss)
    for squared, kept in ((4 * eps, False), (6 * eps, True)):
        # measured from the first row, the two others have squared norms that add up to 2 and a little
        rows = torch.tensor([[0, 0], [1, 0], [1, squared**0.5]], dtype=torch.float64)
        with patch.object(loss, "outcome", outcome):
            found = loss.evaluate(rows, torch.tensor([0, 1, 1]))
        assert bool(found.anchor_value[1] > 0) == kept, squared


def test_the_effective_share_of_the_only_pair_is_one():
    assert effective_share(torch.tensor([[0.0, 2.0]]), pairs=1) == pytest.approx(1)


def test_only_what_may_be_a_loss_is_proposed(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("_pull_ = max\npull2 = 3\ndef push(z, y):\n    return z.sum()\n")
    for wrong in ("_pull", "pull"):
        with pytest.raises(InputError) as caught:
            load_loss(f"{file}:{wrong}")
        assert "_pull_" not in str(caught.value)
        assert "pull2" not in str(caught.value)

"""The edge rules, which all seven share."""

import math

import pytest
import torch

from lossgauge.errors import InputError
from lossgauge.losses import LOSSES, load_loss
from lossgauge.losses.base import effective_share, squared_distances
from tests.losses.cases import BATCHES, make_batch

PAIR_LOSSES = [name for name in LOSSES if name not in ("arcface", "ccl")]


def make_loss(name, **settings):
    torch.manual_seed(0)
    sizes = {} if name in PAIR_LOSSES else {"class_count": 5, "embedding_size": 6}
    return load_loss(name, **sizes, **settings).double()


@pytest.mark.parametrize("name", LOSSES)
def test_pull_and_push_are_the_mean_norms_of_the_two_parts_of_the_gradient(name):
    """A second way: autograd through the similarity matrix, positives and negatives apart."""
    embeddings, labels = make_batch(BATCHES["unbalanced"])
    loss = make_loss(name)
    leaf = embeddings.clone().requires_grad_()
    evaluation = loss.evaluate(leaf, labels)
    (gradient,) = torch.autograd.grad(evaluation.value, leaf)
    with torch.no_grad():
        outcome = loss.outcome(embeddings, labels)
    scale = 1 / evaluation.term_count
    torch.testing.assert_close((outcome.forces.pull + outcome.forces.push) * scale, gradient)
    assert evaluation.pull.item() == pytest.approx(
        (outcome.forces.pull * scale).norm(dim=1).mean().item()
    )
    assert evaluation.push.item() == pytest.approx(
        (outcome.forces.push * scale).norm(dim=1).mean().item()
    )


@pytest.mark.parametrize(("name", "temperature"), [("info_nce", 0.1), ("scl", 0.1)])
def test_the_pull_is_the_gradient_with_the_negatives_held(name, temperature):
    embeddings, labels = make_batch(BATCHES["unbalanced"])
    loss = make_loss(name, temperature=temperature)
    leaf = embeddings.clone().requires_grad_()
    similarity = leaf @ leaf.T
    same = labels[:, None] == labels
    # Negatives see only the detached copy, so their similarities carry no gradient.
    similarity = torch.where(same, similarity, similarity.detach())
    logits = similarity / temperature
    terms = []
    for i in range(len(labels)):
        negatives = torch.logsumexp(logits[i][~same[i]], 0)
        positives = [p for p in range(len(labels)) if same[i, p] and p != i]
        everyone = torch.logsumexp(torch.stack([negatives, *(logits[i, p] for p in positives)]), 0)
        if name == "info_nce":
            terms += [torch.nn.functional.softplus(negatives - logits[i, p]) for p in positives]
        elif positives:
            terms.append(everyone - torch.stack([logits[i, p] for p in positives]).mean())
    (pull,) = torch.autograd.grad(torch.stack(terms).mean(), leaf)
    assert loss.evaluate(embeddings, labels).pull.item() == pytest.approx(
        pull.norm(dim=1).mean().item()
    )


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
    with pytest.raises(InputError, match="can be differentiated once"):
        torch.autograd.grad(make_loss(name)(leaf, labels), leaf, create_graph=True)


def test_effective_share_is_one_for_equal_weights_and_one_pair_for_a_single_weight():
    assert effective_share(torch.full((3, 4), -2.0), pairs=12) == pytest.approx(1)
    lone = torch.zeros(3, 4)
    lone[1, 2] = 1e-30  # its square underflows in float32
    assert effective_share(lone, pairs=12) == pytest.approx(1 / 12)
    assert math.isnan(effective_share(torch.zeros(3, 4), pairs=12))


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
        ({"name": "tripplet"}, "unknown loss 'tripplet'; did you mean 'triplet'"),
        ({"name": "triplet", "margn": 1.0}, "no setting 'margn'; did you mean 'margin'"),
        ({"name": "triplet", "margin": -1.0}, "margin must be at least 0 and finite, got -1.0"),
        ({"name": "scl", "temperature": 0.0}, "temperature must be positive and finite, got 0.0"),
        ({"name": "scl", "reduction": "sum"}, "unknown reduction 'sum'; known: mean, active"),
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
    with pytest.raises(InputError, match="has no loss 'Pul'; did you mean 'Pull'"):
        load_loss(f"{file}:Pul")
    with pytest.raises(InputError, match="no setting 'powr'; did you mean 'power'"):
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

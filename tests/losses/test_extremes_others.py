"""Where numbers are hard, for the losses beside the paper's seven: float32 and half precision against float64, equal points, few samples."""

import pytest
import torch

from lossgauge.losses.proxies import ProxyLoss
from lossgauge.losses.registry import load_loss, settings_of
from tests.losses.cases import make_batch
from tests.losses.test_extremes import assert_near, errors, find, point_sets, reference

OTHERS = (
    *("flat_nce", "multi_similarity", "circle", "proxy_anchor"),
    *("subcenter_arcface", "soft_triple", "smooth_ap"),
)
SHARP = [
    ("flat_nce", {"temperature": 0.0002}),
    ("multi_similarity", {"alpha": 1e4, "beta": 1e4}),
    ("circle", {"scale": 1e4}),
    ("proxy_anchor", {"alpha": 1e4}),
    ("subcenter_arcface", {"scale": 1024.0}),
    ("soft_triple", {"scale": 1024.0, "temperature": 0.001}),
    ("smooth_ap", {"temperature": 0.0005}),
    ("smooth_ap", {"include_self": True}),
]


def make_loss(name, *, width=32, **settings):
    torch.manual_seed(0)
    sizes = (
        {"class_count": 8, "embedding_size": width} if "class_count" in settings_of(name) else {}
    )
    return load_loss(name, **sizes, **settings)


@pytest.mark.parametrize(
    ("dtype", "value", "gradient"),
    [(torch.bfloat16, 1e-6, 2**-8), (torch.float32, 1e-6, 1e-5), (torch.float64, 1e-13, 1e-13)],
    ids=str,
)
@pytest.mark.parametrize("name", OTHERS)
def test_each_type_agrees_with_float64_at_the_numbers_that_it_holds(name, dtype, value, gradient):
    embeddings, labels = make_batch([*range(8)] * 8, width=32)
    rows = embeddings.to(dtype)
    loss = make_loss(name).to(torch.promote_types(dtype, torch.float32))
    wanted = reference(loss, rows, labels)
    assert all(part.norm() > 0 for part in wanted.gradients)
    error = errors(find(loss, rows, labels), wanted)
    assert error.value < value
    assert error.gradient < gradient


@pytest.mark.parametrize(("name", "settings"), SHARP, ids=str)
def test_float32_agrees_with_float64_at_extreme_settings_and_its_gradient_lives(name, settings):
    """A similarity is rounded by up to 1e-7; times the scale it stands in an exponent, so shares are off by that product."""
    embeddings, labels = make_batch([*range(8)] * 8, width=32)
    loss = make_loss(name, **settings)
    wanted = reference(loss, embeddings.float(), labels)
    error = errors(find(loss, embeddings.float(), labels), wanted)
    sharpness = max(
        *(settings.get(key, 1.0) for key in ("alpha", "beta", "scale")),
        1 / settings.get("temperature", 1.0),
    )
    assert error.value < max(1e-6, 2e-8 * sharpness if name == "smooth_ap" else 0)
    assert error.gradient < max(1e-5, 1e-7 * sharpness)
    assert wanted.gradients[0].norm() > 0


@pytest.mark.parametrize("kind", point_sets())
@pytest.mark.parametrize("name", OTHERS)
def test_points_that_coincide_or_oppose_agree_with_float64(name, kind):
    rows, labels = point_sets()[kind]
    loss = make_loss(name, width=128)
    found, wanted = find(loss, rows, labels), reference(loss, rows, labels)
    # in float32, equal rows have similarities that differ by 1e-7: Smooth-AP divides them by 0.01
    assert_near(found, wanted, share=1e-4, strength=64.0)
    assert found.evaluation.active_count == wanted.evaluation.active_count


@pytest.mark.parametrize(
    ("labels", "pair_terms"),
    [
        ([1], {}),
        ([1, 1], {"smooth_ap": 2}),
        ([1, 0], {}),
        ([1, 1, 0], {"flat_nce": 2, "multi_similarity": 2, "circle": 2, "smooth_ap": 2}),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", OTHERS)
def test_few_samples_have_the_terms_they_can_have(name, labels, pair_terms):
    rows, labels = make_batch(labels, width=32)[0].float(), torch.tensor(labels)
    loss = make_loss(name)
    found, wanted = find(loss, rows, labels), reference(loss, rows, labels)
    terms = pair_terms.get(name, 0)
    if isinstance(loss, ProxyLoss):
        terms = 8 if name == "proxy_anchor" else len(labels)
    assert found.evaluation.term_count == terms
    assert_near(found, wanted, share=1e-5)
    if not terms:
        assert found.value == 0
        assert (found.gradients[0] == 0).all()
        assert found.evaluation.skipped_anchors == len(labels)

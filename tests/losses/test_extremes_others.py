"""Where numbers are hard, for the losses beside the paper's seven: float32 and half precision against float64, equal points, few samples."""

import pytest
import torch

from lossgauge.errors import InputError
from lossgauge.losses.proxies import ProxyLoss
from tests.losses.cases import make_batch
from tests.losses.test_extremes import (
    Errors,
    assert_near,
    check_table,
    errors,
    find,
    make_loss,
    point_sets,
    reference,
)

OTHERS = (
    *("flat_nce", "dcl", "relaxed", "siglip"),
    *("multi_similarity", "circle", "proxy_anchor"),
    *("subcenter_arcface", "soft_triple", "smooth_ap"),
)
SHARP = [
    ("flat_nce", {"temperature": 0.0002}),
    ("dcl", {"temperature": 0.0002}),
    ("relaxed", {"temperature": 0.0002, "threshold": -1.0}),
    ("relaxed", {"penalty_weight": 1e6, "threshold": -1.0}),
    ("siglip", {"scale": 5e3, "bias": 0.0}),
    ("siglip", {"scale": 1e-3, "bias": 50.0}),
    ("multi_similarity", {"alpha": 1e4, "beta": 1e4}),
    ("circle", {"scale": 1e4}),
    ("proxy_anchor", {"alpha": 1e4}),
    ("subcenter_arcface", {"scale": 1024.0}),
    ("soft_triple", {"scale": 1024.0, "temperature": 0.001}),
    ("smooth_ap", {"temperature": 0.0005}),
    ("smooth_ap", {"include_self": True}),
]

WITH_TERMS = ("flat_nce", "dcl", "relaxed", "multi_similarity", "circle", "smooth_ap")


# the float64 of a loss without a kernel is the reference itself
BOUNDS = {
    torch.float16: Errors(1e-6, 2**-11),
    torch.bfloat16: Errors(1e-6, 2**-8),
    torch.float32: Errors(1e-6, 1e-5),
    torch.float64: Errors(1e-14, 1e-14),
}


def test_the_table_of_errors_stays_within_its_bounds():
    check_table((*OTHERS, "nscl", "mnrl", "cosent"), SHARP, bounds=BOUNDS)


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
        ([1, 1], {"relaxed": 2, "siglip": 2, "smooth_ap": 2}),
        ([1, 0], {"siglip": 2}),
        ([1, 1, 0], {"siglip": 6} | dict.fromkeys(WITH_TERMS, 2)),
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


@pytest.mark.parametrize("scale", [1e-13, 1e16])
@pytest.mark.parametrize("name", ["dcl", "relaxed", "siglip"])
def test_float32_of_an_unusual_size_agrees_with_float64(name, scale):
    embeddings, labels = make_batch([*range(8)] * 4, width=32)
    rows, loss = (embeddings * scale).float(), make_loss(name)
    found, wanted = find(loss, rows, labels), reference(loss, rows, labels)
    assert max(errors(found, wanted)) < 1e-5
    assert found.evaluation[1:4] == wanted.evaluation[1:4]
    with pytest.raises(InputError, match=r"is outside the range of torch.float32"):
        find(loss, (embeddings * 1e25).float(), labels)

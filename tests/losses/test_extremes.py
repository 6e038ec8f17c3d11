"""Where numbers are hard: small temperatures, equal points, half precision, many classes, odd labels and layouts.

The loops beside each loss vouch for the torch form in float64; here it is the reference for float32, for the
kernels, and for half precision. The tables of docs/numerics.md are printed by

    .venv/bin/python -m pytest tests/losses/test_extremes.py tests/losses/test_extremes_others.py -k table -s
"""

import copy
from contextlib import nullcontext
from functools import partial
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lossgauge.errors import InputError
from lossgauge.losses.registry import LOSSES, load_loss, settings_of
from lossgauge.types import Evaluation
from tests.losses.cases import make_batch, without_kernel

WITH_PROXIES = ("arcface", "ccl")
PAIR_LOSSES = [name for name in LOSSES if name not in WITH_PROXIES]
# N-pair has no kernel: as it comes, it is the torch form
FORMS = [(name, "as it comes") for name in LOSSES]
FORMS += [(name, "torch") for name in LOSSES if name != "n_pair"]
PAIR_FORMS = [(name, form) for name, form in FORMS if name in PAIR_LOSSES]

EXTREMES = [
    ("contrastive", {"margin": 0.0}),
    ("contrastive", {"margin": 1e-8}),
    ("contrastive", {"margin": 1e8}),
    ("triplet", {"margin": 0.0}),
    ("triplet", {"margin": 1e-8}),
    ("triplet", {"margin": 1e8}),
    ("triplet", {"power": 1}),
    ("triplet", {"power": 1, "margin": 0.0}),
    ("triplet", {"power": 1, "margin": 1e8}),
    ("n_pair", {"temperature": 0.01}),
    ("n_pair", {"temperature": 0.0002}),
    ("info_nce", {"temperature": 0.01}),
    ("info_nce", {"temperature": 0.0002}),
    ("scl", {"temperature": 0.01}),
    ("scl", {"temperature": 0.0002}),
    ("arcface", {"scale": 1024.0}),
    ("arcface", {"margin": 0.0}),
    ("arcface", {"margin": 1e-8}),
    ("ccl", {"scale": 1024.0}),
    ("ccl", {"margin": 0.0}),
    ("ccl", {"margin": 1e-8}),
    ("ccl", {"margin": 1e8}),
]


class Found(NamedTuple):
    evaluation: Evaluation
    value: Tensor
    gradients: tuple[Tensor, ...]
    """At the embeddings, then at the loss's parameters."""


class Errors(NamedTuple):
    """|found − reference| / |reference|: of the value, and of the gradient by its norm."""

    value: float
    gradient: float


def make_loss(name, *, classes=8, width=32, seed=0, **settings):
    torch.manual_seed(seed)
    sizes = {"class_count": classes, "embedding_size": width}
    given = sizes if "class_count" in settings_of(name) else {}
    return load_loss(name, **given, **settings)


def in_form(loss, form):
    """A context in which `loss` is computed in that form."""
    if form == "torch":
        return patch.object(loss, "outcome", partial(without_kernel, loss))
    return nullcontext()


def find(loss, embeddings, labels, *, form="as it comes"):
    leaf = embeddings.detach().clone().requires_grad_()
    with in_form(loss, form):
        evaluation = loss.evaluate(leaf, labels)
    gradients = torch.autograd.grad(evaluation.value, [leaf, *loss.parameters()])
    return Found(evaluation, evaluation.value.detach(), gradients)


def reference(loss, embeddings, labels):
    """In float64, by the torch form, at the very numbers that `embeddings` holds."""
    return find(copy.deepcopy(loss).double(), embeddings.double(), labels, form="torch")


def errors(found, wanted):
    return Errors(
        float((found.value - wanted.value).abs() / wanted.value.abs()),
        max(
            float((a.double() - b).norm() / b.norm())
            for a, b in zip(found.gradients, wanted.gradients, strict=True)
        ),
    )


def largest_errors(name, *, dtype=torch.float32, seeds=5, forms=("as it comes", "torch"), **settings):  # fmt: skip
    """Over batches of 64 unit vectors of 8 classes and both forms."""
    found = []
    for seed in range(seeds):
        embeddings, labels = make_batch([*range(8)] * 8, seed=seed, width=32)
        loss = make_loss(name, seed=seed, **settings)
        loss.to(torch.promote_types(dtype, torch.float32))
        rows = embeddings.to(dtype)
        wanted = reference(loss, rows, labels)
        assert all(gradient.norm() > 0 for gradient in wanted.gradients)
        for form in forms:
            found.append(errors(find(loss, rows, labels, form=form), wanted))
    return Errors(*map(max, zip(*found, strict=True)))


def assert_near(found, wanted, *, share, strength=1.0):
    """Finite, and within `share` of the reference or, where forces cancel, of the `strength` of one of them."""
    assert found.value.isfinite()
    torch.testing.assert_close(found.value.double(), wanted.value, rtol=share, atol=share)
    for a, b in zip(found.gradients, wanted.gradients, strict=True):
        assert (a.double() - b).norm() <= share * max(strength, float(b.norm()))


# float64 stands beside the torch form in float64: what is left is the order of sums
BOUNDS = {
    torch.float16: Errors(1e-6, 2**-11),
    torch.bfloat16: Errors(1e-6, 2**-8),
    torch.float32: Errors(1e-6, 2e-6),
    torch.float64: Errors(1e-14, 1e-14),
}
SHARP = {
    name: settings
    for name, settings in EXTREMES
    if settings in ({"temperature": 0.0002}, {"scale": 1024.0})
}


def check_table(names, sharp, *, bounds):
    """Prints the tables of docs/numerics.md, of these losses; each error is within its bound."""
    rows = [f"| loss |{'|'.join(f' {str(dtype)[6:]} ' for dtype in bounds)}|"]
    rows.append("|---" * (1 + len(bounds)) + "|")
    too_large = []
    for name in names:
        cells = []
        for dtype, bound in bounds.items():
            error = largest_errors(name, dtype=dtype)
            cells.append(f" {error.value:.0e} / {error.gradient:.0e} ")
            if error.value > bound.value or error.gradient > bound.gradient:
                too_large.append((name, dtype, error))
        rows.append(f"| `{name}` |{'|'.join(cells)}|")
    rows += ["", "| loss | setting | float32 |", "|---|---|---|"]
    for name, settings in sharp:
        error = largest_errors(name, **settings)
        shown = ", ".join(f"{setting} {number:g}" for setting, number in settings.items())
        rows.append(f"| `{name}` | {shown} | {error.value:.0e} / {error.gradient:.0e} |")
    print("", *rows, sep="\n")
    assert not too_large


def test_the_table_of_errors_stays_within_its_bounds():
    check_table(LOSSES, SHARP.items(), bounds=BOUNDS)


@pytest.mark.parametrize("form", ["as it comes", "torch"])
@pytest.mark.parametrize(("name", "settings"), EXTREMES, ids=str)
def test_float32_agrees_with_float64_at_extreme_settings_and_its_gradient_lives(
    name, settings, form
):
    error = largest_errors(name, seeds=2, forms=[form], **settings)
    # a similarity is rounded by up to 1e-7, and divided by the temperature it stands in an exponent
    temperature = settings.get("temperature", 1)
    assert error.value < 1e-6
    assert error.gradient < max(1e-5, 2e-8 / temperature)


@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["equal", "anti-parallel"])
@pytest.mark.parametrize(
    ("name", "form"), [(name, form) for name, form in FORMS if name in WITH_PROXIES]
)
def test_a_sample_on_its_proxy_or_opposite_agrees_with_float64(name, form, sign):
    loss = make_loss(name)
    loss.proxies.data = F.normalize(loss.proxies.data)
    labels = torch.arange(16) % 8
    rows = sign * loss.proxies.detach()[labels]
    found, wanted = find(loss, rows, labels, form=form), reference(loss, rows, labels)
    # A float32 cosine cannot tell an angle below 1e-3 from 0: a logit of ArcFace is off by s·sin(m)·1e-3 = 0.03.
    share = 0.04 if (name, sign) == ("arcface", 1) else 1e-5
    assert found.value.item() == pytest.approx(wanted.value.item(), rel=share, abs=0)
    assert_near(found, wanted, share=1e-6, strength=64.0)


@pytest.mark.parametrize("labels", [[0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 1, 0]], ids=str)
@pytest.mark.parametrize(("name", "form"), PAIR_FORMS)
def test_equal_and_anti_parallel_pairs_agree_with_float64(name, form, labels):
    row = make_batch([0], width=32)[0].float()
    rows, labels = torch.cat([row, row, -row, -row]), torch.tensor(labels)
    loss = make_loss(name)
    found, wanted = find(loss, rows, labels, form=form), reference(loss, rows, labels)
    assert_near(found, wanted, share=1e-6, strength=10.0)
    assert found.evaluation.active_count == wanted.evaluation.active_count


def point_sets():
    """Rows with their labels, each with exact ties."""
    rows, labels = make_batch([0] * 30 + [1] * 18 + [2] * 12, width=128)
    rows = rows.float()
    signs = torch.where(torch.arange(60) % 3 == 0, -1.0, 1.0)[:, None]
    return {
        "all equal": (rows[:1].expand(60, -1), labels),
        "anti-parallel": (signs * rows[:1], labels),
        "each twice in its class": (torch.cat([rows, rows]), torch.cat([labels, labels])),
        "each twice in two classes": (torch.cat([rows, rows]), torch.cat([labels, labels + 1])),
        "each with its opposite": (torch.cat([rows, -rows]), torch.cat([labels, labels])),
    }


@pytest.mark.parametrize("setting", ["default", "extreme"])
@pytest.mark.parametrize("kind", point_sets())
@pytest.mark.parametrize(("name", "form"), FORMS)
def test_points_that_coincide_or_oppose_agree_with_float64(name, form, kind, setting):
    rows, labels = point_sets()[kind]
    settings = SHARP.get(name, {"margin": 1e8}) if setting == "extreme" else {}
    temperature = settings.get("temperature", 0.1)
    loss = make_loss(name, width=128, **settings)
    found, wanted = find(loss, rows, labels, form=form), reference(loss, rows, labels)
    strength = max(64.0, 1 / temperature, settings.get("scale", 0), settings.get("margin", 0))
    # one rounding for all pairs: none cancels another
    assert_near(found, wanted, share=1.2e-7 / temperature, strength=strength)
    assert found.evaluation.active_count == wanted.evaluation.active_count


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("margin", [1e-8, 0.3, 1e8])
@pytest.mark.parametrize(
    ("name", "form"), [(name, form) for name, form in FORMS if name in ("contrastive", "triplet")]
)
def test_a_collapsed_batch_has_exactly_no_gradient_under_distances(name, form, margin, dtype):
    rows, labels = point_sets()["all equal"]
    found = find(make_loss(name, margin=margin), rows.to(dtype), labels, form=form)
    assert found.value.isfinite()
    assert found.value > 0
    assert (found.gradients[0] == 0).all()
    assert found.evaluation.pull == found.evaluation.push == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("form", ["as it comes", "torch"])
def test_equal_points_of_two_classes_do_not_push_each_other(form, dtype):
    # an odd number of rows: products of equal rows then differ in their last bits
    rows, _ = make_batch([0] * 37, width=100)
    rows = torch.cat([rows, rows]).to(dtype)
    # all others are beyond the margin
    found = find(make_loss("contrastive", margin=0.5), rows, torch.arange(74), form=form)
    assert found.value.item() == pytest.approx(0.25 / 73, rel=1e-6)
    assert (found.gradients[0] == 0).all()


@pytest.mark.parametrize(
    ("labels", "counts"),
    [
        ([1], {"arcface": 1, "ccl": 1}),
        ([1, 1], {"contrastive": 2, "n_pair": 1, "info_nce": 2, "scl": 2, "arcface": 2, "ccl": 2}),
        ([1, 0], {"contrastive": 2, "arcface": 2, "ccl": 2}),
    ],
    ids=str,
)
@pytest.mark.parametrize(("name", "form"), FORMS)
def test_one_or_two_samples_have_the_terms_they_can_have(name, form, labels, counts):
    rows, labels = make_batch(labels, width=32)[0].float(), torch.tensor(labels)
    loss = make_loss(name)
    found, wanted = find(loss, rows, labels, form=form), reference(loss, rows, labels)
    assert found.evaluation.term_count == counts.get(name, 0)
    assert_near(found, wanted, share=2e-6)
    if not counts.get(name, 0):
        assert found.value == 0
        assert (found.gradients[0] == 0).all()


def by_autograd(name, rows, labels, proxies):
    """ArcFace and CCL at default settings, as their papers write them."""
    directions, own = F.normalize(proxies), torch.arange(len(labels))
    if name == "arcface":
        logits = F.normalize(rows) @ directions.T
        target, scale, extra = (logits[own, labels].acos() + 0.5).cos(), 64, 0
    else:
        logits = rows @ directions.T
        target, scale = logits[own, labels] - 0.2, 32
        extra = (rows - directions[labels]).square().sum(1).mean()
    return F.cross_entropy(scale * logits.index_put((own, labels), target), labels) + extra


@pytest.mark.parametrize(
    ("dtype", "share"),
    [(torch.float32, 1e-4), (torch.float64, 1e-11)],  # a sum of 100,000 forces, of one sign
    ids=str,
)
@pytest.mark.parametrize(
    ("name", "form"), [(name, form) for name, form in FORMS if name in WITH_PROXIES]
)
def test_with_100_000_classes_value_and_gradients_are_those_of_autograd(name, form, dtype, share):
    labels = torch.tensor([0, 99_999, 99_999, 4242])
    loss = make_loss(name, classes=100_000, width=8)
    rows = F.normalize(loss.proxies.detach()[labels] + 0.2)
    found = find(loss.to(dtype), rows.to(dtype), labels, form=form)
    leaves = [rows.double().requires_grad_(), loss.proxies.detach().double().requires_grad_()]
    value = by_autograd(name, leaves[0], labels, leaves[1])
    gradients = torch.autograd.grad(value, leaves)
    wanted = Found(found.evaluation, value.detach(), gradients)
    assert max(errors(found, wanted)) < share
    assert all(gradient[row].norm() > 0 for gradient in found.gradients[1:] for row in (0, 99_999))


@pytest.mark.parametrize(
    "names",
    [
        torch.tensor([2**63 - 1, -(2**63), 0, -1]),
        torch.tensor([2**63 - 2, 2**63 - 1, 2**63 - 4, 2**63 - 3]),  # one number in float64
        torch.tensor([-(2**63), 2 - 2**63, 1 - 2**63, 3 - 2**63]),
        torch.tensor([255, 0, 128, 127], dtype=torch.uint8),
        torch.tensor([2**31 - 1, -(2**31), 0, 1], dtype=torch.int32),
    ],
    ids=str,
)
@pytest.mark.parametrize(("name", "form"), PAIR_FORMS)
def test_what_the_classes_are_called_does_not_matter(name, form, names):
    embeddings, labels = make_batch([0] * 7 + [1] * 5 + [2] * 4 + [3])
    loss = make_loss(name)
    found = find(loss, embeddings, names[labels], form=form)
    wanted = find(loss, embeddings, labels, form=form)
    assert_near(found, wanted, share=1e-13)
    assert found.evaluation[1:4] == wanted.evaluation[1:4]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
@pytest.mark.parametrize("name", WITH_PROXIES)
def test_rows_of_proxies_are_found_by_small_integers(name, dtype):
    embeddings, labels = make_batch([*range(8)] * 2, width=32)
    loss = make_loss(name).double()
    found, wanted = (find(loss, embeddings, numbers) for numbers in (labels.to(dtype), labels))
    assert_near(found, wanted, share=0.0)


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_the_order_of_rows_does_not_matter(name, form):
    embeddings, labels = make_batch([0] * 7 + [1] * 5 + [2] * 4 + [3], width=32)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    if name == "n_pair":  # it takes the first two of a class
        for label in range(4):
            of_class = labels[order] == label
            order[of_class] = order[of_class].sort().values
    loss = make_loss(name).double()
    found = find(loss, embeddings[order], labels[order], form=form)
    wanted = find(loss, embeddings, labels, form=form)
    moved = wanted._replace(gradients=(wanted.gradients[0][order], *wanted.gradients[1:]))
    assert_near(found, moved, share=1e-13)


LAYOUTS = {
    "transposed": ((32, 12), lambda base: base.T),
    "every second row and column": ((24, 64), lambda base: base[::2, ::2]),
    "one row for all": ((1, 32), lambda base: base.expand(12, -1)),
    "one column for all": ((12, 1), lambda base: base.expand(-1, 32)),
    "one number for all": ((1, 1), lambda base: base.expand(12, 32)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("name", "form"), FORMS)
def test_embeddings_of_any_layout_get_their_gradient_in_place(name, form, layout):
    shape, view = LAYOUTS[layout]
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(shape, dtype=torch.float64, generator=generator, requires_grad=True)
    labels = torch.arange(12) % 4
    loss = make_loss(name).double()
    results = []
    for rows in (view(base), view(base).clone(memory_format=torch.contiguous_format)):
        with in_form(loss, form):
            value = loss(rows, labels)
        gradients = torch.autograd.grad(value, [base, *loss.parameters()])
        results.append(Found(Evaluation(value), value.detach(), gradients))
    assert not view(base).is_contiguous()
    assert_near(*results, share=1e-12, strength=64.0)


@pytest.mark.parametrize(
    ("labels", "plain"),
    [
        (torch.tensor([2]).expand(6), [2] * 6),
        (torch.tensor([0, 9, 1, 9, 0, 9, 2, 9, 1, 9, 2, 9])[::2], [0, 1, 0, 2, 1, 2]),
        (np.array([2, 1, 2, 0, 1, 0])[::-1], [0, 1, 0, 2, 1, 2]),
    ],
    ids=["expanded", "every second", "backwards"],
)
@pytest.mark.parametrize(("name", "form"), FORMS)
def test_labels_of_any_layout_are_read_as_they_stand(name, form, labels, plain):
    embeddings, _ = make_batch(plain, width=32)
    loss = make_loss(name).double()
    found = find(loss, embeddings, labels, form=form)
    wanted = find(loss, embeddings, torch.tensor(plain), form=form)
    assert_near(found, wanted, share=0.0)


@pytest.mark.parametrize("name", LOSSES)
def test_arrays_read_backwards_give_what_their_copies_give(name):
    embeddings, labels = (part.numpy() for part in make_batch([*range(4)] * 4, width=32))
    loss = make_loss(name).double()
    backwards = loss(embeddings[::-1, ::-1], labels[::-1])
    assert torch.equal(backwards, loss(embeddings[::-1, ::-1].copy(), labels[::-1].copy()))


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_gradients_at_embeddings_and_proxies_are_those_of_finite_differences(name, form):
    embeddings, labels = make_batch([0, 0, 0, 1, 1, 2, 2, 3], seed=2, width=5, unit=False)
    loss = make_loss(name, classes=4, width=5).double()
    with in_form(loss, form):
        inputs = (embeddings.requires_grad_(), *loss.parameters())
        assert torch.autograd.gradcheck(lambda rows, *_: loss(rows, labels), inputs)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("name", "form"), FORMS)
def test_the_same_call_gives_the_same_bits(name, form, threads):
    embeddings, labels = make_batch([*range(8)] * 16, width=32)
    loss = make_loss(name)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        first, *others = (find(loss, embeddings.float(), labels, form=form) for _ in range(4))
    finally:
        torch.set_num_threads(before)
    for other in others:
        assert torch.equal(first.value, other.value)
        assert all(map(torch.equal, first.gradients, other.gradients))


@pytest.mark.parametrize("sizes", [(301, 299), (1051, 1049)])
@pytest.mark.parametrize("form", ["as it comes", "torch"])
@torch.no_grad()
def test_triplets_are_counted_exactly(sizes, form):
    first, second = sizes
    embeddings, labels = make_batch([0] * first + [1] * second, width=8)
    loss = make_loss("triplet", margin=10.0)
    with in_form(loss, form):
        evaluation = loss.evaluate(embeddings.float(), labels)
    triplets = first * second * (first + second - 2)
    # a float32 cannot hold either number; the larger is beyond an int32, and its rows are compared by rank
    assert torch.tensor(triplets).float().long() != triplets
    assert evaluation.active_count == evaluation.term_count == triplets
    assert evaluation.anchor_weight.min() == evaluation.anchor_weight.max() == 1


@pytest.mark.parametrize(
    ("name", "form", "scale"),
    [(*of, scale) for of in FORMS for scale in (1e-30, 1e-20, 1e-13, 1e13, 1e16)]
    # squared distances overflow, their mean does not
    + [(*of, 2e19) for of in FORMS if of[0] in ("contrastive", "triplet")],
)
def test_float32_of_an_unusual_size_agrees_with_float64(name, form, scale):
    embeddings, labels = make_batch([*range(8)] * 4, width=32)
    rows = (embeddings * scale).float()
    loss = make_loss(name)
    found, wanted = find(loss, rows, labels, form=form), reference(loss, rows, labels)
    assert found.value.dtype == found.gradients[0].dtype == torch.float32
    torch.testing.assert_close(found.value.double(), wanted.value, rtol=1e-5, atol=0)
    for a, b in zip(found.gradients, wanted.gradients, strict=True):
        assert (a.double() - b).norm() <= 1e-5 * b.norm()
    assert found.evaluation[1:4] == wanted.evaluation[1:4]
    assert found.evaluation.pull.item() == pytest.approx(wanted.evaluation.pull.item(), rel=1e-5)


@pytest.mark.parametrize(("dtype", "scale"), [(torch.float32, 1e25), (torch.float64, 1e155)])
@pytest.mark.parametrize(("name", "form"), FORMS)
def test_embeddings_too_large_for_their_type_are_refused_in_words(name, form, dtype, scale):
    embeddings, labels = make_batch([*range(8)] * 4, width=32)
    rows, loss = (embeddings * scale).to(dtype), make_loss(name).to(dtype)
    if name == "arcface":  # it normalises
        found, wanted = find(loss, rows, labels, form=form), find(loss, embeddings, labels)
        assert found.value.item() == pytest.approx(wanted.value.item(), rel=1e-4)
        return
    rule = r"is outside the range of torch|must be in 1e-135 … 1e\+145, got .*e\+154"
    with pytest.raises(InputError, match=rule):
        find(loss, rows, labels, form=form)


def test_distances_whose_squares_vanish_in_float64_are_refused_in_words():
    embeddings, labels = make_batch([0, 0, 1, 1])
    with pytest.raises(InputError, match=r"must be in 1e-135 … 1e\+145, got .*e-15"):
        make_loss("contrastive")(embeddings * 1e-150, labels)


def test_a_temperature_that_float32_cannot_hold_is_computed_in_float64():
    embeddings, labels = make_batch([*range(8)] * 4, width=32)
    loss = make_loss("info_nce", temperature=1e-36)
    rows = (embeddings * 1e5).float()
    with pytest.raises(InputError, match=r"is outside the range of torch.float32"):
        loss(rows, labels)
    loss = make_loss("n_pair", temperature=1e-29)
    assert_near(find(loss, rows, labels), reference(loss, rows, labels), share=1e-5)

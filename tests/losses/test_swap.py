import pytest
import torch
import torch.nn.functional as F

import lossgauge as lg
from lossgauge.errors import InputError
from lossgauge.health.training import ignores_labels


def batch(classes=4, per_class=3, width=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(classes * per_class, width, dtype=torch.float64, generator=generator)
    return F.normalize(rows), torch.arange(classes * per_class) % classes


def gradient(loss, rows, labels):
    leaf = rows.clone().requires_grad_()
    loss(leaf, labels).backward()
    return leaf.grad


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("info_nce", {}),
        ("nscl", {}),
        ("scl", {}),
        ("siglip", {}),
        ("contrastive", {}),
        ("triplet", {"reduction": "active"}),
        ("relaxed", {}),
    ],
)
def test_a_loss_swapped_with_itself_is_itself(name, settings):
    rows, labels = batch()
    loss = lg.load_loss(name, **settings).double()
    swapped = lg.swap(weight_of=loss, direction_of=loss)
    one, other = (of.evaluate(rows, labels) for of in (loss, swapped))
    torch.testing.assert_close(
        gradient(swapped, rows, labels), gradient(loss, rows, labels), rtol=1e-12, atol=1e-14
    )
    torch.testing.assert_close(other.value, one.value, rtol=1e-12, atol=0)
    assert (other.term_count, other.active_count) == (one.term_count, one.active_count)
    torch.testing.assert_close(other.anchor_weight, one.anchor_weight, equal_nan=True)
    assert other.push == pytest.approx(float(one.push), rel=1e-10)


def test_info_nce_is_nscl_with_weights_where_each_anchor_has_one_positive():
    info_nce, nscl = lg.load_loss("info_nce"), lg.load_loss("nscl")
    swapped = lg.swap(weight_of=info_nce, direction_of=nscl)
    rows, labels = batch(per_class=2)
    torch.testing.assert_close(
        gradient(swapped, rows, labels), gradient(info_nce, rows, labels), rtol=1e-12, atol=1e-14
    )
    rows, labels = batch(per_class=5)
    difference = gradient(swapped, rows, labels) - gradient(info_nce, rows, labels)
    assert difference.abs().max() > 1e-4
    # per term it is: each positive pair is a row of its own
    weight, direction = (
        lg.pair_gradient(loss, rows, labels, per_pair=True) for loss in (info_nce, nscl)
    )
    moved = direction.gradient * (weight.weight / direction.weight)[:, None]
    torch.testing.assert_close(moved, weight.gradient, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "names", [("info_nce", "scl"), ("scl", "siglip"), ("triplet", "contrastive")]
)
def test_the_gradient_is_the_rule_by_loops(names):
    rows, labels = batch(seed=1)
    a, b = (lg.load_loss(name).double() for name in names)
    of_a, of_b = (lg.pair_gradient(loss, rows, labels) for loss in (a, b))
    distances = of_b.is_distance
    expected, terms = torch.zeros_like(rows), int(of_b.terms.sum())
    for i in range(len(rows)):
        force_a, force_b = (float(of.gradient[i].abs().sum()) / 2 for of in (of_a, of_b))
        if force_b == 0:
            continue
        factor = force_a / int(of_a.terms[i]) / (force_b / int(of_b.terms[i]))
        for j in range(len(rows)):
            g = float(of_b.gradient[i, j]) * factor / terms
            if distances:
                expected[i] += 2 * g * (rows[i] - rows[j])
                expected[j] += 2 * g * (rows[j] - rows[i])
            else:
                expected[i] += g * rows[j]
                expected[j] += g * rows[i]
    swapped = lg.swap(weight_of=a, direction_of=b)
    torch.testing.assert_close(gradient(swapped, rows, labels), expected, rtol=1e-10, atol=1e-13)
    stated = swapped.stated_gradient(rows, labels)
    torch.testing.assert_close(stated, expected, rtol=1e-10, atol=1e-13)


def test_a_number_gives_all_anchors_one_strength():
    rows, labels = batch()
    swapped = lg.swap(weight_of=0.5, direction_of=lg.load_loss("info_nce"))
    of = lg.pair_gradient(swapped, rows, labels)
    torch.testing.assert_close(of.weight, torch.full_like(of.weight, 0.5))
    assert swapped.evaluate(rows, labels).anchor_weight.tolist() == pytest.approx([0.5] * len(rows))


def test_silent_rows_stay_still_and_are_counted():
    rows, labels = torch.eye(6, dtype=torch.float64)[[0, 0, 1, 1, 2, 3]], torch.arange(6) // 2
    contrastive, triplet = lg.load_loss("contrastive"), lg.load_loss("triplet")
    swapped = lg.swap(weight_of=contrastive, direction_of=triplet)
    # two classes are compact and far from the others; contrastive moves only the anchors of the third
    assert lg.pair_gradient(triplet, rows, labels).weight.tolist()[:4] == [0] * 4
    evaluation = swapped.evaluate(rows, labels)
    assert evaluation.anchor_weight.tolist()[:4] == [0] * 4
    assert gradient(swapped, rows, labels).isfinite().all()
    alone = lg.swap(weight_of=1.0, direction_of=triplet)
    assert alone.silent_anchors(rows, labels) == 4
    assert swapped.silent_anchors(rows, labels) == int(
        (lg.pair_gradient(contrastive, rows, labels).weight[:4] > 0).sum()
    )


def test_each_loss_trains_its_own_parameters():
    rows, labels = batch()
    info_nce, siglip = lg.load_loss("info_nce"), lg.load_loss("siglip").double()
    siglip(rows, labels).backward()
    alone = [parameter.grad.clone() for parameter in siglip.parameters()]
    for roles in (
        {"weight_of": info_nce, "direction_of": siglip},
        {"weight_of": siglip, "direction_of": info_nce},
    ):
        siglip.zero_grad()
        swapped = lg.swap(**roles)
        assert len(list(swapped.parameters())) == 2
        swapped(rows, labels).backward()
        for parameter, gradient_alone in zip(siglip.parameters(), alone, strict=True):
            torch.testing.assert_close(parameter.grad, gradient_alone, rtol=1e-12, atol=1e-15)


def test_a_swap_uses_labels_brings_classes_together_and_survives_any_batch():
    swapped = lg.swap(weight_of=lg.load_loss("scl"), direction_of=lg.load_loss("info_nce"))
    rows, labels = batch()
    lg.check_loss(swapped)  # compares its gradient with the stated one
    assert not ignores_labels(swapped, rows, labels)
    leaf = rows.clone().requires_grad_()
    optimizer = torch.optim.Adam([leaf], lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        swapped(F.normalize(leaf), labels).backward()
        optimizer.step()
    assert lg.retrieval(F.normalize(leaf.detach()), labels).recall_at[1] == 1
    for some, names in (
        (rows[:1], labels[:1]),
        (rows[:4], labels[:4]),
        (rows[:3], labels[:1].repeat(3)),
        (rows[:1].repeat(12, 1), labels),
    ):
        assert gradient(swapped, some, names).isfinite().all()


@pytest.mark.parametrize(
    ("weight", "direction", "words"),
    [
        (
            "triplet",
            "info_nce",
            "Triplet weights squared distances and InfoNCE weights dot products",
        ),
        (
            "n_pair",
            "info_nce",
            "weight_of of Swap must be one of contrastive, triplet, .* got NPair",
        ),
        (
            "info_nce",
            "n_pair",
            "direction_of of Swap must be one of contrastive, triplet, .* got NPair",
        ),
        (0.0, "info_nce", "a loss or a positive number, got 0.0"),
    ],
)
def test_losses_that_cannot_be_swapped_are_refused(weight, direction, words):
    first = weight if isinstance(weight, float) else lg.load_loss(weight)
    with pytest.raises(InputError, match=words):
        lg.swap(weight_of=first, direction_of=lg.load_loss(direction))

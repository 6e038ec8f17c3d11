"""Matryoshka: the sum over widths by hand, and by sentence-transformers."""

import pytest
import torch
import torch.nn.functional as F

from lossgauge.errors import InputError
from lossgauge.losses.matryoshka import Matryoshka, widths_of
from lossgauge.losses.pairs import pair_masks
from lossgauge.losses.registry import load_loss
from tests.losses.cases import BATCHES, make_batch


def test_widths_are_halves_down_to_the_smallest():
    assert widths_of(128, smallest=16) == [128, 64, 32, 16]
    assert widths_of(384, smallest=16) == [384, 192, 96, 48, 24]
    assert widths_of(9, smallest=16) == [9]


def parts(loss, rows):
    """The prefixes that the loss sums over, normalised."""
    return [
        F.normalize(rows[:, :width]) for width in widths_of(rows.shape[1], smallest=loss.smallest)
    ]


@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("name", ["info_nce", "triplet", "siglip", "relaxed"])
def test_value_and_gradient_are_the_sums_over_the_widths_in_both_forms(name, unit):
    rows, labels = make_batch(BATCHES["unbalanced"], width=12, unit=unit)
    inside = load_loss(name).double()
    loss = Matryoshka(of=inside, smallest=3)
    sides = [rows[:7].clone().requires_grad_(), rows[5:].clone().requires_grad_()]
    masks = [mask[:7, 5:] for mask in pair_masks(labels)]
    leaf = rows.clone().requires_grad_()
    for inputs, found, wanted in (
        (
            [leaf],
            loss.evaluate(leaf, labels),
            [inside.evaluate(part, labels) for part in parts(loss, leaf)],
        ),
        (
            sides,
            loss.evaluate_pairs(*sides, *masks),
            [
                inside.evaluate_pairs(*both, *masks)
                for both in zip(*(parts(loss, side) for side in sides), strict=True)
            ],
        ),
    ):
        assert len(wanted) == 3  # 12, 6 and 3
        total = torch.stack([evaluation.value for evaluation in wanted]).sum()
        torch.testing.assert_close(found.value, total)
        inputs = [*inputs, *inside.parameters()]
        ours = torch.autograd.grad(found.value, inputs, retain_graph=True)
        torch.testing.assert_close(ours, torch.autograd.grad(total, inputs), rtol=1e-8, atol=1e-11)
        whole = wanted[0]
        for field in ("term_count", "active_count", "skipped_anchors", "pull", "push", "columns"):
            assert getattr(found, field) == getattr(whole, field), field
        torch.testing.assert_close(found.anchor_weight, whole.anchor_weight, equal_nan=True)


def test_gist_inside_needs_its_guide_and_has_no_form_for_labels():
    rows, labels = make_batch(BATCHES["balanced"], width=8)
    loss = load_loss("matryoshka", of="gist", smallest=4)
    positive, negative = pair_masks(labels)
    with pytest.raises(InputError, match="needs guide="):
        loss.evaluate_pairs(rows, rows, positive, negative)
    with pytest.raises(InputError, match="has no form for labels"):
        loss(rows, labels)
    evaluation = loss.evaluate_pairs(rows, rows, positive, negative, guide=rows @ rows.T)
    assert 0 < evaluation.columns["masked_negative_ratio"] < 1


@pytest.mark.parametrize("of", ["arcface", "n_pair", "matryoshka", "mnlr", 3])
def test_a_loss_without_a_form_for_pairs_is_refused_with_those_that_have_one(of):
    with pytest.raises(InputError, match=r"of of .* must be one of contrastive, triplet, info_nce"):
        load_loss("matryoshka", of=of)


def test_other_names_of_the_loss_inside_work():
    assert load_loss("matryoshka", of="MultipleNegativesRankingLoss").of == "mnrl"
    assert Matryoshka(of=load_loss("scl")).of == "SCL"
    assert list(Matryoshka(of="siglip").state_dict()) == ["loss.log_scale", "loss.offset"]


def test_it_is_that_of_sentence_transformers(record_property):
    from sentence_transformers.sentence_transformer.losses import (
        MatryoshkaLoss,
        MultipleNegativesRankingLoss,
    )

    class Given(torch.nn.Module):
        def forward(self, features):
            return dict(features)

        def get_embedding_dimension(self):
            return 64

    generator = torch.Generator().manual_seed(0)
    columns = torch.randn(3, 7, 64, dtype=torch.float64, generator=generator)
    model = Given()
    peer = MatryoshkaLoss(model, MultipleNegativesRankingLoss(model), [64, 32, 16])

    def theirs(leaves):
        return peer([{"sentence_embedding": rows} for rows in leaves], None)

    def ours(leaves):
        positive = torch.eye(7, 14, dtype=torch.bool)
        return (
            Matryoshka()
            .evaluate_pairs(leaves[0], torch.cat((leaves[1], leaves[2])), positive)
            .value
        )

    results = []
    for function in (ours, theirs):
        leaves = [rows.clone().requires_grad_() for rows in columns]
        value = function(leaves)
        results.append([value.detach(), *torch.autograd.grad(value, leaves)])
    differences = [float((a - b).abs().max()) for a, b in zip(*results, strict=True)]
    record_property("differences", differences)
    print("largest difference of value and gradient:", differences[0], max(differences[1:]))
    assert max(differences) < 1e-12

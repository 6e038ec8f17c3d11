import pytest
import torch

import lossgauge as lg
from lossgauge.errors import InputError
from tests.losses.test_swap import batch, gradient


@pytest.mark.parametrize("name", ["info_nce", "scl", "triplet", "contrastive", "nscl", "siglip"])
def test_g_gives_the_gradient_of_the_loss_at_the_rows(name):
    rows, labels = batch()
    loss = lg.load_loss(name).double()
    of = lg.pair_gradient(loss, rows, labels)
    both = of.gradient + of.gradient.T
    at_rows = both @ rows
    if of.is_distance:
        at_rows = 2 * (both.sum(dim=1, keepdim=True) * rows - at_rows)
    expected = gradient(loss, rows, labels) * of.terms.sum()
    torch.testing.assert_close(at_rows, expected, rtol=1e-9, atol=1e-11)


def test_per_pair_each_row_is_a_term_and_they_add_up():
    rows, labels = batch(per_class=4)
    loss = lg.load_loss("info_nce")
    whole, pairs = (lg.pair_gradient(loss, rows, labels, per_pair=p) for p in (False, True))
    assert len(pairs.gradient) == 4 * 4 * 3
    assert pairs.terms.tolist() == [1] * len(pairs.gradient)
    total = torch.zeros_like(whole.gradient).index_add_(0, pairs.anchor, pairs.gradient)
    torch.testing.assert_close(total, whole.gradient)
    # W = σ(v)/τ: all that the negatives get, and all that the positive loses
    weight = loss.evaluate(rows, labels).anchor_weight
    torch.testing.assert_close(whole.weight * loss.temperature, weight)


@pytest.mark.parametrize(
    ("name", "per_pair", "words"),
    [
        ("n_pair", False, "needs a loss that weights pairs of samples, .* got NPair"),
        ("scl", True, "SCL is not the sum over its positive pairs"),
        ("contrastive", True, "Contrastive is not the sum"),
    ],
)
def test_other_losses_are_refused(name, per_pair, words):
    with pytest.raises(InputError, match=words):
        lg.pair_gradient(lg.load_loss(name), *batch(), per_pair=per_pair)

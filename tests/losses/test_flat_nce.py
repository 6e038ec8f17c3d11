import pytest
import torch

from lossgauge.losses.flat_nce import FlatNCE
from lossgauge.losses.nscl import NSCL
from lossgauge.testing import check_loss


@pytest.mark.parametrize("temperature", [0.0002, 0.1, 2.0])
def test_the_gradient_is_that_of_nscl_and_the_value_is_one(batch, temperature):
    embeddings, labels = batch
    found = []
    for made in (FlatNCE, NSCL):
        rows = embeddings.clone().requires_grad_()
        evaluation = made(temperature=temperature).evaluate(rows, labels)
        found.append((evaluation, torch.autograd.grad(evaluation.value, rows)[0]))
    (flat, gradient), (nscl, wanted) = found
    assert flat.value.item() == 1
    assert (flat.anchor_value[~flat.anchor_value.isnan()] == 1).all()
    torch.testing.assert_close(gradient, wanted, rtol=1e-12, atol=0)
    assert gradient.norm() > 0
    for field in ("term_count", "active_count", "skipped_anchors", "effective_share", "pull"):
        assert getattr(flat, field) == getattr(nscl, field)


def test_the_gradient_is_the_one_that_a_stopped_gradient_gives(batch):
    embeddings, labels = batch
    rows = embeddings.clone().requires_grad_()
    terms = []
    for i in range(len(rows)):
        negatives = [rows[i] @ rows[n] / 0.2 for n in range(len(rows)) if labels[n] != labels[i]]
        for p in range(len(rows)):
            if p != i and labels[p] == labels[i]:
                v = torch.stack(negatives).logsumexp(0) - rows[i] @ rows[p] / 0.2
                terms.append((v - v.detach()).exp())
    (wanted,) = torch.autograd.grad(torch.stack(terms).mean(), rows)
    loss = FlatNCE(temperature=0.2)
    leaf = embeddings.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf, labels), leaf)
    torch.testing.assert_close(gradient, wanted)
    torch.testing.assert_close(loss.stated_gradient(embeddings, labels), wanted)


def test_without_a_term_the_value_is_zero():
    rows = torch.eye(3, requires_grad=True)
    for labels in ([0, 0, 0], [0, 1, 2]):
        found = FlatNCE().evaluate(rows, torch.tensor(labels))
        found.value.backward()
        assert (found.value.item(), found.term_count) == (0, 0)
        assert not rows.grad.any()


def test_it_keeps_the_contract_of_a_surrogate():
    check_loss(FlatNCE())

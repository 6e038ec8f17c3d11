import pytest
import torch
from pytorch_metric_learning.losses import ProxyAnchorLoss

from lossgauge.losses.proxy_anchor import ProxyAnchor
from tests.losses.cases import BATCHES, assert_agrees, make_batch


def parts(rows, labels, proxies, margin, alpha):
    """The positive and the negative part of each proxy, each as Σ; None where there is no sample."""
    cosine = lambda a, b: torch.nn.functional.cosine_similarity(a, b, dim=0)  # noqa: E731
    for c, proxy in enumerate(proxies):
        own = [cosine(row, proxy) for row, label in zip(rows, labels, strict=True) if label == c]
        rest = [cosine(row, proxy) for row, label in zip(rows, labels, strict=True) if label != c]
        yield (
            sum((-alpha * (s - margin)).exp() for s in own) if own else None,
            sum((alpha * (s + margin)).exp() for s in rest) if rest else None,
        )


def slow(rows, labels, proxies, margin, alpha):
    """One term for each proxy; the mean over proxies with positives is written as a mean over all."""
    found = list(parts(rows, labels, proxies, margin, alpha))
    factor = len(found) / sum(pull is not None for pull, _ in found)
    zero = rows.sum() * 0
    return [
        zero
        + (factor * (1 + pull).log() if pull is not None else 0)
        + ((1 + push).log() if push is not None else 0)
        for pull, push in found
    ]


def make_loss(**settings):
    torch.manual_seed(1)
    return ProxyAnchor(class_count=5, embedding_size=6, **settings).double()


@pytest.mark.parametrize(("margin", "alpha"), [(0.1, 32.0), (0.0, 4.0)])
def test_value_and_gradient_are_those_of_the_loop(batch, margin, alpha):
    loss = make_loss(margin=margin, alpha=alpha)
    assert_agrees(loss, lambda r, y: slow(r, y, loss.proxies, margin, alpha), batch)


def test_one_class_or_one_row_is_the_loop_too():
    loss = make_loss()
    for labels in ([2, 2, 2], [4]):
        assert_agrees(loss, lambda r, y: slow(r, y, loss.proxies, 0.1, 32.0), make_batch(labels))


def test_value_and_gradient_are_those_of_pytorch_metric_learning(batch):
    embeddings, labels = batch
    loss = make_loss()
    peer = ProxyAnchorLoss(5, 6).double()
    peer.proxies.data = loss.proxies.detach().clone()
    results = []
    for function in (loss, peer):
        rows = embeddings.clone().requires_grad_()
        value = function(rows, labels)
        results.append((value.detach(), *torch.autograd.grad(value, [rows, function.proxies])))
    for found, wanted in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


def test_the_terms_of_proxies_are_divided_among_samples_by_their_share_of_the_gradient():
    embeddings, labels = make_batch(BATCHES["unbalanced"])
    loss = make_loss(alpha=4.0)
    found = loss.evaluate(embeddings, labels)
    cosine = (embeddings @ torch.nn.functional.normalize(loss.proxies.detach()).T).requires_grad_()
    weights, shares = [], []
    # the rows are unit vectors, so a proxy's term depends on its column of cosines
    for c, (pull, push) in enumerate(parts(embeddings, labels, loss.proxies.detach(), 0.1, 4.0)):
        sides = [float(s / (1 + s)) for s in (pull, push) if s is not None]
        weights.append(sum(sides) / len(sides))
        own = labels == c
        factor = 5 / 4
        at = torch.where(own, (-4 * (cosine[:, c] - 0.1)).exp(), (4 * (cosine[:, c] + 0.1)).exp())
        term = (1 + at[~own].sum()).log() + factor * (1 + at[own].sum()).log()
        (force,) = torch.autograd.grad(term, cosine)
        shares.append(force[:, c].abs() / force.abs().sum())
    weights, shares = torch.tensor(weights, dtype=torch.float64), torch.stack(shares)
    wanted = weights @ shares / shares.sum(dim=0)
    torch.testing.assert_close(found.anchor_weight, wanted)
    assert (found.term_count, found.skipped_anchors) == (5, 0)


def test_large_scales_and_satisfied_proxies_stay_finite_and_have_all_terms():
    loss = ProxyAnchor(class_count=2, embedding_size=2, alpha=1e4)
    loss.proxies.data = torch.eye(2)
    for rows in (torch.eye(2), -torch.eye(2)):
        rows.requires_grad_()
        found = loss.evaluate(rows, torch.tensor([0, 1]))
        found.value.backward()
        assert found.value.isfinite()
        assert rows.grad.isfinite().all()
        assert found.term_count == 2
        assert found.anchor_weight.isfinite().all()

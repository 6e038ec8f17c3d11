import math

import pytest
import torch
from pytorch_metric_learning.losses import ArcFaceLoss

from lossgauge.errors import InputError
from lossgauge.losses.arcface import ArcFace
from tests.losses.cases import assert_agrees, make_batch


def slow(rows, labels, proxies, margin, scale):
    terms = []
    for row, label in zip(rows, labels, strict=True):
        logits = []
        for c, proxy in enumerate(proxies):
            cosine = torch.nn.functional.cosine_similarity(row, proxy, dim=0)
            if c == label:
                angle = cosine.acos()
                if angle > math.pi - margin:
                    cosine = cosine - margin * math.sin(margin)
                else:
                    cosine = (angle + margin).cos()
            logits.append(scale * cosine)
        logits = torch.stack(logits)
        terms.append(logits.logsumexp(0) - logits[label])
    return terms


def make_loss(**settings):
    torch.manual_seed(1)
    return ArcFace(class_count=5, embedding_size=6, **settings).double()


@pytest.mark.parametrize(("margin", "scale"), [(0.0, 8.0), (0.5, 16.0), (1.5, 64.0)])
def test_value_and_gradient_are_those_of_the_loop(batch, margin, scale):
    loss = make_loss(margin=margin, scale=scale)
    assert_agrees(loss, lambda r, y: slow(r, y, loss.proxies, margin, scale), batch)


def test_value_and_gradient_are_those_of_pytorch_metric_learning(batch):
    embeddings, labels = batch
    loss = make_loss(margin=0.5, scale=16.0)
    peer = ArcFaceLoss(5, 6, margin=math.degrees(0.5), scale=16).double()
    peer.W.data = loss.proxies.detach().T.clone()
    # The peer has no rule past θ > π − m: keep to rows that stay inside.
    unit = torch.nn.functional.normalize(loss.proxies.detach())
    inside = (torch.nn.functional.normalize(embeddings) * unit[labels]).sum(
        1
    ).acos() < math.pi - 0.5
    results = []
    for function, parameter in ((loss, loss.proxies), (peer, peer.W)):
        rows = embeddings[inside].clone().requires_grad_()
        value = function(rows, labels[inside])
        gradients = torch.autograd.grad(value, [rows, parameter])
        results.append(
            (
                value.detach(),
                gradients[0],
                gradients[1] if parameter is loss.proxies else gradients[1].T,
            )
        )
    for found, wanted in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_cosine_of_one_or_minus_one_gives_no_nan(sign):
    loss = ArcFace(class_count=2, embedding_size=2)
    loss.proxies.data = torch.eye(2)
    rows = (sign * torch.eye(2)).requires_grad_()
    value = loss(rows, torch.tensor([0, 1]))
    value.backward()
    assert value.isfinite()
    assert rows.grad.isfinite().all()


def test_the_gradient_lives_at_negative_cosines():
    loss = ArcFace(class_count=2, embedding_size=2)
    loss.proxies.data = torch.eye(2)
    rows = torch.tensor([[-0.6, 0.8]], requires_grad=True)
    loss(rows, torch.tensor([0])).backward()
    assert rows.grad.norm() > 1


def test_a_label_without_a_row_is_refused_by_name():
    embeddings, _ = make_batch([0, 1])
    with pytest.raises(InputError, match=r"0 … 4 .*got 7 in row 1"):
        make_loss()(embeddings, torch.tensor([0, 7]))
    with pytest.raises(InputError, match="embedding_size=6, got embeddings of width 3"):
        make_loss()(embeddings[:, :3], torch.tensor([0, 1]))

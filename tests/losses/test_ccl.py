import pytest
import torch
from pytorch_metric_learning.losses import CosFaceLoss

from lossgauge.losses.arcface import ArcFace
from lossgauge.losses.ccl import CCL
from tests.losses.cases import assert_agrees, make_batch


def slow(rows, labels, proxies, margin, scale, center_weight):
    terms = []
    for row, label in zip(rows, labels, strict=True):
        centers = [proxy / proxy.norm() for proxy in proxies]
        own = (scale * (centers[label] @ row - margin)).exp()
        rest = sum((scale * center @ row).exp() for c, center in enumerate(centers) if c != label)
        to_center = (row - centers[label]).square().sum()
        terms.append(-(own / (own + rest)).log() + center_weight * to_center)
    return terms


def make_loss(**settings):
    torch.manual_seed(1)
    return CCL(class_count=5, embedding_size=6, **settings).double()


@pytest.mark.parametrize(
    ("margin", "scale", "center_weight"), [(0.2, 16.0, 1.0), (0.0, 4.0, 0.0), (0.5, 8.0, 2.5)]
)
def test_value_and_gradient_are_those_of_the_loop(batch, margin, scale, center_weight):
    loss = make_loss(margin=margin, scale=scale, center_weight=center_weight)
    assert_agrees(loss, lambda r, y: slow(r, y, loss.proxies, margin, scale, center_weight), batch)


def test_without_the_center_term_it_is_cosface():
    embeddings, labels = make_batch([0, 1, 2, 3, 4] * 4)
    loss = make_loss(margin=0.2, scale=16.0, center_weight=0.0)
    peer = CosFaceLoss(5, 6, margin=0.2, scale=16).double()
    peer.W.data = loss.proxies.detach().T.clone()
    torch.testing.assert_close(loss(embeddings, labels), peer(embeddings, labels))


def test_without_center_term_and_margin_it_is_arcface_without_margin():
    embeddings, labels = make_batch([0, 1, 2, 3, 4] * 4)
    loss = make_loss(margin=0.0, scale=16.0, center_weight=0.0)
    other = ArcFace(class_count=5, embedding_size=6, margin=0.0, scale=16.0).double()
    other.load_state_dict(loss.state_dict())
    torch.testing.assert_close(loss(embeddings, labels), other(embeddings, labels))

"""On a GPU the plain torch form serves: the same call, the same numbers."""

import pytest
import torch

from lossgauge.losses.registry import ALL_LOSSES, loss_class, loss_maker
from tests.losses.cases import make_batch

needs_a_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(),
    reason="no GPU here: run on a machine with CUDA and its build of torch",
)


@needs_a_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", [n for n in ALL_LOSSES if loss_class(n).square_form])
def test_a_loss_on_a_gpu_gives_what_it_gives_on_a_cpu(name, dtype):
    torch.manual_seed(0)
    loss = loss_maker(name, {}, class_count=9, embedding_size=32)()
    embeddings, labels = make_batch([i % 9 for i in range(300)], width=32)
    results = []
    for device in ("cpu", "cuda"):
        leaf = embeddings.to(device, dtype, copy=True).requires_grad_()
        evaluation = loss.to(device).evaluate(leaf, labels.to(device))
        evaluation.value.backward()
        results.append((evaluation, leaf.grad.cpu().double()))
    (on_cpu, gradient), (on_gpu, other_gradient) = results
    rtol = {torch.float32: 1e-5, torch.float64: 1e-10, torch.bfloat16: 1e-2}[dtype]
    torch.testing.assert_close(on_gpu.value.cpu(), on_cpu.value, rtol=rtol, atol=0)
    scale = float(gradient.abs().max())
    torch.testing.assert_close(other_gradient, gradient, rtol=rtol, atol=rtol * scale)
    assert on_gpu.term_count == on_cpu.term_count
    assert abs(on_gpu.active_count - on_cpu.active_count) <= 1e-4 * on_cpu.term_count


@needs_a_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", [n for n in ALL_LOSSES if loss_class(n).pair_form])
def test_a_loss_over_pairs_on_a_gpu_gives_what_it_gives_on_a_cpu(name, dtype):
    loss = loss_maker(name, {}, class_count=9, embedding_size=32)()
    rows, labels = make_batch([i % 9 for i in range(300)], width=32)
    positive = labels[:100, None] == labels[100:]
    guide = {"guide": rows[:100] @ rows[100:].T} if loss_class(name).needs_guide else {}
    results = []
    for device in ("cpu", "cuda"):
        queries, documents = (
            part.to(device, dtype, copy=True).requires_grad_() for part in rows.split([100, 200])
        )
        there = {key: value.to(device, dtype) for key, value in guide.items()}
        evaluation = loss.to(device).evaluate_pairs(
            queries, documents, positive.to(device), **there
        )
        evaluation.value.backward()
        gradient = torch.cat([queries.grad, documents.grad]).cpu().double()
        results.append((float(evaluation.value.detach()), evaluation.term_count, gradient))
    (on_cpu, terms, gradient), (on_gpu, other_terms, other_gradient) = results
    rtol = {torch.float32: 1e-5, torch.float64: 1e-10}[dtype]
    assert on_gpu == pytest.approx(on_cpu, rel=rtol)
    assert terms == other_terms
    # in float32, a term of triplet near its margin may be active on one device alone
    near = rtol if dtype == torch.float64 else 1e-3
    assert float((other_gradient - gradient).norm()) <= near * float(gradient.norm())

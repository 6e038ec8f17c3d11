import torch
import torch.nn.functional as F

from lossgauge.heads import LinearHead, MLPHead
from lossgauge.sphere import normalized


def test_heads_are_their_layers_and_then_the_sphere():
    x = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    linear, mlp = LinearHead(4, 3), MLPHead(4, 3, hidden_size=5)
    torch.testing.assert_close(linear(x), F.normalize(F.linear(x, *linear.linear.parameters())))
    inside = F.linear(x, *mlp.hidden.parameters()).clamp(min=0)
    torch.testing.assert_close(mlp(x), F.normalize(F.linear(inside, *mlp.linear.parameters())))


def test_normalizing_is_torchs_in_value_and_gradient_and_leaves_the_gradient_it_got():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    rows[2] = 0
    given = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    kept = given.clone()
    found, expected = (rows.clone().requires_grad_() for _ in range(2))
    normalized(found).backward(given)
    F.normalize(expected).backward(kept.clone())
    assert torch.equal(given, kept)
    torch.testing.assert_close(normalized(rows), F.normalize(rows))
    usual = torch.arange(6) != 2
    torch.testing.assert_close(found.grad[usual], expected.grad[usual])
    assert torch.autograd.gradcheck(normalized, rows[usual].requires_grad_())

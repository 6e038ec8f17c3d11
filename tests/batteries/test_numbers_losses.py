"""The losses on a grid of types, sizes, layouts and kinds of tensors: right, or refused in words.

A cell is right where value and gradients are those of a slow loop in float64 over the very numbers that the embeddings
hold, and rightly refused where the type cannot hold the loop's value or gradient. All else is a fault.

    python -m pytest tests/batteries/test_numbers_losses.py -m slow -s
"""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor

from lossgauge.errors import InputError
from lossgauge.losses import LOSSES
from tests.losses.test_extremes import in_form, make_loss

pytestmark = pytest.mark.slow

LABELS = torch.tensor([0, 1, 2, 3, 0, 1, 2, 0, 1, 4, 3, 0])
WIDTH = 8
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
SCALES = [
    10.0**power for power in (-30, -25, -20, -15, -10, -6, -3, 0, 2, 4, 8, 12, 16, 20, 25, 30)
]
DOUBLE_SCALES = [1e-300, 1e-200, 1e-155, 1e-140, 1e140, 1e155, 1e200, 1e300]


def loop(name: str, rows: Tensor, proxies: Tensor | None) -> Tensor:
    """The loss at its default settings, term by term."""
    terms = []
    labels = LABELS.tolist()
    if name in ("arcface", "ccl"):
        directions = [proxy / proxy.norm() for proxy in proxies]
        for row, label in zip(rows, labels, strict=True):
            at = row / row.abs().max() if name == "arcface" else row
            at = at / at.norm() if name == "arcface" else at
            cosines = [direction @ at for direction in directions]
            if name == "arcface":
                scale, own = 64, cosines[label]
                if own.item() < -math.cos(0.5):
                    target, extra = own - 0.5 * math.sin(0.5), 0
                else:
                    target, extra = (own.acos() + 0.5).cos(), 0
            else:
                scale, target = 32, cosines[label] - 0.2
                extra = (row - directions[label]).square().sum()
            logits = torch.stack([target if c == label else x for c, x in enumerate(cosines)])
            terms.append((logits * scale).logsumexp(0) - scale * target + extra)
        return torch.stack(terms).mean()
    if name == "n_pair":
        pairs = [[i for i, y in enumerate(labels) if y == c][:2] for c in sorted(set(labels))]
        pairs = [pair for pair in pairs if len(pair) == 2]
        for a, p in pairs:
            logits = torch.stack([rows[a] @ rows[q] for _, q in pairs])
            terms.append(torch.logsumexp(logits - rows[a] @ rows[p], 0))
        return torch.stack(terms).mean()
    for i, label in enumerate(labels):
        positives = [p for p, y in enumerate(labels) if y == label and p != i]
        negatives = [n for n, y in enumerate(labels) if y != label]
        if name in ("contrastive", "triplet"):
            near = [(rows[i] - rows[p]).square().sum() for p in positives]
            far = [(rows[i] - rows[n]).square().sum() for n in negatives]
            if name == "contrastive":
                terms += near
                terms += [(1 - d.sqrt()).clamp(min=0).square() for d in far]
            else:
                terms += [(p - n + 0.2).clamp(min=0) for p in near for n in far]
            continue
        near = [rows[i] @ rows[p] / 0.1 for p in positives]
        far = [rows[i] @ rows[n] / 0.1 for n in negatives]
        if name == "info_nce":
            terms += [torch.logsumexp(torch.stack([*far, p]) - p, 0) for p in near]
        elif near:
            whole = torch.stack([*near, *far])
            terms.append(torch.stack([torch.logsumexp(whole - p, 0) for p in near]).mean())
    return torch.stack(terms).mean()


def layouts(rows: Tensor) -> dict[str, tuple[Tensor | np.ndarray, Tensor | None]]:
    """The same numbers in other places: what is handed in, and the leaf that gets the gradient."""
    leaf = lambda base: base.clone().requires_grad_()  # noqa: E731
    whole, wide, deep = leaf(rows), torch.zeros(24, 2 * WIDTH, dtype=rows.dtype), leaf(rows.T)
    wide[::2, ::2] = rows
    wide = leaf(wide)
    channels = leaf(rows.reshape(1, *rows.shape).permute(0, 2, 1)[..., None])
    found = {
        "contiguous": (whole, whole),
        "transposed": (deep.T, deep),
        "strided": (wide[::2, ::2], wide),
        "channels": (channels[0, :, :, 0].T, channels),
        "not a leaf": (leaf(rows) * 1, None),
        "a parameter": (parameter := torch.nn.Parameter(rows.clone()), parameter),
        "without a gradient": (rows, None),
    }
    if rows.dtype != torch.bfloat16:
        backwards = rows.flip(0, 1).numpy().copy()[::-1, ::-1]
        found["backwards numpy"] = (backwards, None)
        found["big endian numpy"] = (
            rows.numpy().astype(rows.numpy().dtype.newbyteorder(">")),
            None,
        )
    return found


def close(found: Tensor, wanted: Tensor, share: float) -> bool:
    """Within `share` of the largest number, in the type of `found`, whose smallest step counts as well."""
    wanted = wanted.to(found.dtype)
    if wanted.isinf().any():  # half precision has no number for it
        return found.dtype.itemsize == 2
    bar = share * float(wanted.abs().max()) + 4 * torch.finfo(found.dtype).smallest_normal * 2**-10
    return bool(((found.double() - wanted.double()).abs() <= bar).all())


def test_each_loss_is_right_in_every_type_size_and_layout_or_refused(capsys):
    counts: Counter[str] = Counter()
    faults = []
    generator = torch.Generator().manual_seed(3)
    unit = torch.nn.functional.normalize(
        torch.randn(len(LABELS), WIDTH, dtype=torch.float64, generator=generator)
    )
    for name in LOSSES:
        for dtype in DTYPES:
            share = {torch.float16: 2e-3, torch.bfloat16: 2e-2}.get(dtype, 1e-4)
            for scale in SCALES + (DOUBLE_SCALES if dtype == torch.float64 else []):
                rows = (unit * scale).to(dtype)
                if not rows.isfinite().all() or not rows.any(dim=1).all():
                    counts["not in the type"] += 1
                    continue
                loss = make_loss(name, classes=5, width=WIDTH)
                loss.to(torch.promote_types(dtype, torch.float32))
                number = torch.promote_types(dtype, torch.float32)
                at = rows.double().clone().requires_grad_()
                proxies = loss.proxies.detach().double() if hasattr(loss, "proxies") else None
                wanted = loop(name, at, proxies)
                (gradient,) = torch.autograd.grad(wanted, at)
                holds = (
                    bool(wanted.isfinite())
                    and bool(gradient.isfinite().all())
                    and max(abs(wanted.item()), float(gradient.abs().max()))
                    < torch.finfo(number).max
                )
                for form in ("as it comes", "torch"):
                    for layout, (given, leaf) in layouts(rows).items():
                        cell = (name, str(dtype), scale, form, layout)
                        try:
                            with in_form(loss, form):
                                value = loss(given, LABELS)
                            if leaf is not None:
                                value.backward()
                        except InputError as error:
                            limit = "must lie in 1e-135 … 1e+145" in str(error)
                            if limit and not 1e-135 <= float(rows.abs().max()) <= 1e145:
                                counts["outside the stated range"] += 1
                            elif holds:
                                faults.append((*cell, f"refused: {error}"))
                            else:
                                counts["rightly refused"] += 1
                            continue
                        except Exception as error:
                            faults.append((*cell, f"{type(error).__name__}: {error}"))
                            continue
                        problem = None
                        if not close(value.detach(), wanted.detach(), 1e-5):
                            problem = f"value {value.item():.6g}, not {wanted.item():.6g}"
                        elif leaf is not None:
                            found = leaf.grad[0, :, :, 0].T if layout == "channels" else leaf.grad
                            found = found.T if layout == "transposed" else found
                            found = found[::2, ::2] if layout == "strided" else found
                            if not close(found, gradient, share):
                                problem = f"gradient {found.norm():.6g}, not {gradient.norm():.6g}"
                        if problem:
                            faults.append((*cell, problem))
                        counts["right" if not problem else "wrong"] += 1
    with capsys.disabled():
        print(f"\nlosses × types × sizes × layouts: {dict(counts)}, faults {len(faults)}")
        print(*faults[:40], sep="\n")
    assert not faults
    assert counts["right"] > 5000

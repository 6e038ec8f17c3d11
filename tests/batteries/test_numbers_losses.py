"""The losses on a grid of types, sizes, layouts and kinds of tensors: right, or refused in words.

A cell is right where value and gradients are those of a slow loop in float64 over the very numbers that the embeddings
hold, and rightly refused where the type cannot hold the loop's value or gradient. All else is a fault.

    python -m pytest tests/batteries/test_numbers_losses.py -m slow -s
"""

import math
import warnings
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

import lossgauge as lg
from lossgauge.errors import InputError
from lossgauge.losses.registry import LOSSES
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
                            limit = "must be in 1e-135 … 1e+145" in str(error)
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


def kinds() -> tuple[dict[str, object], dict[str, object]]:
    """Embeddings and labels of every kind that somebody may hand in."""
    rows = torch.nn.functional.normalize(torch.randn(12, WIDTH))
    array, names = rows.numpy(), LABELS.numpy()
    embeddings: dict[str, object] = {
        "meta": rows.to("meta"),
        "coo": rows.to_sparse(),
        "csr": rows.to_sparse_csr(),
        "csc": rows.to_sparse_csc(),
        "bsr": rows.to_sparse_bsr((2, 2)),
        "mkldnn": rows.to_mkldnn(),
        "quantized": torch.quantize_per_tensor(rows, 0.1, 0, torch.quint8),
        "nested": torch.nested.nested_tensor([rows[:4], rows[4:]]),
        "jagged": torch.nested.nested_tensor([rows[:4], rows[4:]], layout=torch.jagged),
        "list": rows.tolist(),
        "list of tensors": list(rows),
        "list of leaves": list(rows.clone().requires_grad_()),
        "list of arrays": list(array),
        "ragged list": [[1.0], [1.0, 2.0]],
        "empty list": [],
        "frame": pd.DataFrame(array),
        "sorted frame": pd.DataFrame(array).sort_values(0),
        "frame with text": pd.DataFrame({"a": ["x"] * 12, "b": range(12)}),
        "nullable frame": pd.DataFrame(array).convert_dtypes(),
        "series of lists": pd.Series(rows.tolist()),
        "unmasked": np.ma.array(array),
        "masked": np.ma.array(array, mask=array > 0.5),
        "structured": np.zeros(12, dtype=[("a", "f4"), ("b", "f4")]),
        "record": np.rec.array(np.zeros(12, dtype=[("a", "f4")])),
        "matrix": np.matrix(array),
        "big endian": array.astype(">f4"),
        "expanded": np.broadcast_to(array[:1], array.shape),
        "backwards": array[::-1, ::-1],
        "fortran": np.asfortranarray(array),
        "unaligned": np.frombuffer(b"-" + array.tobytes(), "f4", offset=1).reshape(array.shape),
        "0-d": torch.tensor(1.0),
        "0-d array": np.array(1.0),
        "1-d": rows[0],
        "3-d": rows[None],
        "nothing": rows[:0],
        "no width": rows[:, :0],
        "parameter": torch.nn.Parameter(rows),
        "imaginary part": torch.view_as_complex(torch.stack([rows, rows], -1)).conj().imag,
    }
    for kind in (object, np.longdouble, complex, bool, int, str, "S8", "M8[s]", "m8[s]", "V4"):
        embeddings[f"numpy {np.dtype(kind).name}"] = np.zeros(array.shape, kind)
    for kind in {k for k in vars(torch).values() if isinstance(k, torch.dtype)}:
        embeddings[str(kind)] = torch.empty(rows.shape, dtype=kind).fill_(1) if kind in DTYPES else torch.empty(rows.shape, dtype=kind)  # fmt: skip
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        embeddings["fake"] = mode.from_tensor(rows)
    with torch.inference_mode():
        embeddings["inference"] = rows.clone()
    series = pd.Series(names)
    labels: dict[str, object] = {
        "list": names.tolist(),
        "range": range(12),
        "beyond int64": [2**63] * 12,
        "beyond uint64": [2**70] * 12,
        "lowest": [-(2**63)] * 12,
        "big uint64": torch.tensor([2**63 + 5, 2**64 - 1] * 6, dtype=torch.uint64),
        "big uint64 array": np.array([2**63 + 5, 1] * 6, dtype="u8"),
        "filtered series": pd.Series(np.arange(24) % 3)[::2],
        "sorted series": series.sort_values(),
        "nullable": series.astype("Int64"),
        "with NA": pd.Series([1, None] * 6, dtype="Int64"),
        "categories": series.astype(str).astype("category"),
        "integer categories": series.astype("category"),
        "index": pd.Index(names),
        "frame": pd.DataFrame({"a": names}),
        "unmasked": np.ma.array(names),
        "masked": np.ma.array(names, mask=names > 1),
        "leaf": LABELS.float().requires_grad_(),
        "meta": LABELS.to("meta"),
        "sparse": LABELS.to_sparse(),
        "jagged": torch.nested.nested_tensor([LABELS[:4], LABELS[4:]], layout=torch.jagged),
        "quantized": torch.quantize_per_tensor(LABELS.float(), 0.1, 0, torch.qint32),
        "0-d": torch.tensor(1),
        "2-d": LABELS[None],
        "text": list("abcabcabcabc"),
        "matrix": np.matrix(names),
        "backwards": names[::-1],
        "structured": np.zeros(12, dtype=[("a", "i4")]),
    }
    for kind in (object, bool, float, complex, str, "M8[s]", ">i8", "u1", "i2"):
        labels[f"numpy {np.dtype(kind).str}"] = names.astype(kind)
    for kind in {k for k in vars(torch).values() if isinstance(k, torch.dtype)}:
        labels[str(kind)] = torch.zeros(12, dtype=torch.int64).to(kind) if kind in DTYPES else torch.empty(12, dtype=kind)  # fmt: skip
    return embeddings, labels


def transforms(call, rows):
    def dual():
        with forward_ad.dual_level():
            return call(forward_ad.make_dual(rows.clone(), rows.clone()), LABELS)

    of_rows = lambda z: torch.as_tensor(call(z, LABELS))  # noqa: E731
    return {
        "grad": lambda: torch.func.grad(of_rows)(rows),
        "vjp": lambda: torch.func.vjp(of_rows, rows),
        "jvp": lambda: torch.func.jvp(of_rows, (rows,), (rows,)),
        "vmap": lambda: torch.vmap(of_rows)(torch.stack([rows, rows])),
        "vmap of labels": lambda: torch.vmap(lambda y: torch.as_tensor(call(rows, y)))(
            LABELS.expand(2, -1)
        ),
        "jacrev": lambda: torch.func.jacrev(of_rows)(rows),
        "jacfwd": lambda: torch.func.jacfwd(of_rows)(rows),
        "hessian": lambda: torch.func.hessian(of_rows)(rows),
        "functionalize": lambda: torch.func.functionalize(of_rows)(rows),
        "trace": lambda: torch.jit.trace(of_rows, rows),
        "dual": dual,
        "inference mode": lambda: torch.inference_mode()(of_rows)(rows),
        "checkpoint": lambda: checkpoint(
            of_rows, rows.clone().requires_grad_(), use_reentrant=False
        ),
    }


def test_every_kind_of_tensor_gets_an_answer_or_our_own_error(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        embeddings, labels = kinds()
    calls = {name: make_loss(name, classes=5, width=WIDTH) for name in LOSSES}
    calls["geometry"] = lambda rows, numbers: lg.geometry(rows, numbers).intra
    calls["retrieval"] = lambda rows, numbers: lg.retrieval(rows, numbers).map_at_r
    rows = torch.nn.functional.normalize(torch.randn(12, WIDTH))
    counts: Counter[str] = Counter()
    foreign = []

    def run_guarded(tag, call):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                call()
            counts["answered"] += 1
        except InputError as error:
            counts["refused"] += 1
            if "\n" in str(error):
                foreign.append((tag, "more than one line"))
        except Exception as error:
            foreign.append((tag, f"{type(error).__name__}: {error}"[:200]))

    for name, call in calls.items():
        for kind, given in embeddings.items():
            run_guarded(
                (name, "embeddings", kind), lambda call=call, given=given: call(given, LABELS)
            )
        for kind, given in labels.items():
            run_guarded((name, "labels", kind), lambda call=call, given=given: call(rows, given))
        for kind, transformed in transforms(call, rows).items():
            run_guarded((name, kind), transformed)
    for name in LOSSES:
        loss = make_loss(name, classes=5, width=WIDTH)
        own = {n: p.detach().clone() for n, p in loss.named_parameters()}
        call = lambda ps, loss=loss: torch.func.functional_call(loss, ps, (rows, LABELS))  # noqa: E731
        run_guarded((name, "functional_call"), lambda call=call, own=own: call(own))
        run_guarded((name, "grad of it"), lambda call=call, own=own: torch.func.grad(call)(own))
        run_guarded((name, "export"), lambda loss=loss: torch.export.export(loss, (rows, LABELS)))
        run_guarded((name, "on meta"), lambda loss=loss: loss.to("meta")(rows, LABELS))
    with capsys.disabled():
        print(f"\nkinds of tensors: {dict(counts)}, foreign {len(foreign)}")
        print(*foreign[:40], sep="\n")
    assert not foreign

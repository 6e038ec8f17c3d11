"""Geometry and retrieval over dtypes, scales and layouts, and in narrow cones, against slow float64."""

import itertools
import math

import numpy as np
import pytest
import torch

from lossgauge import geometry, retrieval
from lossgauge.errors import InputError
from lossgauge.health.space import space_findings
from lossgauge.ranking.query_set import against_each_other
from lossgauge.ranking.scores import norms_and_directions
from lossgauge.ranking.search import neighbor_blocks

pytestmark = pytest.mark.slow

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
SCALES = tuple(range(-30, 31, 2))
LAYOUTS = {
    "rows": lambda x: x,
    "columns": lambda x: x.T.contiguous().T,
    "strided": lambda x: torch.stack([x, -x], 2)[:, :, 0],
    "reversed numpy": lambda x: x.double().numpy()[::-1, ::-1][::-1, ::-1],
    "foreign bytes": lambda x: x.double().numpy().astype(">f8"),
    "graph": lambda x: x.clone().requires_grad_(),
}


def make_space(seed, *, rows=60, width=7, classes=6):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % classes
    centers = torch.randn(classes, width, dtype=torch.float64, generator=generator)
    noise = torch.randn(rows, width, dtype=torch.float64, generator=generator)
    return centers[labels] + 0.8 * noise, labels


def fits(rows, dtype):
    return bool(rows.abs().max() < torch.finfo(dtype).max) and bool(
        rows.abs().max() > 1e4 * torch.finfo(dtype).smallest_normal
    )


def slow_geometry(rows, labels):
    """By loops over classes and pairs of them."""
    classes = labels.unique().tolist()
    members = [rows[labels == c] for c in classes]
    means = [m.mean(0) for m in members]
    intra = [float((m - u).square().sum(1).mean()) for m, u in zip(members, means, strict=True)]
    pairs = list(itertools.combinations(range(len(classes)), 2))
    gaps = [float((means[i] - means[j]).norm()) for i, j in pairs]
    mean = math.fsum(gaps) / len(gaps)
    share = torch.linalg.svdvals(rows - rows.mean(0)).square()
    share = share / share.sum()
    return {
        "intra": math.fsum(intra) / len(intra),
        "inter": math.fsum(g * g for g in gaps) / len(gaps),
        "offset": float((sum(means) / len(means)).square().sum()),
        "spacing_mean": mean,
        "spacing_cv": float(np.std(gaps)) / mean,
        "spacing_min_ratio": min(gaps) / mean,
        "cdnv": math.fsum(
            (intra[i] + intra[j]) / (2 * g * g) for (i, j), g in zip(pairs, gaps, strict=True)
        )
        / len(gaps),
        "effective_rank": float(torch.special.entr(share).sum().exp()),
        "uniformity": float((-2 * torch.pdist(rows).square()).exp().mean().log())
        if rows.abs().max() < 10
        else None,
    }


def slow_recall(rows, labels, at):
    """By sorting all similarities of each query, float64 sums, then the index."""
    hits = 0
    for query in range(len(rows)):
        similarity = (rows * rows[query]).sum(1).tolist()
        order = sorted(
            (j for j in range(len(rows)) if j != query), key=lambda j: (-similarity[j], j)
        )
        hits += any(labels[j] == labels[query] for j in order[:at])
    return hits / len(rows)


def test_geometry_and_retrieval_over_a_grid_are_those_of_loops(capsys):
    compared = refused = 0
    for dtype, exponent, (layout, arranged) in itertools.product(DTYPES, SCALES, LAYOUTS.items()):
        rows, labels = make_space(exponent % 5)
        scaled = (rows * 10.0**exponent).to(dtype)
        if not fits(rows * 10.0**exponent, dtype):
            continue
        case = (dtype, exponent, layout)
        given, exact = arranged(scaled), scaled.double()
        numbers = labels.numpy() if isinstance(given, np.ndarray) else labels
        found, wanted = geometry(given, numbers), slow_geometry(exact, labels)
        for name, value in wanted.items():
            # a logarithm of numbers near 1, of distances in float32
            rel, absolute = (1e-5, 1e-14) if name == "uniformity" else (1e-9, 0)
            if value is not None:
                assert getattr(found, name) == pytest.approx(value, rel=rel, abs=absolute), (
                    *case,
                    name,
                )
                compared += 1
        for similarity in ("dot", "cosine"):
            unit = exact / exact.norm(dim=1, keepdim=True) if similarity == "cosine" else exact
            ranked = retrieval(given, numbers, similarity=similarity)
            for at in (1, 4):
                assert ranked.recall_at[at] == slow_recall(unit, labels, at), (*case, similarity)
                compared += 1
        _, directions = norms_and_directions(torch.as_tensor(scaled))
        found = space_findings(geometry(directions, labels))
        assert not [f for f in found if "collapse" in f.name and f.level != "ok"], case
        compared += 1
    for exponent in (155, 200, 300):
        rows, labels = make_space(0)
        with pytest.raises(InputError, match="must fit float64"):
            geometry(rows * 10.0**exponent, labels)
        assert (
            retrieval(rows * 10.0**exponent, labels) == retrieval(rows, labels) or exponent == 300
        )
        refused += 1
    with capsys.disabled():
        print(
            f"\ngrid: {compared} numbers equal to the loops, {refused} refused by a rule, 0 wrong"
        )


def test_narrow_cones_are_ranked_as_float64_ranks_them(capsys):
    """Offsets 1 … 1e6 of the noise: the place of each neighbour, wherever 1e-12 of the scale tells two apart."""
    places = ties = wrong = 0
    recalls = []
    offsets = tuple(10.0**power for power in range(7))
    for offset, dtype, similarity, width in itertools.product(
        offsets, (torch.float32, torch.float64), ("dot", "cosine"), (3, 128)
    ):
        generator = torch.Generator().manual_seed(int(offset))
        around = offset * torch.randn(width, dtype=torch.float64, generator=generator)
        noise = torch.randn(500, width, dtype=torch.float64, generator=generator)
        rows = (around + noise).to(dtype)
        exact = rows.double()
        if similarity == "cosine":
            exact = exact / exact.norm(dim=1, keepdim=True)
        product = (exact @ exact.T).fill_diagonal_(-torch.inf)
        best = product.sort(dim=1, descending=True).values[:, :50]
        queries = torch.arange(500)
        counts = torch.full((500,), 50)
        found = torch.cat(
            [
                block.columns
                for block in neighbor_blocks(
                    against_each_other(rows), queries, counts=counts, similarity=similarity
                )
            ]
        )
        norms = exact.norm(dim=1)
        gap = (best - product.gather(1, found)).abs() / (norms[:, None] * norms[found])
        wrong += int((gap > 1e-12).sum())
        ties += int(((gap > 0) & (gap <= 1e-12)).sum())
        places += found.numel()
        labels = queries % 5
        one, other = (retrieval(x, labels, similarity=similarity) for x in (rows, rows.double()))
        assert one == other, (offset, dtype, similarity)
        recalls.append(one.recall_at[1])
    with capsys.disabled():
        print(
            f"\ncones: {places} places, {wrong} wrong, {ties} differ within 1e-12 of the scale; "
            f"{len(recalls)} retrievals of float32 rows equal to those of the same rows in float64"
        )
    assert wrong == 0


def test_ranks_in_a_cone_are_those_of_more_digits_than_float64(capsys):
    """Cosine: distances of directions in extended precision; in float64, cosines of 1 − 1e-12 have four digits left."""
    if np.finfo(np.longdouble).eps > 1e-18:
        pytest.skip("this platform has no extended precision")
    same = places = 0
    for offset in (1.0, 1e3, 1e6):
        generator = np.random.default_rng(int(offset))
        rows = (offset * generator.normal(size=16) + generator.normal(size=(400, 16))).astype("f4")
        exact = rows.astype(np.longdouble)
        exact /= np.sqrt((exact**2).sum(1, keepdims=True))
        squared = np.stack([((exact - row) ** 2).sum(1) for row in exact])
        np.fill_diagonal(squared, np.inf)
        counts = torch.full((400,), 20)
        blocks = neighbor_blocks(
            against_each_other(torch.from_numpy(rows)),
            torch.arange(400),
            counts=counts,
            similarity="cosine",
        )
        found = torch.cat([block.columns for block in blocks]).numpy()
        expected = np.sort(squared, axis=1)[:, :20]
        here = np.take_along_axis(squared, found, axis=1)
        same += int((abs(here - expected) <= 1e-8 * expected).sum())
        places += found.size
    with capsys.disabled():
        print(f"\nextended precision: {same} of {places} places the same")
    assert same == places

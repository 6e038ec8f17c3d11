import math

import pytest
import torch

from lossgauge.ranking.scores import exact_scores, norms_and_directions, prepared


def make_rows(kind, *, rows=150, width=40):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(rows, width, dtype=torch.float64, generator=generator)
    if kind == "positive":
        values = values.abs()
    elif kind == "cone":
        values = 1 + 1e-3 * values
    elif kind == "one long row":
        values[3] *= 1e6
    elif kind == "tiny":
        values *= 1e-30
    elif kind == "some tiny":
        values[::2] *= 1e-25
    return values.float()


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize(
    "kind", ["random", "positive", "cone", "one long row", "tiny", "some tiny"]
)
def test_quick_scores_are_off_by_no_more_than_they_say(kind, similarity):
    of = prepared(make_rows(kind), similarity=similarity)
    full = of.exact @ of.exact.T + of.added
    quick = (of.quick @ of.quick.T + of.quick_added).double()
    # the quick ones are in units of their own, and lack a number of the query
    unit = of.quick.double().norm(dim=1).max() / (of.exact - of.exact.mean(0)).norm(dim=1).max()
    gap = full * unit * unit - quick
    gap -= (gap.amin(dim=1) + gap.amax(dim=1))[:, None] / 2
    assert (gap.abs() <= of.error[:, None]).all()
    # and not by far less: in a cone, float32 would know nothing of plain products
    assert (of.error < 1e-4).all() or kind in ("one long row",)


def test_an_exact_score_has_the_same_bits_in_any_company():
    of = prepared(make_rows("positive"), similarity="dot")
    block = torch.tensor([7, 3, 149])
    query = torch.tensor([0, 0, 1, 2, 2, 2])
    column = torch.tensor([149, 0, 5, 3, 77, 1])
    together = exact_scores(of, block, query, column)
    for at, (one, other) in enumerate(zip(query.tolist(), column.tolist(), strict=True)):
        alone = exact_scores(of, block[one : one + 1], torch.tensor([0]), column[at : at + 1])
        assert torch.equal(alone, together[at : at + 1])
        assert float(alone) == pytest.approx(float(of.exact[block[one]] @ of.exact[other]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_every_row_but_zeros_can_be_normalised(dtype):
    rows = torch.randn(60, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    limits = {torch.float16: (-5, 4), torch.float32: (-42, 37), torch.float64: (-315, 307)}
    rows *= 10.0 ** torch.linspace(*limits[dtype], 60)[:, None].double()
    rows = rows.to(dtype)
    rows[rows.abs().amax(dim=1) == 0] = torch.finfo(dtype).smallest_normal
    rows[17] = 0
    before = rows.clone()
    norms, unit = norms_and_directions(rows)
    assert torch.equal(rows, before)
    length = torch.linalg.vector_norm(unit, dim=1)
    assert norms[17] == length[17] == 0
    length[17] = 1
    assert (length - 1).abs().max() < 1e-15
    assert norms.tolist() == pytest.approx([math.hypot(*row) for row in rows.tolist()], rel=1e-14)
    largest = rows.double() / rows.double().abs().amax(dim=1, keepdim=True)
    expected = torch.nn.functional.normalize(largest).nan_to_num(0)
    torch.testing.assert_close(unit, expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_equal_rows_leave_nothing_open(similarity):
    """A collapsed space is ranked by index at once, not by going through all pairs again."""
    row = torch.randn(1, 33, generator=torch.Generator().manual_seed(0))
    assert not prepared(row.expand(997, 33), similarity=similarity).error.any()

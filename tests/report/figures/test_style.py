"""What all charts share: ranges, logarithmic ticks, and the grid of panels."""

from __future__ import annotations

import itertools

import pytest

from lossgauge.report.figures.style import framed, log_ticks, panel_grid


@pytest.mark.parametrize("low", [1e-7, 0.003, 0.9, 1.0, 40.0])
@pytest.mark.parametrize("factor", [1.0, 1.2, 3.0, 50.0, 1e4, 1e11])
def test_a_log_axis_has_few_ticks_inside_its_range_ascending(low, factor):
    ticks = log_ticks(low, low * factor)
    values = ticks["tickvals"]
    assert 1 <= len(values) <= 6
    assert values == sorted(set(values))
    assert low / 1.02 <= values[0]
    assert values[-1] <= 1.02 * low * factor
    assert len(ticks["ticktext"]) == len(set(ticks["ticktext"])) == len(values)
    if factor > 30:
        assert len(values) >= 2


def test_a_log_axis_of_many_decades_has_even_steps():
    values = log_ticks(1e-6, 1e6)["tickvals"]
    steps = {round(b / a) for a, b in itertools.pairwise(values)}
    assert len(steps) == 1


def test_a_range_has_a_margin_and_a_least_width():
    assert framed([1.0, 3.0], margin=0.1) == pytest.approx((0.8, 3.2))
    low, high = framed([0.95, 0.951], least=0.02, margin=0.0)
    assert high - low == pytest.approx(0.02)
    assert low < 0.95 < 0.951 < high
    low, high = framed([0.0])
    assert low < 0 < high


def test_one_panel_takes_the_whole_width_and_an_odd_one_its_column():
    assert panel_grid(["a"], gap=10, bottom=10)["xaxis"]["domain"] == [0.0, 1.0]
    three = panel_grid(["a", "b", "c"], gap=10, bottom=10)
    assert three["xaxis"]["domain"] == three["xaxis3"]["domain"]
    assert three["annotations"][2]["y"] == three["yaxis3"]["domain"][1]

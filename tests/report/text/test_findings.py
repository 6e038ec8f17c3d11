"""The thresholds of what is said: from where on losses are alike, and when nothing is said at all."""

from __future__ import annotations

import pytest

from lossgauge.report.text.findings import TopicAnswer, updates
from lossgauge.results.view import StudyView
from lossgauge.types import Results
from tests.support.made_up_study import columns_of

LOSSES = ("contrastive", "triplet", "scl", "ccl")


def study(
    shares: tuple[float, ...],
    sizes: tuple[float, ...] = (0.1, 1.0, 0.5, 0.2),
    terms: tuple[float, ...] | None = None,
) -> StudyView:
    """A loss for each share: its active ratio and gradient, equal over three seeds but for a spread that tells all apart."""
    rows = [
        {
            **columns_of("b", loss, seed),
            "gradient_active_ratio": share + 1e-6 * seed * (place + 1),
            "embedding_gradient": size + 1e-6 * seed * (place + 1),
            "term_active_ratio": (terms or shares)[place] - 1e-6 * seed * (place + 1),
        }
        for place, (loss, share, size) in enumerate(zip(LOSSES, shares, sizes, strict=False))
        for seed in range(3)
    ]
    return StudyView(Results({}, {}, rows, [], [], [], [], {}))


def sentence(view: StudyView) -> str:
    finding = updates(view, "b")
    assert isinstance(finding, TopicAnswer)
    return finding.sentence


def test_losses_whose_shares_differ_by_less_than_two_points_move_about_the_same():
    assert sentence(study((0.90, 0.91, 0.915, 0.90))).startswith(
        "All losses have about the same active ratio; contrastive has the smallest gradient; "
        "triplet has the largest"
    )


@pytest.mark.parametrize("least", [0.86, 0.75, 0.3])
def test_shares_that_differ_by_more_are_not_the_same(least):
    words = sentence(study((0.90, least, 0.88, 0.885)))
    assert "about the same" not in words
    assert words.startswith("Many small updates: contrastive and ccl; few large updates: triplet;")


def test_updates_of_two_losses_are_not_sorted():
    assert updates(study((0.9, 0.3)), "b") is None
    assert updates(study((0.9, 0.3, 0.5)), "b") is not None


def test_losses_that_leave_no_term_out_do_not_use_the_fewest():
    shares = (0.9, 0.3, 0.5, 0.8)
    assert "share of its terms" not in sentence(study(shares, terms=(1.0, 1.0, 1.0, 1.0)))
    assert "share of its terms" not in sentence(study(shares, terms=(0.99, 1.0, 1.0, 0.995)))
    words = sentence(study(shares, terms=(0.99, 1.0, 0.9, 0.995)))
    assert "scl uses the smallest share of its terms, 90.0\u00a0% ± < 0.1" in words


def test_without_few_large_updates_small_ones_are_told_from_the_largest():
    assert sentence(study((0.9, 0.9, 0.9, 0.5))).startswith(
        "Many small updates: contrastive; ccl uses the smallest share"
    )

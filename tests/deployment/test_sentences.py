"""The words of `lossgauge head`: names, settings and thresholds."""

from __future__ import annotations

import pytest

from lossgauge.deployment.manifest import OperatingRecord, ThresholdsRecord
from lossgauge.deployment.sentences import frozen_line, name_and_settings, threshold_lines


@pytest.mark.parametrize(
    ("title", "name", "settings"),
    [
        ("triplet", "triplet", ""),
        ("triplet(tuned)", "triplet(tuned)", ""),
        ("triplet(margin=0.1, batch_size=32)", "triplet", "margin=0.1, batch_size=32"),
        ("triplet(margin=0.1)(tuned)", "triplet(tuned)", "margin=0.1"),
        ("mined(triplet(margin=0.3), miner=hard)", "mined", "triplet(margin=0.3), miner=hard"),
        ("swap(info_nce, siglip)(tuned)", "swap(tuned)", "info_nce, siglip"),
        ("my(1).py:Pull(margin=1)", "my(1).py:Pull", "margin=1"),
        ("my (own).py:Pull(k=(1, 2))", "my (own).py:Pull", "k=(1, 2)"),
    ],
)
def test_the_settings_of_a_title_are_apart_from_its_name(title, name, settings):
    assert name_and_settings(title) == (name, settings)


def lines(tpr: float, half_width: float, pairs: int) -> list[str]:
    point = OperatingRecord(far=0.001, threshold=0.9, tpr=tpr, tpr_half_width=half_width)
    of = ThresholdsRecord(
        at_far=(point,),
        eer=0.1,
        eer_half_width=None,
        eer_threshold=0.5,
        intervals_over="new rows of the same classes",
        genuine_pairs=360,
        impostor_pairs=pairs,
    )
    return list(threshold_lines(of))


def test_a_share_beyond_0_to_100_percent_has_bounds_and_few_pairs_are_said():
    line, _ = lines(0.222, 0.411, 2_800)
    assert line.endswith(
        "and 22.2\u00a0% (0.0\u00a0% to 63.3\u00a0%) of the pairs of one class; it is from few pairs: 2 pairs of two classes may pass"
    )
    line, _ = lines(0.556, 0.252, 10_000)
    assert line.endswith("and 55.6\u00a0% ± 25.2 of the pairs of one class")


def test_a_study_subtracts_a_mean_only_without_queries_and_documents():
    assert "center_features" in frozen_line(None, None)
    assert frozen_line(None, None, of_pairs=True).endswith("features, no mean subtracted")
    assert frozen_line(None, None, of_pairs=True, centers=True).endswith("features, centered")

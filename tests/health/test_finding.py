"""The record of a finding."""

import json

from lossgauge.health.finding import Finding, reached, worst_first

FINE = Finding("cone", "ok", "the space", "offset 0.1", "below 0.9")
BAD = Finding(
    "cone", "act", "the space", "offset 0.97", "below 0.9", "All are alike.", "subtract the mean"
)
DOUBTFUL = BAD._replace(level="watch")


def test_the_worst_is_first_and_equal_levels_keep_their_order():
    other = FINE._replace(name="rank")
    assert worst_first([FINE, DOUBTFUL, other, BAD]) == [BAD, DOUBTFUL, FINE, other]


def test_a_level_is_reached_by_itself_and_by_worse_ones():
    assert [reached([FINE, DOUBTFUL], level) for level in ("ok", "watch", "act")] == [
        True,
        True,
        False,
    ]
    assert not reached([], "ok")


def test_it_is_json_and_one_line():
    assert json.loads(json.dumps(BAD.plain))["advice"] == "subtract the mean"
    assert (
        BAD.sentence == "the space: offset 0.97 (below 0.9). All are alike. Try: subtract the mean."
    )
    assert FINE.sentence == "the space: offset 0.1 (below 0.9)."

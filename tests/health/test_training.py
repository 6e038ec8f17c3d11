"""Rules about a run: each threshold from both sides, on made-up rows."""

from __future__ import annotations

import math

import pytest
import torch

from lossgauge.health.training import (
    ignores_labels,
    label_findings,
    optimizer_findings,
    training_findings,
)
from lossgauge.losses.registry import LOSSES, load_loss

STEPS = 40
SCL = {"loss": "scl", "batch_size": 65, "class_count": 8}
"""log 64 = 4.159 at one point; log 7.125 = 1.96 in a perfect space."""


def rows_of(**columns):
    """Rows of steps that look healthy; a column is a number, or goes from the first of a pair to the second."""
    healthy = {
        "loss_value": (1.0, 0.3),
        "embedding_gradient": (0.1, 0.03),
        "head_gradient": (1.0, 0.5),
        "term_active_ratio": (0.9, 0.2),
        "gradient_active_ratio": (1.0, 0.7),
        "skipped_anchor_ratio": 0.0,
        "effective_share": 0.3,
    }
    rows = []
    for step in range(STEPS):
        row = {"step": step, "epoch": step // 10 + 1}
        for name, value in {**healthy, **columns}.items():
            first, last = value if isinstance(value, tuple) else (value, value)
            # flat in the first and the last tenth, which are averaged
            done = min(1.0, max(0.0, (step - 3) / (STEPS - 8)))
            row[name] = None if first is None else first + (last - first) * done
        rows.append(row)
    return rows


def by_name(rows, **given):
    return {found.name: found for found in training_findings(rows, **given)}


def level(name, rows=None, **given):
    return by_name(rows if rows is not None else rows_of(), **given)[name].level


@pytest.mark.parametrize("loss", LOSSES)
def test_a_healthy_run_has_only_records_that_say_ok(loss):
    rows = rows_of(loss_value=(3.0, 2.0) if loss in ("scl", "n_pair") else (1.0, 0.05))
    records = training_findings(rows, loss=loss, batch_size=64, class_count=10)
    assert {record.level for record in records} == {"ok"}
    assert all(not record.advice and record.evidence and record.reference for record in records)


def test_there_is_nothing_to_say_without_rows_and_little_of_an_unknown_loss():
    assert training_findings([]) == []
    names = set(by_name(rows_of(term_active_ratio=None, effective_share=None), loss="mine.py:Pull"))
    assert names == {"no-positives", "dead-gradient", "exploding-gradient", "few-active"}
    assert by_name([{"step": 0, "epoch": 1}]) == {}


@pytest.mark.parametrize(
    ("end", "gradient", "expected"),
    [
        (0.2, (0.1, 0.0), "act"),
        (0.2, (0.0, 0.0), "act"),
        (0.2, (0.1, 0.009), "act"),
        (0.2, (0.1, 0.02), "watch"),
        (0.2059, (0.1, 0.0), "act"),
        (0.2061, (0.1, 0.0), "ok"),
        (0.2059, (0.1, 0.1), "watch"),
        (0.1939, (0.1, 0.0), "ok"),
    ],
)
def test_a_triplet_loss_at_its_margin_has_collapsed(end, gradient, expected):
    rows = rows_of(loss_value=(0.3, end), embedding_gradient=gradient)
    assert level("loss-at-collapse", rows, loss="triplet") == expected


def test_what_follows_from_a_collapse_is_not_said():
    given = {"loss_value": (0.3, 0.2), "gradient_active_ratio": (1.0, 0.0)}
    dead = rows_of(embedding_gradient=(0.1, 0.0), **given)
    records = by_name(dead, loss="triplet")
    assert records["loss-at-collapse"].level == "act"
    assert not {"few-active", "exploding-gradient"} & set(records)
    assert (
        records["dead-gradient"].level == "act"
    )  # a fact of its own: there may be no embeddings to look at
    assert level("few-active", dead) == "watch"
    # a gradient that stops before the weights is another cause
    stopped = rows_of(embedding_gradient=(0.1, 1e-3), head_gradient=0.0, **given)
    assert level("dead-gradient", stopped, loss="triplet") == "act"


@pytest.mark.parametrize(("loss", "spoken"), [("triplet", True), ("scl", False)])
def test_only_a_triplet_loss_is_told_of_triplets_and_margins(loss, spoken):
    at = 0.2 if loss == "triplet" else math.log(64)
    flat = rows_of(loss_value=at, embedding_gradient=0.1)
    given = {"loss": loss, "batch_size": 65, "class_count": 8}
    assert ("triplet" in by_name(flat, **given)["loss-at-collapse"].why) == spoken
    over = rows_of(gradient_active_ratio=(1.0, 0.0), loss_value=(5.0, 0.05))
    assert ("margin" in by_name(over, **given)["few-active"].advice) == spoken


@pytest.mark.parametrize(
    ("values", "count", "expected"),
    [
        ((0.5, 0.587), STEPS, "watch"),
        ((0.5, 0.587), 3, None),
        ((0.5, 0.46), STEPS, "watch"),
        ((0.5, 0.44), STEPS, "ok"),  # it falls
        ((0.2, 0.2061), STEPS, "watch"),
    ],
)
def test_a_loss_above_its_value_at_one_point_is_watched_where_it_does_not_fall(
    values, count, expected
):
    rows = rows_of(loss_value=values)[-count:]
    found = by_name(rows, loss="triplet").get("loss-at-collapse")
    assert (found and found.level) == expected


def test_a_loss_that_never_leaves_its_value_at_one_point_has_learned_nothing():
    """Where all rows are equal from the start, the gradient is rounding only, and does not fall."""
    rows = rows_of(loss_value=0.2, embedding_gradient=1e-9)
    assert level("loss-at-collapse", rows, loss="triplet") == "act"
    rounding = rows_of(loss_value=0.2, embedding_gradient=(1e-12, 1e-9))
    assert "exploding-gradient" not in by_name(rounding, loss="triplet")
    assert level("loss-at-collapse", rows[:9], loss="triplet") == "watch"


def test_the_value_at_one_point_follows_settings_batch_and_classes():
    rows = rows_of(loss_value=(5.0, math.log(64)), embedding_gradient=(1.0, 0.0))
    found = by_name(rows, **SCL)["loss-at-collapse"]
    assert found.level == "act"
    assert (
        "about 4.16 if all embeddings are one point, about 1.96 in a perfect space"
        in found.reference
    )
    assert (
        level("loss-at-collapse", rows, loss="triplet", settings={"margin": math.log(64)}) == "act"
    )
    assert "loss-at-collapse" not in by_name(rows, loss="scl")


def test_a_loss_with_a_floor_is_called_normal():
    found = by_name(rows_of(loss_value=(4.0, 2.1)), **SCL)["loss-floor"]
    assert found.level == "ok"
    assert "about 1.96" in found.reference
    assert "loss-floor" not in by_name(rows_of(), loss="triplet", class_count=8)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.049, "ok"), (0.051, "watch"), (0.49, "watch"), (0.51, "act")]
)
def test_anchors_without_positives_are_counted(share, expected):
    assert level("no-positives", rows_of(skipped_anchor_ratio=share)) == expected


@pytest.mark.parametrize(
    ("loss", "margin", "active", "expected"),
    [
        ("triplet", 0.2, 0.2, "ok"),
        ("triplet", 0.2, 0.96, "watch"),
        ("triplet", 1.1, 0.2, "watch"),  # 1.0 is the largest that a search tries
        ("triplet", 2.2, 0.96, "watch"),  # 2C/(C − 1) is 2.25 with nine classes
        ("triplet", 2.3, 0.96, "act"),
        ("triplet", 2.3, 0.9, "watch"),
        ("triplet", 0.019, 0.2, "watch"),
        ("triplet", 0.019, 0.0009, "act"),
        ("contrastive", 1.4, 0.96, "watch"),
        ("contrastive", 1.6, 0.96, "watch"),  # beyond √2.25, but a search tries up to 2.0
        ("contrastive", 2.0, 0.96, "watch"),
        ("contrastive", 2.1, 0.96, "act"),
    ],
)
def test_a_margin_is_compared_with_distances_on_the_sphere(loss, margin, active, expected):
    rows = rows_of(term_active_ratio=(1.0, active), loss_value=(9.0, 3.0))
    given = {"loss": loss, "settings": {"margin": margin}, "batch_size": 64, "class_count": 9}
    assert level("margin", rows, **given) == expected


@pytest.mark.parametrize(
    ("loss", "margin", "advised", "is_large"),
    [
        ("contrastive", 1.0, 0.5, False),  # the default: the advice is another value
        ("contrastive", 0.5, 0.25, False),
        ("triplet", 0.2, 0.1, False),
        ("triplet", 0.9, 0.2, True),
        ("triplet", 2.3, 0.2, True),
    ],
)
def test_the_advice_on_a_margin_is_another_margin_and_a_line_of_code(
    loss, margin, advised, is_large
):
    rows = rows_of(term_active_ratio=(1.0, 1.0), loss_value=(9.0, 3.0))
    given = {"loss": loss, "settings": {"margin": margin}, "batch_size": 64, "class_count": 9}
    found = by_name(rows, **given)["margin"]
    assert f"`lg.load_loss('{loss}', margin={advised:g})`" in found.advice
    assert ("larger than the distances" in found.why) == is_large


def test_a_collapsed_triplet_loss_is_not_told_to_change_its_margin():
    rows = rows_of(loss_value=(0.3, 0.2), embedding_gradient=(0.1, 0.0), term_active_ratio=1.0)
    assert level("margin", rows, loss="triplet", class_count=9) == "ok"


@pytest.mark.parametrize(
    ("loss", "settings", "share", "expected"),
    [
        ("info_nce", {"temperature": 0.1}, 0.3, "ok"),
        ("info_nce", {"temperature": 1.1}, 0.3, "watch"),
        ("info_nce", {"temperature": 4.0}, 0.3, "watch"),  # a perfect space lowers it by 6 %
        ("info_nce", {"temperature": 6.0}, 0.3, "act"),  # by 4 %
        ("info_nce", {"temperature": 0.009}, 0.3, "watch"),
        ("info_nce", {"temperature": 0.009}, 0.6 / 64, "watch"),
        ("info_nce", {"temperature": 0.009}, 0.4 / 64, "act"),
        ("n_pair", {}, 0.3, "ok"),
        ("arcface", {"scale": 3.9}, None, "watch"),
        ("arcface", {"scale": 129.0}, None, "watch"),
        ("ccl", {}, None, "ok"),
    ],
)
def test_a_temperature_is_compared_with_cosines(loss, settings, share, expected):
    rows = rows_of(effective_share=share)
    given = {"loss": loss, "settings": settings, "batch_size": 64, "class_count": 10}
    assert level("temperature", rows, **given) == expected


@pytest.mark.parametrize(
    ("gradient", "loss", "expected"),
    [
        ((0.1, 1.1e-4), (1.0, 1.0), "ok"),
        ((0.1, 0.9e-4), (1.0, 1.0), "act"),
        ((0.1, 0.9e-4), (1.0, 0.11), "act"),
        ((0.1, 0.9e-4), (1.0, 0.09), "watch"),
        ((0.0, 0.0), (1.0, 1.0), "act"),
    ],
)
def test_a_gradient_that_vanished_is_a_fault_unless_the_loss_did_too(gradient, loss, expected):
    assert level("dead-gradient", rows_of(embedding_gradient=gradient, loss_value=loss)) == expected


def test_a_gradient_that_does_not_reach_the_weights_is_named():
    found = by_name(rows_of(head_gradient=0.0))["dead-gradient"]
    assert (found.level, found.evidence) == (
        "act",
        "the gradient at the embeddings is 0.03, but 0 at the weights",
    )
    assert level("dead-gradient", rows_of(head_gradient=None)) == "ok"


def test_a_loss_at_its_floor_has_learned():
    rows = rows_of(embedding_gradient=(0.1, 1e-5), loss_value=(4.0, 2.0))
    assert level("dead-gradient", rows) == "act"
    assert level("dead-gradient", rows, **SCL) == "watch"


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("embedding_gradient", (0.1, 1.9), "ok"),
        ("embedding_gradient", (0.1, 2.1), "watch"),
        ("embedding_gradient", (0.1, 10.1), "act"),
        ("head_gradient", (0.1, 10.1), "act"),
    ],
)
def test_a_gradient_that_grows_is_exploding(column, values, expected):
    found = by_name(rows_of(**{column: values}))["exploding-gradient"]
    assert found.level == expected
    assert ("weights" if column == "head_gradient" else "embeddings") in found.evidence


def test_steps_without_a_term_and_a_gradient_that_vanishes_are_not_spikes():
    rows = rows_of(embedding_gradient=0.0, head_gradient=(1.0, 1e-6))
    for step in (2, 25, 38):
        rows[step]["embedding_gradient"] = 0.1
    assert level("exploding-gradient", rows) == "ok"


@pytest.mark.parametrize(("spike", "expected"), [(900, "ok"), (1100, "act")])
def test_one_spike_is_enough(spike, expected):
    rows = rows_of(embedding_gradient=0.1)
    rows[20]["embedding_gradient"] *= spike
    assert level("exploding-gradient", rows) == expected


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_placed(bad):
    rows = rows_of()
    assert "not-finite" not in by_name(rows)
    rows[17]["loss_value"] = bad
    found = training_findings(rows)[0]
    assert (found.name, found.level) == ("not-finite", "act")
    assert "from step 17 on" in found.evidence


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(1.0, 0.06, "ok"), (1.0, 0.04, "watch"), (0.2, 0.04, "ok"), (0.2, 0.009, "watch")],
)
def test_few_active_samples_are_compared_with_the_start(start, end, expected):
    assert level("few-active", rows_of(gradient_active_ratio=(start, end))) == expected


@pytest.mark.parametrize(
    ("train", "test", "expected"),
    [(0.06, 0.55, "ok"), (0.05, 0.55, "watch"), (0.04, 0.45, "ok"), (0.005, 0.55, "act")],
)
def test_a_gap_between_training_and_test_side_is_seen(train, test, expected):
    rows = rows_of(train_intra_inter_ratio=train, test_intra_inter_ratio=test)
    assert level("train-test-gap", rows) == expected


def test_parameters_that_no_optimizer_has_are_named():
    loss = load_loss("arcface", class_count=4, embedding_size=8)
    model = torch.nn.Linear(3, 8)
    (missing,) = optimizer_findings([torch.optim.SGD(model.parameters(), 0.1)], loss)
    assert (missing.level, missing.subject) == ("act", "proxies")
    both = [torch.optim.SGD(model.parameters(), 0.1), torch.optim.SGD(loss.parameters(), 0.1)]
    assert [found.level for found in optimizer_findings(both, loss)] == ["ok"]
    assert optimizer_findings(both, load_loss("triplet")) == []


def broadcast(z, y):
    """All pairs; a column of labels against a row of distances makes every combination of both."""
    one, other = torch.triu_indices(len(z), len(z), 1)
    distance = (z[one] - z[other]).square().sum(1)
    same = (y[one] == y[other]).to(z.dtype)[:, None]
    return (same * distance + (1 - same) * (1 - distance).clamp(min=0)).mean()


def test_labels_that_do_not_enter_the_loss_are_noticed():
    generator = torch.Generator().manual_seed(0)
    z = torch.nn.functional.normalize(torch.randn(12, 4, generator=generator))
    y = torch.arange(12) % 3
    assert ignores_labels(lambda z, y: z.std(), z, y)
    assert ignores_labels(broadcast, z, y)
    assert not ignores_labels(lambda z, y: broadcast(z, y) + z[0, 0] * y[0], z, y)
    assert not any(
        ignores_labels(load_loss(name), z, y)
        for name in ("contrastive", "triplet", "n_pair", "info_nce", "scl")
    )
    (found,) = label_findings(load_loss("triplet"), z, y)
    assert (found.level, found.subject) == ("ok", "Triplet")
    (found,) = label_findings(broadcast, z, y)
    assert (found.level, found.subject) == ("act", "broadcast")
    # a batch without a valid term shows nothing
    n_pair, one_pair = load_loss("n_pair"), torch.tensor([0] * 11 + [1])
    assert not n_pair(z, one_pair).any()
    assert not ignores_labels(n_pair, z, one_pair)
    assert label_findings(load_loss("triplet"), z, torch.zeros(12)) == []
    assert label_findings(load_loss("triplet"), z, torch.arange(12)) == []

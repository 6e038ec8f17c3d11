"""Losses as settings of losses: in Python, as text, in a study file; and the ids of their runs."""

import pytest
import torch

from lossgauge.errors import InputError, PlanError
from lossgauge.losses.registry import (
    ALL_LOSSES,
    LOSS_SETTINGS,
    all_settings,
    load_loss,
    loss_class,
    loss_maker,
    losses_for_labels,
)
from lossgauge.plan.loss import LossPlan
from lossgauge.plan.yaml_file import parse_plan
from tests.losses.cases import BATCHES, make_batch

STUDY = """
datasets: [digits]
losses: [{loss}]
seeds: 1
epochs: 3
batch_size: 64
learning_rate: 0.001
"""


def plan_of(loss):
    return parse_plan(STUDY.format(loss=loss)).losses[0]


def checked(loss):
    """All that a study does with a loss of its file before its first run."""
    plan = plan_of(f"{{{loss}}}")
    all_settings(plan.name, plan.fixed)
    loss_maker(plan.name, plan.fixed, class_count=3, embedding_size=6)()


def results(loss):
    rows, labels = make_batch(BATCHES["balanced"], seed=3)
    leaf = rows.clone().requires_grad_()
    loss = loss.double()
    value = loss(leaf, labels)
    return [value.detach(), *torch.autograd.grad(value, [leaf])]


def test_the_losses_that_hold_others_say_which_settings_hold_them():
    held = {name: loss_class(name) for name in ALL_LOSSES if loss_class(name).wraps_losses}
    assert held.keys() == LOSS_SETTINGS.keys()
    for name, keys in LOSS_SETTINGS.items():
        defaults = [held[name].settings[key].default for key in keys]
        assert {*defaults} < {*ALL_LOSSES}
        assert list(held[name].settings)[: len(keys)] == list(keys)


@pytest.mark.parametrize(
    ("loss", "title", "inside"),
    [
        (
            "swap: {direction_of: siglip, weight_of: InfoNCE}",
            "swap(info_nce, siglip)",
            {"weight_of": ("info_nce", {}), "direction_of": ("siglip", {})},
        ),
        (
            "swap: {weight_of: {info_nce: {temperature: 0.05}}, direction_of: {name: nscl, settings: {temperature: 2e-1}}}",
            "swap(info_nce(temperature=0.05), nscl(temperature=0.2))",
            {
                "weight_of": ("info_nce", {"temperature": 0.05}),
                "direction_of": ("nscl", {"temperature": 0.2}),
            },
        ),
        (
            "mined: {of: {TripletLoss: {margin: 0.3, power: 1}}, miner: semihard, reduction: active}",
            "mined(triplet(margin=0.3, power=1), miner=semihard, reduction=active)",
            {"of": ("triplet", {"margin": 0.3, "power": 1})},
        ),
        ("matryoshka: {of: scl}", "matryoshka(scl)", {"of": ("scl", {})}),
        (
            "matryoshka: {of: 'mnrl(scale=30, symmetric=True)', smallest: 4}",
            "matryoshka(mnrl(scale=30, symmetric=True), smallest=4)",
            {"of": ("mnrl", {"scale": 30, "symmetric": True})},
        ),
    ],
)
def test_a_study_file_names_the_losses_inside_with_their_settings(loss, title, inside):
    plan = plan_of(f"{{{loss}}}")
    assert plan.title == title
    again = LossPlan.model_validate(plan.model_dump(mode="json"))  # as a worker reads it
    assert again == plan
    made = loss_maker(again.name, again.fixed, class_count=3, embedding_size=6)()
    others = {key: value for key, value in plan.fixed.items() if key not in inside}
    by_hand = load_loss(
        plan.name,
        **{key: load_loss(name, **settings) for key, (name, settings) in inside.items()},
        **others,
    )
    for found, wanted in zip(results(made), results(by_hand), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def test_settings_inside_decide_the_number():
    one, other = (results(load_loss("mined", of={"triplet": {"margin": m}})) for m in (0.2, 0.9))
    assert not torch.equal(one[0], other[0])
    weights = [
        results(load_loss("swap", weight_of={"info_nce": {"temperature": t}})) for t in (0.1, 1)
    ]
    assert torch.equal(weights[0][0], weights[1][0])  # the value is that of the direction
    assert not torch.allclose(weights[0][1], weights[1][1])


def test_two_texts_of_one_loss_are_one_run():
    same = [
        "mined: {of: triplet}",
        "mined: {of: {triplet: {}}}",
        "mined: {of: {triplet: {margin: 0.2}}, miner: hard}",
        "mined: {of: 'triplet(power=2, margin=2e-1)'}",
    ]
    plans = [plan_of(f"{{{text}}}") for text in same]
    settings = [all_settings(plan.name, plan.fixed) for plan in plans]
    assert all(one == all_settings("mined", {}) for one in settings)
    other = plan_of("{mined: {of: {triplet: {margin: 0.25}}}}")
    assert all_settings("mined", other.fixed)["of"] == "triplet(margin=0.25)"
    numbers = [plan_of(f"{{swap: {{weight_of: {n}}}}}") for n in ("1", "1.0")]
    assert len({str(all_settings("swap", plan.fixed)) for plan in numbers}) == 1
    assert numbers[0].title == "swap(weight_of=1)"


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        ("swap: {weight_of: triplet}", "Triplet weights squared distances and SigLIP weights dot"),
        ("swap: {weight_of: -1}", "weight_of must be a loss or a positive number, got -1"),
        ("swap: {weight_of: .inf}", "weight_of must be one finite value"),
        ("swap: {direction_of: 1}", "direction_of must be one of contrastive, .*got int"),
        ("swap: {weight_of: arcface}", "weight_of must be one of contrastive, .*got 'arcface'"),
        ("mined: {of: swap}", "of must be one of contrastive, .*got 'swap'"),
        ("mined: {of: my.py:Pull}", "of must be one of contrastive, .*got 'my.py:Pull'"),
        ("mined: {of: 'triplet(margin='}", r"got 'triplet\(margin='"),
        ("mined: {of: 'triplet(0.3)'}", r"got 'triplet\(0.3\)'"),
        ("mined: {of: {triplet: {margn: 0.3}}}", "no setting 'margn' .did you mean 'margin'"),
        ("mined: {of: {triplet: {margin: -1}}}", "margin of the loss 'triplet' must be at least 0"),
        ("mined: {of: {triplet: {reduction: active}}}", "reduction of a loss inside another one"),
        ("mined: {of: {triplet: {margin: {low: 0.1, high: 1}}}}", "takes no ranges; give one"),
        ("mined: {of: {triplet: 3}}", "of must be one loss, as in triplet or"),
        ("mined: {of: {triplet: , scl: }}", "of must be one loss, as in triplet or"),
        ("mined: {of: [triplet]}", "of must be one finite value"),
        ("matryoshka: {of: n_pair}", "of must be one of contrastive, .*got 'n_pair'"),
        ("matryoshka: {of: matryoshka}", "of must be one of contrastive, .*got 'matryoshka'"),
    ],
)
def test_a_wrong_loss_inside_is_one_line(loss, words):
    with pytest.raises((InputError, PlanError), match=words) as raised:
        checked(loss)
    assert "\n" not in str(raised.value)


def test_an_experiment_is_not_among_all():
    assert "swap" not in losses_for_labels()
    assert {"mined", "matryoshka", "triplet"} < {*losses_for_labels()}

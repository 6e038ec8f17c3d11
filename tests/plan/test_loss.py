import math

import pytest
from pydantic import ValidationError

from lossgauge.errors import PlanError
from lossgauge.plan.loss import Choices, LossPlan, Range, ends, named
from lossgauge.plan.yaml_file import parse_plan


def loss_of(settings, *, tune="{trials: 2}"):
    """The loss of a study with these settings of triplet, as YAML."""
    return parse_plan(
        f"""
datasets: [digits]
losses: [{{triplet: {settings}}}]
seeds: 1
epochs: 3
batch_size: 64
learning_rate: 0.001
tune: {tune}
"""
    ).losses[0]


def test_a_loss_may_be_a_name_a_name_with_settings_or_both_spelled_out():
    spelled = {"name": "scl", "settings": {"temperature": 0.1}}
    assert named("scl") == {"name": "scl"}
    assert named({"scl": None}) == {"name": "scl", "settings": {}}
    assert named({"scl": {"temperature": 0.1}}) == spelled == named(spelled)
    with pytest.raises(ValueError, match="each entry of a list must be one loss"):
        named({"scl": {}, "ccl": {}})


def test_what_is_fixed_and_what_is_searched_are_told_apart():
    loss = loss_of("{reduction: active, margin: {low: 0.1, high: 1}, learning_rate: 0.01}")
    assert loss.fixed == {"reduction": "active"}
    assert loss.searched == {"margin": Range(low=0.1, high=1.0)}
    assert loss.learning_rate == 0.01
    assert loss.title == "triplet(reduction=active, learning_rate=0.01)"


def test_a_loss_at_some_settings_keeps_its_own_fixed_ones_and_searches_nothing():
    loss = loss_of("{reduction: active, margin: {low: 0.1, high: 1}}")
    assert loss.at({}) == LossPlan(name="triplet", settings={"reduction": "active"})
    moved = loss.at({"margin": 0.5, "reduction": "mean", "learning_rate": 0.1})
    assert moved.fixed == {"reduction": "mean", "margin": 0.5}
    assert moved.learning_rate == 0.1
    assert moved.searched == {}
    assert loss.searched.keys() == {"margin"}


def test_a_learning_rate_to_be_searched_is_none_that_is_fixed():
    loss = loss_of("{learning_rate: {low: 0.1, high: 1}}")
    assert loss.learning_rate is None
    assert loss.title == "triplet"


@pytest.mark.parametrize("written", ["1e-1", "1E-1", "+1e-1", "0.1", ".1"])
def test_a_number_is_a_number_however_yaml_reads_it(written):
    assert loss_of(f"{{margin: {written}}}").settings == {"margin": 0.1}
    assert loss_of(f"{{learning_rate: {written}}}").learning_rate == 0.1
    listed = loss_of(f"{{margin: {{choices: [{written}, 2]}}}}").settings["margin"]
    assert listed == Choices(choices=(0.1, 2))
    assert isinstance(listed.choices[0], float)


@pytest.mark.parametrize("text", ["active", "e5", "1e", "3x", "1e5 m"])
def test_text_stays_text(text):
    assert loss_of(f"{{reduction: {text}}}").settings == {"reduction": text}


def test_types_of_settings_are_kept():
    settings = loss_of("{a: true, b: 1, c: 1.0, d: one}").settings
    assert [type(value) for value in settings.values()] == [bool, int, float, str]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("{margin: .inf}", "losses.0.settings.margin must be one finite value"),
        ("{margin: .nan}", "losses.0.settings.margin must be one finite value"),
        (
            "{margin: [1, 2]}",
            r"must be one finite value, \{low: …, high: …\} or \{choices: \[…\]\}, got",
        ),
        ("{margin: {low: 2, high: 1}}", "low must be below high, got 2 and 1$"),
        ("{margin: {low: 1, high: 1}}", "low must be below high, got 1 and 1$"),
        ("{margin: {low: 0, high: 1, log: true}}", "low must be above 0 with log: true, got 0$"),
        ("{margin: {low: -1, high: 1, log: true}}", "low must be above 0 with log: true"),
        ("{margin: {low: 0, high: .inf}}", "margin.high must be a finite number"),
        ("{margin: {choices: [1]}}", "must have at least 2 entries, got"),
        ("{margin: {choices: [1, 2, 1]}}", "listed twice: 1$"),
        ("{margin: {low: 1}}", "the key 'losses.0.settings.margin.high' is missing"),
        ("{learning_rate: 0}", "losses.0: learning_rate must be a number above 0, got 0$"),
        ("{learning_rate: -0.1}", "learning_rate must be a number above 0, got -0.1$"),
        ("{learning_rate: fast}", "learning_rate must be a number above 0, got 'fast'$"),
        ("{learning_rate: true}", "learning_rate must be a number above 0, got True$"),
        ("{learning_rate: {low: 0, high: 1}}", "learning_rate must be a number above 0, got 0.0$"),
        (
            "{learning_rate: {choices: [0.1, -1]}}",
            "learning_rate must be a number above 0, got -1$",
        ),
        ("0.1", "losses.0.settings must be keys and values, got 0.1"),
    ],
)
def test_a_wrong_setting_is_refused_with_the_rule(settings, message):
    with pytest.raises(PlanError, match=message):
        loss_of(settings)


def test_the_utmost_of_a_search_are_the_ends_of_a_range_or_all_choices():
    assert ends(Range(low=0.5, high=2)) == (0.5, 2.0)
    assert ends(Choices(choices=(1, "a", False))) == (1, "a", False)


def test_a_loss_plan_is_the_same_after_json():
    loss = loss_of("{a: true, b: 1, c: 1.0, margin: {low: 0.1, high: 1}, d: {choices: [1, x]}}")
    again = LossPlan.model_validate(loss.model_dump(mode="json"))
    assert again == loss
    assert [type(v) for v in again.fixed.values()] == [bool, int, float]
    with pytest.raises(ValidationError):
        LossPlan(name="x", settings={"margin": math.inf})


def test_a_whole_number_beyond_64_bits_is_a_float_and_beyond_float64_is_refused():
    edges = {2**63 - 1: int, -(2**63): int, 2**63: float, -(2**63) - 1: float}
    for text, kind in ((str(edge), kind) for edge, kind in edges.items()):
        (value,) = loss_of(f"{{margin: {text}}}").settings.values()
        assert type(value) is kind
        assert value == float(text) or value == int(text)
    with pytest.raises(PlanError, match="must be one finite value"):
        loss_of(f"{{margin: {'9' * 400}}}")


def test_a_thousand_choices_are_taken_and_one_more_is_not():
    choices = ", ".join(map(str, range(1_000)))
    assert len(loss_of(f"{{margin: {{choices: [{choices}]}}}}").settings["margin"].choices) == 1_000
    with pytest.raises(PlanError, match="must have at most 1,000 entries, got"):
        loss_of(f"{{margin: {{choices: [{choices}, 1000]}}}}")


def test_a_loss_may_have_its_own_batches():
    loss = loss_of("{margin: 0.1, batch_size: 32, sampler: m_per_class, learning_rate: 0.01}")
    assert (loss.batch_size, loss.sampler, loss.learning_rate) == (32, "m_per_class", 0.01)
    assert loss.fixed == {"margin": 0.1}  # what the loss itself is made with
    assert (loss_of("{}").batch_size, loss_of("{}").sampler) == (None, None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("{batch_size: 1}", "batch_size of a loss must be a whole number from 2"),
        ("{batch_size: 2.5}", "batch_size of a loss must be a whole number from 2"),
        ("{batch_size: true}", "batch_size of a loss must be a whole number from 2"),
        ("{batch_size: {low: 2, high: 8}}", "batch_size of a loss must be a whole number from 2"),
        ("{sampler: randm}", "sampler of a loss must be random, m_per_class"),
        ("{sampler: {choices: [random, m_per_class]}}", "sampler of a loss must be random"),
    ],
)
def test_wrong_batches_of_a_loss_are_refused_with_the_rule(settings, message):
    with pytest.raises(PlanError, match=message):
        loss_of(settings)

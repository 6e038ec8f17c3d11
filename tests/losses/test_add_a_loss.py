"""The loss of docs/add-a-loss.md, as its reader would add it."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from lossgauge.losses import registry
from lossgauge.losses.registry import load_loss, settings_of
from lossgauge.plan.loss import Range
from lossgauge.plan.yaml_file import parse_plan
from lossgauge.study.schedule.search import check_space, space
from lossgauge.testing import check_loss
from tests.losses.cases import assert_agrees

DOC = Path(__file__).parents[2] / "docs" / "add-a-loss.md"
STUDY = """
datasets: [digits]
losses: ["{loss}"]
seeds: 1
epochs: 3
batch_size: 64
learning_rate: 0.001
tune: {{trials: 2}}
"""


@pytest.fixture
def code():
    (block,) = re.findall(r"```python\n(.*?)```", DOC.read_text(), flags=re.DOTALL)
    return block


@pytest.fixture(params=["in a file of the user", "in the package"])
def name(request, code, tmp_path, monkeypatch):
    if request.param == "in a file of the user":
        (tmp_path / "my_loss.py").write_text(code)
        yield f"{tmp_path / 'my_loss.py'}:Logistic"
        return
    module = ModuleType("lossgauge.losses.logistic")
    exec(code, module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    # the line in the list
    monkeypatch.setitem(registry._CLASSES, "logistic", "Logistic")
    monkeypatch.setattr(registry, "ALL_LOSSES", tuple(registry._CLASSES))
    registry._names.cache_clear()
    yield "logistic"
    registry._names.cache_clear()


def slow(rows, labels):
    terms = []
    for i in range(len(rows)):
        for j in range(len(rows)):
            sign = -1 if labels[i] == labels[j] else 1
            if i != j:
                terms.append((1 + (sign * 5 * (rows[i] @ rows[j])).exp()).log())
    return terms


def test_it_keeps_the_contract(name):
    check_loss(load_loss(name).double())


def test_it_is_its_loop(name, batch):
    rows, labels = batch
    assert_agrees(load_loss(name).double(), slow, (torch.nn.functional.normalize(rows), labels))


def test_it_is_tuned_over_the_range_that_it_declares(name):
    plan = parse_plan(STUDY.format(loss=name))
    (loss,) = plan.losses
    check_space(loss, plan)
    assert space(loss, plan)["scale"] == Range(low=1.0, high=50.0, log=True)
    assert settings_of(name)["scale"].default == 5.0


@pytest.mark.parametrize("name", ["in the package"], indirect=True)
def test_its_other_name_is_its_own(name):
    assert registry.our_name("PairLogisticLoss") == "logistic"
    assert parse_plan(STUDY.format(loss="Pair-Logistic")).losses[0].name == "logistic"

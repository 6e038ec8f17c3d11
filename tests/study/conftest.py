"""A small real study, and somebody who watches it without a word."""

from pathlib import Path

import pytest

from lossgauge.plan.study import Plan
from lossgauge.plan.yaml_file import parse_plan
from lossgauge.study.progress import Progress


class Quiet(Progress):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.failures: dict[str, str] = {}
        self.there: list[str] = []
        self.total = 0
        self.missing: dict[str, str] = {}
        self.warnings: dict[str, str] = {}

    def features(self, dataset, done, total):
        pass

    def left_out(self, dataset, reason):
        self.missing[dataset] = reason

    def warning(self, dataset, words):
        self.warnings[dataset] = words

    def study(self, runs):
        self.total = runs

    def reused(self, run):
        self.there.append(run.name)

    def start(self, run):
        pass

    def epoch(self, run, epoch):
        pass

    def end(self, run, summary):
        self.ended.append(run.name)

    def failed(self, run, error):
        self.failures[run.name] = error


@pytest.fixture
def quiet() -> Quiet:
    return Quiet()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSGAUGE_CACHE", str(tmp_path / "cache"))


def small_plan(**changes: object) -> Plan:
    """Digits, two losses, one seed, two epochs."""
    overrides = [f"{key}={value}" for key, value in changes.items()]
    text = """
datasets: [digits]
backbone: pixels
losses: [triplet, ccl]
seeds: 1
epochs: 2
batch_size: 64
learning_rate: 0.001
embedding_size: 16
"""
    return parse_plan(text, overrides=overrides)

"""Small real studies: their plans, their features, a listener that prints nothing, and folders that are finished."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lossgauge.plan.study import Plan
from lossgauge.plan.yaml_file import parse_plan
from lossgauge.study.progress import Progress
from lossgauge.study.runner import run_study
from lossgauge.types import FeatureSet

SMALL = """
datasets: [digits]
backbone: pixels
losses: [triplet, ccl]
seeds: 1
epochs: 2
batch_size: 64
learning_rate: 0.001
embedding_size: 16
"""
"""A study file of three runs: about a second."""

BROKEN = """
def broken(embeddings, labels):
    raise RuntimeError("it never works")
"""


class Quiet(Progress):
    """A `Progress` that prints nothing and keeps what it receives."""

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


def small_plan(**changes: object) -> Plan:
    """Digits, two losses, one seed, two epochs; `changes` as in `--set`."""
    return parse_plan(SMALL, overrides=[f"{key}={value}" for key, value in changes.items()])


def write_pairs(path: Path) -> Path:
    """80 queries whose vectors are those of their documents, turned; every fourth has two right ones, and two share one."""
    generator = np.random.default_rng(0)
    documents = generator.normal(size=(120, 8))
    turn = np.eye(8) + 0.6 * generator.normal(size=(8, 8))
    queries = documents[:80] @ turn + 0.3 * generator.normal(size=(80, 8))
    right = [(row, row) for row in range(80)]
    right += [(row, 80 + row // 4) for row in range(0, 80, 4)] + [(9, 10)]
    rows = [
        {
            "query": queries[query].round(5).tolist(),
            "positive": documents[document].round(5).tolist(),
            "negative": documents[100 + query % 20].round(5).tolist(),
        }
        for query, document in right
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def pair_plan(folder: Path, *overrides: str) -> Plan:
    """Of `write_pairs` in `folder`: four losses, three seeds, two epochs, an adapter; about two seconds."""
    text = f"""
datasets: ["pairs:{write_pairs(folder / "pairs.jsonl")}"]
losses: [triplet, gist, mnrl, relaxed]
seeds: 3
epochs: 2
batch_size: 16
learning_rate: 0.05
head: residual
rank: 8
"""
    return parse_plan(text, overrides=list(overrides))


def write_vectors(path: Path, *, poison: bool = False) -> Path:
    """Six noisy classes as ready embeddings with a split of their own; poisoned, the test side is garbage."""
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), 60)
    # the classes lie in a few of many directions, so that there is something to learn and to overfit
    rows = generator.normal(size=(360, 24)) + 2.5 * np.eye(6, 24)[labels]
    split = np.where(np.arange(360) % 2 == 0, "train", "test")
    if poison:
        tests = split == "test"
        rows[tests] = 5 * generator.normal(size=(180, 24))
        labels[tests] = generator.permutation(labels[tests])
    np.savez(path, embeddings=rows.astype(np.float32), labels=labels, split=split)
    return path


def vectors_plan(path: Path, *overrides: str) -> Plan:
    """Of `write_vectors`: one loss, one seed, three epochs. The quickest study: no features are extracted."""
    text = f"""
datasets: ["embeddings:{path}"]
losses: [triplet]
seeds: 1
epochs: 3
batch_size: 32
learning_rate: 0.01
embedding_size: 8
"""
    return parse_plan(text, overrides=overrides)


def fake_features(
    classes: int = 4, *, disjoint: bool = False, dataset: str = "fake", rows: int = 40
) -> FeatureSet:
    """`rows` training and as many test rows of random features."""
    generator = torch.Generator().manual_seed(0)
    train = torch.arange(rows) % classes
    return FeatureSet(
        dataset=dataset,
        backbone="none",
        features=torch.randn(2 * rows, 8, generator=generator),
        labels=torch.cat((train, train + classes if disjoint else train)),
        train=torch.arange(rows),
        test=torch.arange(rows, 2 * rows),
        protocol="given",
        fingerprint="0" * 64,
        identity={"file": "1" * 64},
    )


def make_study(folder: Path) -> Path:
    """A finished study with something in every table, in `folder`/study.

    Digits and a dataset that is not there; triplet, CCL and a loss that fails; tuned, and one sensitivity.
    """
    loss = folder / "broken.py"
    loss.write_text(BROKEN)
    plan = small_plan(
        datasets="digits,cub200",
        losses=f"triplet,ccl,{loss}:broken",
        tune="{trials: 2, epochs: 1}",
        sensitivity="2.0",
        retrieval_every="2",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOSSGAUGE_CACHE", str(folder / "cache"))
        patch.delenv("LOSSGAUGE_CUB200", raising=False)
        run_study(plan, folder / "study", progress=Quiet())
    return folder / "study"

"""A study of a second: two losses that end, one that fails, a search, other settings; and one that was stopped."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from lossgauge.plan.study import Plan
from lossgauge.plan.yaml_file import parse_plan
from lossgauge.study.runner import run_study
from tests.support.studies import BROKEN, Quiet


def _write_vectors(path: Path) -> Path:
    """Sixty rows of five classes, some of which training brings together."""
    generator = np.random.default_rng(0)
    labels = np.arange(60) % 5
    rows = generator.normal(size=(60, 8)) + 2 * np.eye(5, 8)[labels]
    split = np.where(np.arange(60) % 20 < 10, "train", "test")
    np.savez(path, embeddings=rows.astype(np.float32), labels=labels, split=split)
    return path


def quick_plan(place: Path, **changes: object) -> Plan:
    """Of files in `place`: quick, with a run of every variant."""
    _write_vectors(place / "vectors.npz")
    (place / "broken.py").write_text(BROKEN)
    text = f"""
datasets: ["embeddings:{place / "vectors.npz"}", cub200]
losses: [triplet, "{place / "broken.py"}:broken"]
seeds: 1
epochs: 3
batch_size: 10
learning_rate: 0.01
embedding_size: 4
tune: {{trials: 2, epochs: 1}}
sensitivity: [2]
"""
    return parse_plan(text, overrides=[f"{key}={value}" for key, value in changes.items()])


def finished(place: Path) -> Path:
    """A study's folder with something in every table."""
    run_study(quick_plan(place), place / "study", progress=Quiet())
    return place / "study"


class Stops(Quiet):
    """Ends the study in its sixth epoch, as Ctrl-C does."""

    def epoch(self, run, epoch):
        if epoch == 6:
            raise KeyboardInterrupt


def stopped(place: Path) -> Path:
    """A study's folder with a run whose checkpoint is of epoch 5, and whose first 15 steps are streamed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lossgauge.study.run.execute.CHECKPOINT_SECONDS", 0)
        with pytest.raises(KeyboardInterrupt):
            run_study(stopped_plan(place), place / "study", progress=Stops())
    shutil.rmtree(place / "study" / ".work", ignore_errors=True)
    return place / "study"


def stopped_plan(place: Path) -> Plan:
    return quick_plan(place, losses="triplet", epochs=7, tune="null", sensitivity="[]")

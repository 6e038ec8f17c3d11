"""Settings that the data cannot take are refused before any run, in a dry run too; those without effect are said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from lossgauge.errors import PlanError
from lossgauge.plan.study import Plan
from lossgauge.study.forecast import forecast
from lossgauge.study.runner import run_study
from tests.support.command_line import run_cli

PAIRS = """
datasets: ["pairs:pairs.jsonl"]
losses: [mnrl]
seeds: 1
epochs: 1
batch_size: 16
learning_rate: 0.01
head: residual
rank: 6
"""
CLASSES = """
datasets: ["embeddings:v.npz"]
losses: [triplet]
seeds: 1
epochs: 1
batch_size: 16
learning_rate: 0.01
embedding_size: 8
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Forty queries in twelve numbers without hard negatives; eight classes of ten rows, one of them called -1."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    rows = [
        {name: generator.normal(size=12).round(3).tolist() for name in ("query", "positive")}
        for _ in range(40)
    ]
    Path("pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    labels = np.repeat(np.arange(-1, 7), 10)
    np.savez("v.npz", embeddings=generator.normal(size=(80, 16)).astype("f4"), labels=labels)
    Path("pairs.yaml").write_text(PAIRS)
    Path("classes.yaml").write_text(CLASSES)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "setting", "words"),
    [
        ("pairs", "rank=1000", "rank must be at most 12, the width of the features"),
        (
            "pairs",
            "negatives={per_query: 9, from_rank: 2, to_rank: 8}",
            "per_query must be at most the 6 ranks from from_rank to to_rank, got 9",
        ),
        (
            "pairs",
            "negatives={from_rank: 400, to_rank: 480}",
            "from_rank must be below the 40 documents",
        ),
        (
            "pairs",
            "losses={matryoshka: {smallest: 13}}",
            "smallest must be at most the 12 numbers of an embedding",
        ),
        (
            "classes",
            "losses={soft_triple: {centers_per_class: 6}}",
            "centers_per_class must be at most 5, the training rows of the largest class",
        ),
        (
            "classes",
            "losses={subcenter_arcface: {sub_centers: 6}}",
            "sub_centers must be at most 5, the training rows of the largest class",
        ),
        ("classes", "labels={share: 0.01}", "share 0.01 leaves a class without a row"),
        ("classes", "labels={per_class: 6}", "per_class 6 is above the rows of a class"),
        (
            "classes",
            "losses={triplet: null, scl: {sampler: m_per_class, batch_size: 64}}",
            "sampler m_per_class: batch_size 64 with samples_per_class 4 needs 16 classes",
        ),
    ],
)
def test_what_the_data_cannot_take_is_one_line_and_exit_2(files, file, setting, words):
    out = files / "out"
    command = ["study", f"{file}.yaml", "--set", setting, "--out", str(out), "--quiet"]
    for more in ([], ["--dry-run"]):
        done = run_cli(*command, *more)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert words in done.stderr.strip().splitlines()[-1]
    assert not out.exists()


def plan_of(text: str, **changes: object) -> Plan:
    return Plan.model_validate({**yaml.safe_load(text), **changes})


@pytest.mark.parametrize(
    ("text", "changes", "words"),
    [
        (
            PAIRS,
            {"batch_size": 64},
            "batch_size 64 is above the 20 training queries: each epoch is one step",
        ),
        (
            PAIRS,
            {"negatives": "given"},
            "negatives: given has no effect, because no training query",
        ),
        (CLASSES, {"batch_size": 64}, "batch_size 64 is above the 40 training rows"),
        (
            CLASSES,
            {"losses": ["soft_triple"]},
            "soft_triple has 10 centers for each class, and 8 of 8 classes have fewer training rows",
        ),
        (CLASSES, {}, "the label -1 is a class like any other (10 rows)"),
    ],
)
def test_what_has_no_effect_is_a_note_of_the_run_and_of_the_dry_run(
    files, quiet, text, changes, words
):
    told: list[str] = []
    quiet.warning = lambda dataset, line: told.append(line)
    forecast(plan_of(text, **changes), files / "out", progress=quiet)
    assert [line for line in told if words in line]


def test_notes_of_a_run_stand_in_its_folder_and_a_good_plan_has_none(files, quiet):
    told: list[str] = []
    quiet.warning = lambda dataset, line: told.append(line)
    outcome = run_study(plan_of(PAIRS, batch_size=64, epochs=1), files / "out", progress=quiet)
    assert any("batch_size 64 is above" in row["reason"] for row in outcome.left_out)
    told.clear()
    forecast(plan_of(PAIRS), files / "other", progress=quiet)
    assert len(told) == 1  # how the queries were split


def test_every_wrong_size_of_a_plan_in_python_is_a_plan_error(files, quiet):
    for changes in ({"rank": 13}, {"losses": [{"matryoshka": {"smallest": 13}}]}):
        with pytest.raises(PlanError):
            forecast(plan_of(PAIRS, **changes), files / "out", progress=quiet)


def test_a_study_of_which_every_run_failed_prints_the_reason_and_no_empty_table(files):
    command = ["study", "classes.yaml", "--out", "out", "--quiet", "--jobs", "1"]
    with pytest.MonkeyPatch.context() as patch:

        def refuse(*args: object) -> None:
            raise RuntimeError("nothing works")

        patch.setattr("lossgauge.study.run.setup.head_of", refuse)
        done = run_cli(*command)
    assert done.returncode == 1
    assert "all 2 runs failed, so there is no result: RuntimeError: nothing works" in done.stdout
    assert "gain:" not in done.stdout

"""Heads on a GPU, shared by two workers: the same study to within rounding."""

import pytest
import torch

from lossgauge.results.reader import read_study
from lossgauge.study.engines import Resources
from lossgauge.study.runner import run_study
from tests.support.studies import Quiet, small_plan


@pytest.mark.skipif(
    not torch.cuda.is_available(),
    reason="no GPU here: run on a machine with CUDA and its build of torch",
)
@pytest.mark.parametrize("jobs", [1, 2])
def test_two_workers_share_a_gpu_and_come_to_what_a_cpu_comes_to(tmp_path, jobs):
    plan = small_plan(losses="triplet,arcface", selection="best-validation")
    run_study(plan, tmp_path / "cpu", progress=Quiet())
    outcome = run_study(
        plan, tmp_path / "gpu", progress=Quiet(), resources=Resources(jobs=jobs, device="cuda")
    )
    assert outcome.failed == 0
    on_cpu, on_gpu = (read_study(tmp_path / place).results.summaries for place in ("cpu", "gpu"))
    for ours, theirs in zip(on_gpu, on_cpu, strict=True):
        assert ours["run"] == theirs["run"]
        for column in ("test_intra", "map_at_r", "train_inter"):
            assert ours[column] == pytest.approx(theirs[column], rel=0.02), column

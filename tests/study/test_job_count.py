"""How many jobs a study has by default, and when it stays in this process."""

import pytest

from lossgauge.study.engines import Resources
from lossgauge.study.job_count import WORKER_BYTES, choose_jobs, default_jobs, with_jobs
from lossgauge.study.runner import run_study
from tests.support.studies import small_plan

MANY = 10**9
"""Passes of hours."""


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch):
    monkeypatch.setattr("lossgauge.study.job_count.usable_cores", lambda: 8)
    monkeypatch.setattr("lossgauge.study.job_count.usable_memory", lambda: 100 * WORKER_BYTES)


@pytest.mark.parametrize(
    ("resources", "runs", "passes", "engine", "jobs"),
    [
        (Resources(), 100, MANY, "processes", 8),
        (Resources(), 5, MANY, "processes", 5),
        (Resources(), 1, MANY, "in-process", 1),
        (Resources(), 0, 0, "in-process", 1),
        # too little work for the start of a process
        (Resources(), 3, 1000, "in-process", 1),
        (Resources(cpus=2), 100, MANY, "processes", 4),
        (Resources(cpus=0.5), 100, MANY, "processes", 8),
        (Resources(cpus=16), 100, MANY, "in-process", 1),
        (Resources(device="cuda"), 100, MANY, "in-process", 1),
        # a number that is given stays, as far as there are runs
        (Resources(jobs=1), 100, MANY, "in-process", 1),
        (Resources(jobs=20), 100, MANY, "processes", 20),
        (Resources(jobs=2), 3, 1000, "processes", 2),
        (Resources(jobs=2), 1, 1000, "processes", 1),
        (Resources("ray"), 100, MANY, "ray", 8),
        (Resources("ray", jobs=3), 2, MANY, "ray", 2),
        (Resources("in-process", jobs=3), 9, MANY, "in-process", 1),
        (Resources("processes"), 3, 1000, "processes", 3),
    ],
)
def test_jobs_are_the_cores_as_far_as_there_are_runs_and_as_it_pays(
    resources, runs, passes, engine, jobs
):
    chosen = choose_jobs(resources, runs=runs, passes=passes)
    assert (chosen.engine, chosen.jobs) == (engine, jobs)
    assert chosen[2:] == resources[2:]


@pytest.mark.parametrize(
    ("resources", "engine"), [(Resources(), "processes"), (Resources(jobs=1), "in-process")]
)
def test_a_run_that_failed_before_may_not_end_this_process_unless_one_job_is_asked_for(
    resources, engine
):
    assert choose_jobs(resources, runs=1, passes=1, failed_before=True).engine == engine


@pytest.mark.parametrize(("workers", "jobs"), [(0.5, 1), (1.5, 1), (3.9, 3), (50, 8)])
def test_jobs_have_the_memory_they_need(monkeypatch, workers, jobs):
    free = int(workers * WORKER_BYTES)
    monkeypatch.setattr("lossgauge.study.job_count.usable_memory", lambda: free)
    assert default_jobs(Resources()) == jobs


def test_memory_that_the_system_does_not_tell_limits_nothing(monkeypatch):
    monkeypatch.setattr("lossgauge.study.job_count.usable_memory", lambda: None)
    assert default_jobs(Resources()) == 8


def test_runs_that_are_there_need_no_job(tmp_path, quiet, monkeypatch):
    plan = small_plan(losses="triplet,contrastive", epochs=1)
    run_study(plan, tmp_path, progress=quiet)
    monkeypatch.setattr("lossgauge.study.job_count.START_SECONDS", 0.0)
    chosen = []

    def noted(resources, ledger, store):
        chosen.append(with_jobs(resources, ledger, store))
        return Resources("in-process")

    monkeypatch.setattr("lossgauge.study.runner.with_jobs", noted)
    run_study(plan, tmp_path, progress=quiet)
    assert chosen[0].engine == "in-process"
    more = small_plan(losses="triplet,contrastive,ccl,scl", epochs=1)
    outcome = run_study(more, tmp_path, progress=quiet)
    assert (outcome.done, outcome.reused) == (2, 3)
    assert (chosen[1].engine, chosen[1].jobs) == ("processes", 2)

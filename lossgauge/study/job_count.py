"""How many runs to do at a time: as many as there are cores, if starting the processes pays."""

from __future__ import annotations

from lossgauge.machine import usable_cores, usable_memory
from lossgauge.results.writer import Store
from lossgauge.study.engines import LOCAL, Resources
from lossgauge.study.schedule.run_queue import Ledger, passes

WORKER_BYTES = 1_000_000_000
"""Memory of a worker at its peak; the features, which all workers share, are not in it."""

START_SECONDS = 3.0
"""Time that a worker needs to start, mostly for the import of torch."""

PASS_SECONDS, RUN_SECONDS = 20e-6, 0.1
"""Time of one pass over a training row on one thread, and of a run without its passes; right within a factor of three."""


def with_jobs(resources: Resources, ledger: Ledger, store: Store) -> Resources:
    """The engine and the number of jobs for the runs that are missing in the folder."""
    runs = {run.name: run for run in ledger.given}
    there = [run for run in runs.values() if store.is_there(run.name)]
    return choose_jobs(
        resources,
        runs=ledger.expected - len(there),
        passes=ledger.work - sum(map(passes, there)),
        failed_before=any(store.failure(name) is not None for name in runs),
    )


def choose_jobs(
    resources: Resources, *, runs: int, passes: int, failed_before: bool = False
) -> Resources:
    """The engine and the number of jobs for this number of runs and of passes over a training row.

    A given number of jobs is kept, up to the number of runs. A run that failed before is not done in this
    process if several jobs are allowed: it may have ended its process.
    """
    allowed = resources.jobs or default_jobs(resources)
    jobs = max(1, min(allowed, runs))
    engine = resources.engine
    if engine == LOCAL:
        seconds = passes * PASS_SECONDS + runs * RUN_SECONDS
        saved = seconds - seconds / jobs
        pays = resources.jobs is not None or failed_before or saved > START_SECONDS
        engine = "processes" if allowed > 1 and pays else "in-process"
    return resources._replace(engine=engine, jobs=1 if engine == "in-process" else jobs)


def default_jobs(resources: Resources) -> int:
    """One job for each core (or for each `cpus` cores), limited by the memory; one job on a GPU."""
    if resources.device != "cpu":
        return 1
    jobs, memory = usable_cores() // resources.threads, usable_memory()
    return max(1, jobs if memory is None else min(jobs, memory // WORKER_BYTES))

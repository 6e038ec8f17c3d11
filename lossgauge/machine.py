"""The cores and the memory that this process may use, with the limits of cgroups (containers, systemd, Slurm).

cgroup v2: https://docs.kernel.org/admin-guide/cgroup-v2.html; v1: https://docs.kernel.org/scheduler/sched-bwc.html
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

_ROOT = Path("/")


def usable_cores(root: Path = _ROOT) -> int:
    """Cores that this process may use, at least 1: those of its affinity, but not more than the CPU quota of its cgroups.

    A quota of 2.5 cores counts as 2, because a third process would only be throttled.
    """
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return max(1, int(min([cores, *_quotas(root)])))


def usable_memory(root: Path = _ROOT) -> int | None:
    """Bytes that this process may still use without swapping; None if the system does not report it (not Linux)."""
    free = [
        1024 * int(line.split()[1])
        for line in _read(root / "proc/meminfo").splitlines()
        if line.startswith("MemAvailable:")
    ]
    return max(0, min(numbers)) if (numbers := [*free, *_memory_left(root)]) else None


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """torch with this number of threads: with one, results do not depend on the number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _quotas(root: Path) -> Iterator[float]:
    """CPU quotas in cores."""
    for folder in _cgroups("cpu", root):
        quota, _, period = _read(folder / "cpu.max").strip().partition(" ")  # v2: "150000 100000"
        if not quota:
            quota = _read(folder / "cpu.cfs_quota_us").strip()  # v1: -1 without a limit
            period = _read(folder / "cpu.cfs_period_us").strip()
        if quota.isdigit() and period.isdigit() and int(period):
            yield int(quota) / int(period)


def _memory_left(root: Path) -> Iterator[int]:
    """Free bytes under each memory limit; memory that only caches files counts as free."""
    for folder in _cgroups("memory", root):
        for limit_name, usage_name, cached_name in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit, usage = (_read(folder / name).strip() for name in (limit_name, usage_name))
            if limit.isdigit() and usage.isdigit():  # "max" without a limit
                statistics = dict(
                    line.split()[:2] for line in _read(folder / "memory.stat").splitlines()
                )
                yield int(limit) - int(usage) + int(statistics.get(cached_name, 0))


def _cgroups(controller: str, root: Path) -> Iterator[Path]:
    """Folders of the cgroups whose limits apply to this process: its own cgroup and all parents.

    In a container, the path may be that of the host, which is not visible; then the mounted folder has the limit.
    """
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / (controller if controllers else "")
        folder = mount / path.lstrip("/")
        yield folder
        yield from (parent for parent in folder.parents if parent.is_relative_to(mount))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""

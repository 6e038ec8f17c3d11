"""Cores and memory by the files of a kernel: affinity, cgroup v2 and v1, on the host and in a container."""

import os
from pathlib import Path

import pytest
import torch

from lossgauge.machine import torch_threads, usable_cores, usable_memory

GIB = 2**30


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(8))


def system(root: Path, files: dict[str, str]) -> Path:
    """A root folder with such files."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V2 = {"proc/self/cgroup": "0::/user.slice/job\n"}
V1 = {"proc/self/cgroup": "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:cpuset:/\n0::/\n"}


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        (V2, 8),
        (V2 | {"sys/fs/cgroup/user.slice/job/cpu.max": "max 100000\n"}, 8),
        (V2 | {"sys/fs/cgroup/user.slice/job/cpu.max": "300000 100000\n"}, 3),
        (V2 | {"sys/fs/cgroup/user.slice/job/cpu.max": "250000 100000\n"}, 2),
        (V2 | {"sys/fs/cgroup/user.slice/job/cpu.max": "50000 100000\n"}, 1),
        (V2 | {"sys/fs/cgroup/user.slice/job/cpu.max": "1600000 100000\n"}, 8),
        (V2 | {"sys/fs/cgroup/user.slice/job/cpu.max": "broken\n"}, 8),
        # a folder above limits too
        (
            V2
            | {
                "sys/fs/cgroup/user.slice/job/cpu.max": "600000 100000\n",
                "sys/fs/cgroup/user.slice/cpu.max": "400000 100000\n",
            },
            4,
        ),
        # in a container: its own folder is the root of what is mounted
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        (
            V1
            | {
                "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us": "100000\n",
            },
            8,
        ),
        (
            V1
            | {
                "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us": "150000\n",
                "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us": "50000\n",
            },
            3,
        ),
        # in a container without a namespace the path is the host's, and is not visible
        (
            V1
            | {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "500000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            5,
        ),
    ],
)
def test_cores_are_those_of_the_affinity_within_the_quota_of_every_cgroup(tmp_path, files, cores):
    assert usable_cores(system(tmp_path, files)) == cores


MEMORY = {"proc/meminfo": "MemTotal:  16777216 kB\nMemAvailable:  8388608 kB\nSwapFree: 1 kB\n"}


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, None),
        (MEMORY, 8 * GIB),
        (V2 | MEMORY | {"sys/fs/cgroup/user.slice/job/memory.max": "max\n"}, 8 * GIB),
        (
            V2
            | MEMORY
            | {
                "sys/fs/cgroup/user.slice/job/memory.max": f"{4 * GIB}\n",
                "sys/fs/cgroup/user.slice/job/memory.current": f"{3 * GIB}\n",
                "sys/fs/cgroup/user.slice/job/memory.stat": f"anon 1\ninactive_file {GIB}\n",
            },
            2 * GIB,
        ),
        (
            V1
            | MEMORY
            | {
                "sys/fs/cgroup/memory/docker/memory.limit_in_bytes": f"{6 * GIB}\n",
                "sys/fs/cgroup/memory/docker/memory.usage_in_bytes": f"{5 * GIB}\n",
                "sys/fs/cgroup/memory/docker/memory.stat": f"total_inactive_file {2 * GIB}\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "1\n",
            },
            3 * GIB,
        ),
        # beyond its limit already
        (
            V2
            | MEMORY
            | {
                "sys/fs/cgroup/user.slice/job/memory.max": "1\n",
                "sys/fs/cgroup/user.slice/job/memory.current": "2\n",
            },
            0,
        ),
    ],
)
def test_memory_is_what_the_machine_and_every_cgroup_leave(tmp_path, files, free):
    assert usable_memory(system(tmp_path, files)) == free


def test_this_machine_has_a_core_and_memory(monkeypatch):
    monkeypatch.undo()
    assert usable_cores() >= 1
    assert usable_memory() is None or usable_memory() > 0


def test_the_number_of_threads_comes_back_after_an_error():
    before = torch.get_num_threads()

    @torch_threads(before + 1)
    def fails():
        raise ValueError(torch.get_num_threads())

    with pytest.raises(ValueError, match=str(before + 1)):
        fails()
    assert torch.get_num_threads() == before

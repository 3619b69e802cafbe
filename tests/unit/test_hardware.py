"""Host memory as a cgroup limits it, read from made-up /proc and /sys trees."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from t5panel.monitor.hardware import host_memory, process_memory, proportional_memory

GIB = 2**30
MEMINFO = f"MemTotal: {64 * 2**20} kB\nMemFree: 1 kB\nMemAvailable: {48 * 2**20} kB\nHugePages_Total: 0\n"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc of a machine with 64 GiB, 16 of them in use."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(MEMINFO)
    return tmp_path / "proc"


@pytest.fixture
def cgroup(tmp_path: Path) -> Path:
    """An empty /sys/fs/cgroup."""
    (tmp_path / "cgroup").mkdir()
    return tmp_path / "cgroup"


def write_group(folder: Path, **files: str) -> None:
    """A cgroup's files; `memory_max` is written to `memory.max`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(text)


def test_without_a_limit_the_whole_machine_counts(proc: Path, cgroup: Path) -> None:
    (proc / "self/cgroup").write_text("0::/user.slice\n")
    write_group(cgroup / "user.slice", memory_max="max\n", memory_current="5\n")

    assert host_memory(proc=proc, cgroup=cgroup) == (16 * GIB, 64 * GIB)


def test_version_2_limits_count_without_file_cache(proc: Path, cgroup: Path) -> None:
    (proc / "self/cgroup").write_text("0::/pod/container\n")
    write_group(
        cgroup / "pod/container",
        memory_max=f"{12 * GIB}\n",
        memory_current=f"{5 * GIB}\n",
        memory_stat=f"anon 7\ninactive_file {2 * GIB}\n",
    )

    assert host_memory(proc=proc, cgroup=cgroup) == (3 * GIB, 12 * GIB)


def test_the_tightest_group_on_the_way_up_counts(proc: Path, cgroup: Path) -> None:
    (proc / "self/cgroup").write_text("0::/pod/container\n")
    write_group(cgroup / "pod", memory_max=f"{8 * GIB}\n", memory_current=f"{6 * GIB}\n")
    write_group(cgroup / "pod/container", memory_max=f"{12 * GIB}\n", memory_current=f"{5 * GIB}\n")

    assert host_memory(proc=proc, cgroup=cgroup) == (6 * GIB, 8 * GIB)


def test_version_1_limits_count_too(proc: Path, cgroup: Path) -> None:
    (proc / "self/cgroup").write_text("5:cpu,cpuacct:/box\n4:memory:/box\n")
    write_group(
        cgroup / "memory/box",
        memory_limit_in_bytes=f"{4 * GIB}\n",
        memory_usage_in_bytes=f"{3 * GIB}\n",
        memory_stat=f"inactive_file 1\ntotal_inactive_file {GIB}\n",
    )

    used, limit = host_memory(proc=proc, cgroup=cgroup)

    assert limit == 4 * GIB
    assert used == 2 * GIB


def test_version_1_without_a_limit_says_so_with_a_huge_number(proc: Path, cgroup: Path) -> None:
    (proc / "self/cgroup").write_text("4:memory:/\n")
    write_group(cgroup / "memory", memory_limit_in_bytes="9223372036854771712\n", memory_usage_in_bytes="5\n")

    assert host_memory(proc=proc, cgroup=cgroup) == (16 * GIB, 64 * GIB)


def test_inside_a_container_the_group_is_mounted_at_the_root(proc: Path, cgroup: Path) -> None:
    (proc / "self/cgroup").write_text("0::/docker/1234\n")
    write_group(cgroup, memory_max=f"{2 * GIB}\n", memory_current=f"{GIB}\n")

    assert host_memory(proc=proc, cgroup=cgroup) == (GIB, 2 * GIB)


def test_without_cgroups_the_whole_machine_counts(proc: Path, cgroup: Path) -> None:
    assert host_memory(proc=proc, cgroup=cgroup) == (16 * GIB, 64 * GIB)


def test_the_memory_of_this_process_is_read() -> None:
    resident, anonymous = process_memory(os.getpid()) or (0, 0)

    assert resident > anonymous > 2**20
    assert 0 < (proportional_memory(os.getpid()) or 0) < 2 * resident


def test_a_process_that_is_gone_has_no_memory() -> None:
    assert process_memory(2**22 + 1) is None
    assert proportional_memory(2**22 + 1) is None

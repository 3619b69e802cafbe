"""What the shell allows its processes (`ulimit`)."""

from __future__ import annotations

import resource
from pathlib import Path

import msgspec

from t5panel.plan.planning import Finding

FEW_FILES = 1024
FEW_PROCESSES = 1024
"""Threads count: a rank has some dozens, and the user's other programs theirs."""


class Limits(msgspec.Struct, frozen=True):
    """Soft limits; None for unlimited. Bytes, or a count."""

    files: int | None
    processes: int | None
    locked: int | None
    core: int | None
    address_space: int | None
    core_files: bool = True
    """False when the kernel hands core dumps to a program."""


def read_limits(*, proc: Path = Path("/proc")) -> Limits:
    """The limits of this process, which a run inherits."""
    return Limits(
        files=_soft(resource.RLIMIT_NOFILE),
        processes=_soft(resource.RLIMIT_NPROC),
        locked=_soft(resource.RLIMIT_MEMLOCK),
        core=_soft(resource.RLIMIT_CORE),
        address_space=_soft(resource.RLIMIT_AS),
        core_files=not _core_pattern(proc).startswith("|"),
    )


def _soft(kind: int) -> int | None:
    limit = resource.getrlimit(kind)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def _core_pattern(proc: Path) -> str:
    try:
        return (proc / "sys/kernel/core_pattern").read_text(errors="replace")
    except OSError:
        return ""


def limit_findings(limits: Limits) -> tuple[Finding, ...]:
    """What these limits hold against a run."""
    found = []
    if limits.address_space is not None:
        size = f"{limits.address_space / 2**30:.1f} GiB"
        message = f"addresses are limited to {size} (ulimit -v): torch and mapped data reserve far more than they use"
        found.append(Finding("error", "limit.address-space", message, "ulimit -v unlimited"))
    if limits.files is not None and limits.files < FEW_FILES:
        message = f"a process may open {limits.files:,} files (ulimit -n): data workers need more"
        found.append(Finding("warning", "limit.files", message, "ulimit -n 4096"))
    if limits.processes is not None and limits.processes < FEW_PROCESSES:
        message = f"this user may have {limits.processes:,} processes and threads (ulimit -u)"
        found.append(Finding("warning", "limit.processes", message, "ulimit -u 4096"))
    if limits.core != 0 and limits.core_files:
        message = "a rank that crashes writes a core file as large as its memory (ulimit -c)"
        found.append(Finding("info", "limit.core", message, "ulimit -c 0"))
    return tuple(found)


def limits_text(limits: Limits) -> str:
    """`20,000 files, 96,365 processes`."""
    return f"{_count(limits.files)} files, {_count(limits.processes)} processes"


def _count(value: int | None) -> str:
    return "unlimited" if value is None else f"{value:,}"

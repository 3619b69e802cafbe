"""How /proc tells one process from a later one of the same pid."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Mapping
from pathlib import Path

STATE = 0
PARENT = 1
START_TIME = 19  # field 22 of /proc/PID/stat, counted after the command name
EXIT_STATUS = 49
"""As wait() gives it; of a zombie of the same user."""
PIDFD_OPEN = 434
"""Number of the system call, the same on every architecture."""


def stat_fields(pid: int | str) -> list[str] | None:
    """The fields of /proc/PID/stat behind the command name; None when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:  # noqa: PTH123 - hot path
            return file.read().rpartition(")")[2].split()
    except OSError:
        return None


def start_time_of(pid: int | str) -> int | None:
    """When a process started, in clock ticks since boot; None when there is none."""
    fields = stat_fields(pid)
    return None if fields is None else int(fields[START_TIME])


def pidfd_of(pid: int) -> int | None:
    """A descriptor that becomes readable when a process ends.

    None when it has ended already, or where the kernel (before 5.3) or a sandbox has none.
    """
    if hasattr(os, "pidfd_open"):  # uv's and conda's Python builds lack it
        try:
            return os.pidfd_open(pid)
        except OSError:
            return None
    descriptor = int(ctypes.CDLL(None).syscall(PIDFD_OPEN, pid, 0))
    return descriptor if descriptor >= 0 else None


def all_pids() -> list[int]:
    """Every process there is, zombies among them."""
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]  # noqa: PTH208 - pathlib costs 3 times as much


def carrying(variables: Mapping[str, str]) -> tuple[int, ...]:
    """Every living process of this user in whose environment all these variables stand."""
    wanted = {os.fsencode(f"{name}={value}") for name, value in variables.items()}
    found = []
    for pid in all_pids():
        with contextlib.suppress(OSError):
            if wanted <= set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")):  # a zombie's is empty
                found.append(pid)
    return tuple(found)

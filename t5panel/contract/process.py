"""How /proc tells one process from a later one of the same pid."""

from __future__ import annotations

STATE = 0
PARENT = 1
START_TIME = 19  # field 22 of /proc/PID/stat, counted after the command name


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

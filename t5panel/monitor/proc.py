"""Processes as /proc shows them: who lives, whose child it is, which run it belongs to."""

from __future__ import annotations

import contextlib
import signal
from dataclasses import dataclass
from pathlib import Path

from t5panel.contract.layout import RUN_DIR_VARIABLE, RunDir
from t5panel.contract.process import PARENT, START_TIME, STATE, all_pids, carrying, stat_fields


@dataclass(frozen=True, slots=True)
class Process:
    """One process, told apart from a later one of the same pid by its start time (clock ticks since boot)."""

    pid: int
    start_time: int
    state: str


def boot_id() -> str:
    """The kernel's id of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def read_process(pid: int) -> Process | None:
    """The process with this pid, None when there is none or it is a zombie."""
    fields = stat_fields(pid)
    if fields is None or fields[STATE] == "Z":
        return None
    return Process(pid, int(fields[START_TIME]), fields[STATE])


def describe(pid: int) -> str:
    """`pid 123 (python)`, and whether it is stuck; only its number when it is not to be seen from here."""
    process = read_process(pid)
    words = []
    with contextlib.suppress(OSError):
        words.append(Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip())
    if process and process.state == "D":
        words.append("uninterruptible: it waits for a disk or a driver")
    return f"pid {pid} ({', '.join(words)})" if words else f"pid {pid}"


def is_alive(pid: int, start_time: int) -> bool:
    """True when exactly this process still runs."""
    process = read_process(pid)
    return process is not None and process.start_time == start_time


def descendants(pid: int) -> tuple[int, ...]:
    """Living descendants of a process, zombies left out."""
    children: dict[int, list[tuple[int, str]]] = {}
    for other in all_pids():
        if fields := stat_fields(other):
            children.setdefault(int(fields[PARENT]), []).append((other, fields[STATE]))
    found, queue = [], [pid]
    while queue:
        for child, state in children.get(queue.pop(), ()):
            queue.append(child)
            if state != "Z":
                found.append(child)
    return tuple(found)


def marked(run: RunDir) -> tuple[int, ...]:
    """Every living process whose environment carries the run's mark, whoever its parent is."""
    return carrying({RUN_DIR_VARIABLE: run.mark[RUN_DIR_VARIABLE]})


def how_it_ended(code: int) -> str:
    """An exit code in words; negative ones are signals."""
    return f"returned {code}" if code >= 0 else f"was ended by {signal_name(-code)}"


def signal_name(number: int) -> str:
    """`SIGKILL`, or the number of a signal without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

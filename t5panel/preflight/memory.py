"""Host memory before a start: what this process may use, and what happens at the limit."""

from __future__ import annotations

from pathlib import Path

import msgspec

from t5panel.monitor.evidence import read_pressure
from t5panel.monitor.hardware import host_memory, meminfo
from t5panel.plan.machine import GIB
from t5panel.plan.planning import Finding

ALWAYS_CHECKED = 2
"""Of vm.overcommit_memory: no process may reserve more than there is."""
PRESSURE_PERCENT = 5.0
"""Of ten seconds in which nothing but waiting for memory happened: a machine at rest shows 0."""
NEARLY_FULL = 0.9


class HostFacts(msgspec.Struct, frozen=True):
    """Host memory at one moment, in bytes."""

    total: int
    limit: int
    """What this process may use at most: less than `total` in a limited cgroup."""
    used: int
    swap_total: int
    swap_free: int
    overcommit: int
    """vm.overcommit_memory: 0 heuristic, 1 always, 2 never."""
    pressure: float | None
    """Percent of the last ten seconds in which all processes waited for memory."""


def read_host(*, root: Path = Path("/")) -> HostFacts:
    """The host's memory as this process sees it."""
    proc, cgroup = root / "proc", root / "sys/fs/cgroup"
    sizes = meminfo(proc=proc)
    used, limit = host_memory(proc=proc, cgroup=cgroup)
    swap_total, swap_free = sizes.get("SwapTotal", 0), sizes.get("SwapFree", 0)
    _, pressure = read_pressure(root=root)
    return HostFacts(sizes["MemTotal"], limit, used, swap_total, swap_free, _overcommit(proc), pressure)


def _overcommit(proc: Path) -> int:
    try:
        return int((proc / "sys/vm/overcommit_memory").read_text(encoding="ascii"))
    except OSError:
        return 0


def host_findings(facts: HostFacts) -> tuple[Finding, ...]:
    """What host memory holds against a start; whether a run fits is the plan's to say."""
    found = []
    if facts.used > NEARLY_FULL * facts.limit:
        message = f"{facts.used / GIB:.1f} of {facts.limit / GIB:.1f} GiB of RAM are in use already"
        found.append(Finding("warning", "ram.full", message, "see who with `ps aux --sort -rss | head`"))
    if facts.pressure is not None and facts.pressure > PRESSURE_PERCENT:
        message = f"processes wait for memory {facts.pressure:.0f} % of the time"
        found.append(Finding("warning", "ram.pressure", message, "end what else runs here, or the kernel will"))
    if facts.overcommit == ALWAYS_CHECKED:
        message = "vm.overcommit_memory=2: CUDA reserves far more addresses than it uses, and will be refused"
        found.append(Finding("warning", "ram.overcommit", message, "sudo sysctl vm.overcommit_memory=0"))
    if facts.limit < facts.total:
        message = f"this process may use {facts.limit / GIB:.1f} of {facts.total / GIB:.1f} GiB of RAM (cgroup)"
        found.append(Finding("info", "ram.limit", message))
    return tuple(found)


def host_text(facts: HostFacts) -> str:
    """`3.1 of 12.0 GiB in use, swap 4.0 GiB`."""
    swap = f"swap {facts.swap_total / GIB:.1f} GiB" if facts.swap_total else "no swap"
    return f"{facts.used / GIB:.1f} of {facts.limit / GIB:.1f} GiB in use, {swap}"

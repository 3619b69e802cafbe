"""What is known about the end of a run: what a diagnosis is made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from t5panel.contract.records import Failure
from t5panel.monitor.gpu_memory import Batch

Asked = Literal["stop", "kill", "signal"]


@dataclass(frozen=True, slots=True)
class Log:
    """The end of one log; `written` is when its last line came, in unix seconds."""

    name: str
    written: float = 0.0
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Kills:
    """How often the kernel killed for want of memory; None where it cannot be read."""

    cgroup: int | None = None
    """`oom_kill` of the cgroup's memory.events."""
    machine: int | None = None
    """`oom_kill` of /proc/vmstat."""


@dataclass(frozen=True, slots=True)
class Host:
    """The host's memory at the last sample, bytes; pressure in percent of ten seconds (PSI avg10)."""

    used: int = 0
    limit: int = 0
    """0: not known."""
    some: float | None = None
    full: float | None = None
    kills_before: Kills = Kills()
    """At the start of the ranks."""
    kills_after: Kills = Kills()


@dataclass(frozen=True, slots=True)
class Login:
    """The login session that the run was started in; None where that is not known."""

    kill_user_processes: bool | None = None
    """logind's KillUserProcesses."""
    alive: bool | None = None


@dataclass(frozen=True, slots=True)
class Exit:
    """A process other than the launcher that ended before the launcher did: `rank 1`, `the deepspeed agent`.

    A negative code is a signal.
    """

    name: str
    code: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known about the end of a run; what is not known has its default. Logs begin with this attempt."""

    run_id: str = "RUN"
    launcher: Log | None = None
    """None: the ranks were never started."""
    ranks: tuple[Log, ...] = ()
    """Named `rank-0`, `rank-1`, …"""
    prepare: Log | None = None
    failures: tuple[Failure, ...] = ()
    exit_code: int | None = None
    """Of the launcher, or of the preparation when there is no launcher."""
    exits: tuple[Exit, ...] = ()
    """In the order of their ends, as far as they were seen."""
    launcher_name: str = ""
    """torchrun, accelerate or deepspeed."""
    host: Host = Host()
    free_disk: int | None = None
    step: int | None = None
    loss_finite: bool | None = None
    batch: Batch | None = None
    doing: str = ""
    """What the run last said that it does: `saving at step 40`."""
    asked: Asked | None = None
    """Who ended it: a front (stop, kill), or a signal to the supervisor."""
    boot_then: str = ""
    boot_now: str = ""
    supervisor_alive: bool = True
    login: Login = Login()
    kernel: tuple[str, ...] = ()
    """Lines of the kernel's log since the start of the ranks."""

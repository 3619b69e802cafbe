"""A program in a terminal of its own, and what it costs until something stands on it and from then on."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL
from subprocess import Popen
from typing import TYPE_CHECKING

from t5panel.monitor.hardware import process_memory
from t5panel.monitor.proc import descendants

if TYPE_CHECKING:
    from collections.abc import Iterator

COLUMNS, ROWS = 120, 30
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PATIENCE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Cost:
    """Since the start of a program: milliseconds of all its processes, of the wall clock, and bytes it wrote."""

    cpu: float
    wall: float
    written: int


@dataclass(frozen=True, slots=True)
class Rate:
    """Per second over a while: percent of one core, and bytes written to the terminal."""

    cpu: float
    written: float


class Screen:
    """A running program and what it wrote so far."""

    def __init__(self, pid: int, terminal: int) -> None:
        self.pid, self._terminal, self._begin = pid, terminal, time.monotonic()
        self.output = b""

    def until(self, *texts: str) -> Cost:
        """The cost by the time the program has written each of these, one after another.

        Raises: TimeoutError.
        """
        at = 0
        for text in texts:
            while (found := self.output.find(text.encode(), at)) < 0:
                if time.monotonic() - self._begin > PATIENCE_SECONDS:
                    raise TimeoutError(f"{text!r} was not written; the last was {self.output[-300:]!r}")
                self._read(0.01)
            at = found
        wall = time.monotonic() - self._begin
        return Cost(1000 * cpu_seconds(self.pid), 1000 * wall, len(self.output))

    def rest(self, seconds: float) -> Rate:
        """What it takes over some seconds in which nobody touches it."""
        cpu, written, deadline = cpu_seconds(self.pid), len(self.output), time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._read(left)
        return Rate(100 * (cpu_seconds(self.pid) - cpu) / seconds, (len(self.output) - written) / seconds)

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self._terminal, keys.encode())

    @property
    def resident(self) -> float:
        """MiB of memory that all its processes hold."""
        return sum(map(resident_mib, (self.pid, *descendants(self.pid))))

    def _read(self, seconds: float) -> None:
        if select.select([self._terminal], [], [], seconds)[0]:
            self.output += os.read(self._terminal, 1 << 16)


@contextmanager
def shown(argv: Sequence[str], env: Mapping[str, str]) -> Iterator[Screen]:
    """The program in a terminal of 120x30 with all colours; it is killed at the end."""
    terminal, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    colours = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
    with Popen(
        argv, stdin=inside, stdout=inside, stderr=inside, start_new_session=True, env={**os.environ, **colours, **env}
    ) as process:
        os.close(inside)
        try:
            yield Screen(process.pid, terminal)
        finally:
            end(process)
            os.close(terminal)


def end(process: Popen[bytes]) -> None:
    """Kill a process and all that it started."""
    for pid in (*descendants(process.pid), process.pid):
        if Path(f"/proc/{pid}").exists():
            os.kill(pid, SIGKILL)
    process.wait()


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, of those it started, and of those of them that ended and were waited for."""
    return sum(map(_own_cpu_seconds, (pid, *descendants(pid))))


def _own_cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        own = time.clock_gettime((~pid << 3) | 2)  # the clock of that process, as clock_getcpuclockid(3) makes it
    except (FileNotFoundError, ProcessLookupError, OSError):
        return 0.0
    return own + (int(fields[13]) + int(fields[14])) / TICKS_PER_SECOND


def resident_mib(pid: int) -> float:
    """Resident memory of a process."""
    return (process_memory(pid) or (0, 0))[0] / 2**20

"""Short-lived processes that help a supervisor and are no part of the training: hooks, stack dumps. All are bounded."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

MOST_HELPERS = 16


class Helpers:
    """Starts helpers, never waits for them, and kills those that take too long."""

    def __init__(self) -> None:
        self._running: dict[int, tuple[subprocess.Popen[bytes], float]] = {}

    @property
    def pids(self) -> tuple[int, ...]:
        """The helpers that run now."""
        return tuple(self._running)

    def start(self, argv: Sequence[str], log: Path, *, seconds: float, env: Mapping[str, str] | None = None) -> str:
        """Start a helper whose output goes to `log`; what went wrong, empty when it runs."""
        if len(self._running) >= MOST_HELPERS:
            return "too many helpers run already"
        try:
            with log.open("ab") as output:
                process = subprocess.Popen(
                    argv,
                    env={**os.environ, **(env or {})},
                    cwd=log.parent,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
        except OSError as error:
            return f"{argv[0]}: {error.strerror}"
        self._running[process.pid] = (process, time.monotonic() + seconds)
        return ""

    def ended(self, pid: int) -> None:
        """A child was reaped."""
        self._running.pop(pid, None)

    def end_overdue(self) -> None:
        """Kill the helpers whose time is over."""
        now = time.monotonic()
        for pid, (_, deadline) in self._running.items():
            if now > deadline:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)

"""What is left when a supervisor is killed: a process that ends whatever it started, and does nothing else.

The guard in each rank does the same. It can lose a race with the launcher, whose SIGTERM ends the ranks; a daemon that
one of them left would then live on with its card.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable

from t5panel.contract.layout import RunDir
from t5panel.contract.process import carrying
from t5panel.launch.processes import stop_all

_DEAF_TO = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE)


class Warden:
    """A fork of the supervisor in a session of its own, waiting on a pipe that only the supervisor's death closes."""

    def __init__(self, run: RunDir, *, closing: Iterable[int] = ()) -> None:
        """Fork it; `closing`: descriptors that it must not keep open."""
        supervisor = os.getpid()
        read_end, self._pipe = os.pipe2(os.O_CLOEXEC)
        self.pid = os.fork()
        if self.pid > 0:
            os.close(read_end)
            return
        try:
            for descriptor in (self._pipe, *closing):
                os.close(descriptor)
            _watch(run, supervisor, read_end)
        finally:
            os._exit(0)

    def dismiss(self) -> None:
        """The supervisor has seen to everything itself; returns when the warden is gone."""
        if self._pipe >= 0:
            os.write(self._pipe, b"\n")
            os.close(self._pipe)
            self._pipe = -1
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)


def _watch(run: RunDir, supervisor: int, pipe: int) -> None:
    """Return at the supervisor's word; at its silence end what bears the run's mark and its own."""
    os.setsid()
    for number in _DEAF_TO:
        signal.signal(number, signal.SIG_IGN)
    if os.read(pipe, 1):
        return
    mark = run.mark_of(supervisor)
    stop_all(lambda: carrying(mark), lambda: None, grace=0.0)

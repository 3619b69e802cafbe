"""Processes of a run: spawn them bound to us, stop them all and verify that none is left."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from t5panel.contract.records import PORT
from t5panel.monitor.proc import read_process

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_POLL_SECONDS = 0.05
STUCK_SECONDS = 1.0
"""After SIGKILL: what is still in state D then is not waited for."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """What a stop did: how many processes got which signal, how long it took, who would not die."""

    terminated: int
    killed: int
    seconds: float
    survivors: tuple[int, ...]


def become_subreaper() -> None:
    """Orphans among our descendants become our children instead of init's."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def spawn(argv: Sequence[str], env: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own that gets SIGTERM when we die. Call it from the main thread only.

    PDEATHSIG fires when the spawning thread ends, not when the process does.
    """
    parent = os.getpid()

    def bind_to_parent() -> None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    with log.open("ab") as output:
        return subprocess.Popen(
            argv,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=bind_to_parent,  # noqa: PLW1509 - we are single-threaded
        )


def at_free_port(argv: Sequence[str]) -> tuple[str, ...]:
    """An argv with a port of the loopback that is free now for every PORT in it."""
    return tuple(word.replace(PORT, str(free_port())) if PORT in word else word for word in argv)


def free_port() -> int:
    """A TCP port of the loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def stop_all(
    find: Callable[[], tuple[int, ...]], collect: Callable[[], object], *, grace: float, limit: float = 10.0
) -> Stopped:
    """End all processes that `find` gives: SIGTERM, wait `grace` seconds, then SIGKILL until none is left.

    `collect` is called while waiting, to reap those that are our children. Waits at most `grace + limit` seconds, and
    less when all that is left is in state D, which no signal ends; what is left then is named in `survivors`.
    """
    begin = time.monotonic()
    terminated = len(_signal_all(find(), signal.SIGTERM)) if grace > 0 else 0
    while find() and time.monotonic() - begin < grace:
        collect()
        time.sleep(_POLL_SECONDS)
    signalled: set[int] = set()
    killing = time.monotonic()
    while (left := find()) and (waited := time.monotonic() - killing) < limit:
        if waited > STUCK_SECONDS and all(map(_is_stuck, left)):
            break
        # Frozen first, so that none forks while we walk.
        _signal_all(left, signal.SIGSTOP)
        signalled.update(_signal_all(find(), signal.SIGKILL))
        collect()
        time.sleep(_POLL_SECONDS / 5)
    collect()
    return Stopped(terminated, len(signalled), time.monotonic() - begin, find())


def reap() -> dict[int, int]:
    """Collect ended children: pid → exit code, negative for a signal."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended[pid] = os.waitstatus_to_exitcode(status)


def _signal_all(pids: Sequence[int], number: signal.Signals) -> list[int]:
    """Those that got the signal."""
    sent = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            sent.append(pid)
    return sent


def _is_stuck(pid: int) -> bool:
    process = read_process(pid)
    return process is not None and process.state == "D"


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))

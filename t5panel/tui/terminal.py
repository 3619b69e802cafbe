"""The end of a terminal: signals end the panel cleanly, a dead pty ends it at once."""

from __future__ import annotations

import os
import select
import signal
import sys
from asyncio import AbstractEventLoop
from collections.abc import Callable

POLL_SECONDS = 2.0
EXIT_HANGUP = 129


def end_on_signals(loop: AbstractEventLoop, end: Callable[[], None]) -> None:
    """SIGHUP and SIGTERM restore the terminal and leave; they never touch a run."""
    for number in (signal.SIGHUP, signal.SIGTERM):
        loop.add_signal_handler(number, end)


def leave_if_dead() -> None:
    """End the process when its terminal is gone: with SIGHUP ignored, Textual would spin on it (64 % of a core)."""
    poll = select.poll()
    poll.register(sys.__stdin__.fileno() if sys.__stdin__ else 0, select.POLLHUP)
    if any(event & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, event in poll.poll(0)):
        os._exit(EXIT_HANGUP)

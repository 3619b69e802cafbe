"""How the ranks of a run ended, seen at the moment of their end: their launcher collects them and tells little of it.

deepspeed looks once a second and tells one code without its process; torchrun looks ten times a second.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterable

from t5panel.contract.process import EXIT_STATUS, START_TIME, STATE, pidfd_of, stat_fields
from t5panel.contract.records import RankId
from t5panel.monitor.clues import Exit


class Exits:
    """A pidfd of each rank becomes readable when it ends; /proc keeps its exit status until it is collected.

    Once one may have been collected unseen, later ends are not noted: the first of them would pass for the first of
    all.
    """

    def __init__(self, world: int) -> None:
        """`world`: how many ranks there will be."""
        self._world = world
        self._open: dict[int, RankId] = {}
        self._known: set[int] = set()
        self._missed = False
        self.seen: tuple[Exit, ...] = ()
        """In the order of the ends, as far as it is known."""

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What to wait for."""
        return tuple(self._open)

    def watch(self, ranks: Iterable[RankId]) -> None:
        """Follow ranks that are not followed yet; where the kernel has no pidfd, none is."""
        for rank in ranks:
            if rank.rank in self._known:
                continue
            self._known.add(rank.rank)
            if (descriptor := pidfd_of(rank.pid)) is not None:
                self._open[descriptor] = rank
            else:
                self._missed = True

    def note(self) -> None:
        """Read how those ranks ended that have. Let it watch every registered rank before: one is soon collected."""
        found = []
        for descriptor in select.select(self.descriptors, [], [], 0)[0]:
            if (rank := self._open.pop(descriptor, None)) is not None:
                os.close(descriptor)
                code = _exit_code(rank)
                self._missed |= code is None
                found.append(Exit(f"rank {rank.rank}", code or 0))
        self._missed |= bool(found) and len(self._known) < self._world
        if not self._missed:
            self.seen += tuple(sorted(found, key=_lateness))

    def close(self) -> None:
        """Follow nobody any more."""
        for descriptor in self._open:
            os.close(descriptor)
        self._open = {}


def _exit_code(rank: RankId) -> int | None:
    """How a rank ended; None when it was collected."""
    fields = stat_fields(rank.pid)
    if fields and fields[STATE] == "Z" and int(fields[START_TIME]) == rank.start_time:
        return os.waitstatus_to_exitcode(int(fields[EXIT_STATUS]))
    return None


def _lateness(end: Exit) -> int:
    """Of ends seen at once: a killed rank is before those that miss it, and these before those the launcher ends."""
    if end.code == -signal.SIGTERM:
        return 2
    return 0 if end.code < 0 else 1

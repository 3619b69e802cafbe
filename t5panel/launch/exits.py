"""How the ranks of a run ended, seen at the moment of their end: their launcher collects them and tells little of it.

deepspeed looks once a second and tells one code without its process; torchrun looks ten times a second.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from t5panel.contract.process import EXIT_STATUS, START_TIME, STATE, pidfd_of, stat_fields
from t5panel.contract.records import RankId
from t5panel.monitor.clues import Exit


class Exits:
    """A pidfd of each rank becomes readable when it ends; /proc keeps its exit status until it is collected."""

    def __init__(self) -> None:
        self._open: dict[int, RankId] = {}
        self._known: set[int] = set()
        self.seen: tuple[Exit, ...] = ()
        """Those that could be read, in the order of their ends."""

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What to wait for."""
        return tuple(self._open)

    def watch(self, ranks: Iterable[RankId]) -> None:
        """Follow ranks that are not followed yet; where the kernel has no pidfd, none is."""
        for rank in ranks:
            if rank.rank not in self._known and (descriptor := pidfd_of(rank.pid)) is not None:
                self._open[descriptor] = rank
            self._known.add(rank.rank)

    def note(self, readable: Iterable[int]) -> None:
        """Read how the ranks behind these descriptors ended."""
        for descriptor in readable:
            rank = self._open.pop(descriptor, None)
            if rank is None:
                continue
            os.close(descriptor)
            fields = stat_fields(rank.pid)
            if fields and fields[STATE] == "Z" and int(fields[START_TIME]) == rank.start_time:
                self.seen += (Exit(f"rank {rank.rank}", os.waitstatus_to_exitcode(int(fields[EXIT_STATUS]))),)

    def close(self) -> None:
        """Follow nobody any more."""
        for descriptor in self._open:
            os.close(descriptor)
        self._open = {}

"""What a run took of its machine: the highest readings while ranks lived, and the mean power while they made steps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from t5panel.contract.records import Sample
from t5panel.monitor.measured import Spans

MOST_UNDECIDED = 3600
"""Readings, an hour of them, that wait for the word whether steps were made meanwhile; older ones are given up."""
Watts = tuple[float, tuple[tuple[int, float], ...]]
"""A moment, and the power of each card that said it, by its index."""


@dataclass(frozen=True, slots=True)
class MachineUse:
    """Bytes and watts; None and empty where nothing was read."""

    vram: dict[int, int]
    """By card, everything on it."""
    rss: dict[int, int]
    """By rank."""
    power: dict[int, float]
    """By card."""
    vram_total: int | None
    """All cards at one moment."""
    rss_total: int | None
    """All ranks at one moment; pages that they share count for each."""
    host_used: int | None
    host_limit: int | None


class UseSums(msgspec.Struct):
    """Grows with the readings from `since` (unix seconds) on, in constant memory."""

    since: float = 0.0
    newest: float = 0.0
    """Time of the newest reading."""
    vram: dict[int, int] = msgspec.field(default_factory=dict)
    rss: dict[int, int] = msgspec.field(default_factory=dict)
    watts: dict[int, float] = msgspec.field(default_factory=dict)
    readings: dict[int, int] = msgspec.field(default_factory=dict)
    """How many the watts of each card were added up from."""
    vram_total: int = 0
    rss_total: int = 0
    host_used: int = 0
    host_limit: int = 0
    undecided: list[Watts] = msgspec.field(default_factory=list)
    """Later than it is known whether the ranks made steps."""

    def counted_from(self, since: float) -> UseSums | None:
        """The same with a later `since`; None where that cannot be told without reading anew."""
        if self.since == since:
            return self
        return None if since < self.since or self.newest >= since else UseSums(since, self.newest)

    def add(self, samples: Iterable[Sample]) -> None:
        """More readings. A loop of plain comparisons: a week on three cards is 600,000 of them."""
        rss, vram = self.rss, self.vram
        for sample in samples:
            self.newest = sample.time
            if not sample.ranks or sample.time < self.since:
                continue
            held = 0
            for rank in sample.ranks:
                held += rank.rss
                if rank.rss > rss.get(rank.rank, 0):
                    rss[rank.rank] = rank.rss
            self.rss_total = max(held, self.rss_total)
            self.host_used, self.host_limit = max(sample.ram_used, self.host_used), sample.ram_limit
            if not sample.cards:
                continue
            held, watts = 0, []
            for card in sample.cards:
                held += card.used
                if card.used > vram.get(card.index, 0):
                    vram[card.index] = card.used
                if card.power is not None:
                    watts.append((card.index, card.power))
            self.vram_total = max(held, self.vram_total)
            self.undecided.append((sample.time, tuple(watts)))

    def decide(self, spans: Spans) -> None:
        """Count the power of the readings at which the ranks made steps, as far as that is known by now."""
        known, rest = spans.end, len(self.undecided)
        for number, (moment, watts) in enumerate(self.undecided):
            if moment > known:
                rest = number
                break
            if moment in spans:
                for index, power in watts:
                    self.watts[index] = self.watts.get(index, 0.0) + power
                    self.readings[index] = self.readings.get(index, 0) + 1
        del self.undecided[: max(rest, len(self.undecided) - MOST_UNDECIDED)]

    @property
    def use(self) -> MachineUse:
        """All of it until now."""
        power = {index: total / self.readings[index] for index, total in self.watts.items()}
        totals = (size or None for size in (self.vram_total, self.rss_total, self.host_used, self.host_limit))
        return MachineUse(dict(self.vram), dict(self.rss), power, *totals)

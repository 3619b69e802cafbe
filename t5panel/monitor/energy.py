"""Energy of a run: the power that NVML said of its cards, summed over the time in which its ranks lived."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from t5panel.contract.records import Sample

LONGEST_GAP = 10.0
"""Seconds between two readings over which power is taken as known. They come each second; a pause leaves a gap."""


@dataclass(frozen=True, slots=True)
class Energy:
    """What all cards of a run took, everything on them."""

    joules: float
    seconds: float
    """For which power was read."""
    unread: float
    """For which ranks lived and NVML did not say the power of every card."""
    watts: float | None
    """All cards together, by the newest reading; None unless it has each of them."""


class EnergyMeter(msgspec.Struct):
    """Adds up readings as they come."""

    joules: float = 0.0
    seconds: float = 0.0
    unread: float = 0.0
    before: tuple[float, float | None] | None = None
    """Time and power of the newest reading with ranks."""
    seen: bool = False
    """Whether any power was ever read."""

    def add(self, samples: Iterable[Sample]) -> None:
        """More readings, in their order."""
        for sample in samples:
            if not sample.ranks:
                self.before = None
                continue
            watts = watts_of(sample)
            self.seen = self.seen or watts is not None
            if self.before is not None:
                self._add(sample.time - self.before[0], self.before[1], watts)
            self.before = sample.time, watts

    @property
    def energy(self) -> Energy | None:
        """All of it until now; None when no power was ever read."""
        if not self.seen:
            return None
        return Energy(self.joules, self.seconds, self.unread, self.before[1] if self.before else None)

    def _add(self, seconds: float, before: float | None, now: float | None) -> None:
        if not 0 <= seconds <= LONGEST_GAP:
            return
        if before is None or now is None:
            self.unread += seconds
            return
        self.joules += seconds * (before + now) / 2
        self.seconds += seconds


def watts_of(sample: Sample) -> float | None:
    """Power of all cards of a reading; None unless it has each of them."""
    watts = [card.power for card in sample.cards if card.power is not None]
    return sum(watts) if watts and len(watts) == len(sample.cards) else None

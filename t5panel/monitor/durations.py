"""The median of any number of durations in the memory of a few."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

import msgspec

FINENESS = 1000
"""Steps of one in the logarithm within which durations count as alike: the median is known to 0.1 %."""


class Durations(msgspec.Struct):
    """Counts of durations that are alike, and one of each kind."""

    counts: dict[int, int] = msgspec.field(default_factory=dict)
    newest: dict[int, float] = msgspec.field(default_factory=dict)

    def extend(self, seconds: Sequence[float]) -> None:
        """More; those without a length are not counted."""
        known = seconds if min(seconds, default=1.0) > 0 else [each for each in seconds if each > 0]
        keys = [int(FINENESS * logarithm) for logarithm in map(math.log, known)]
        for key, count in Counter(keys).items():
            self.counts[key] = self.counts.get(key, 0) + count
        self.newest.update(zip(keys, known, strict=True))

    @property
    def middle(self) -> float | None:
        """The median, each duration taken for the newest of those like it; None without any."""
        count = sum(self.counts.values())
        return (self._at((count - 1) // 2) + self._at(count // 2)) / 2 if count else None

    def _at(self, rank: int) -> float:
        keys = sorted(self.counts)
        ends = accumulate(self.counts[key] for key in keys)
        return self.newest[next(key for key, end in zip(keys, ends, strict=True) if rank < end)]

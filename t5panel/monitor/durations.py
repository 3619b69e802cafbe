"""The median of any number of durations in the memory of a few."""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import accumulate

FINENESS = 1000
"""Steps of one in the logarithm within which durations count as alike: the median is known to 0.1 %."""


class Durations:
    """Counts and sums of durations that are alike."""

    def __init__(self) -> None:
        self._counts = defaultdict[int, int](int)
        self._sums = defaultdict[int, float](float)

    def add(self, seconds: float) -> None:
        """One more; none is not counted."""
        if seconds > 0:
            key = round(FINENESS * math.log(seconds))
            self._counts[key] += 1
            self._sums[key] += seconds

    @property
    def middle(self) -> float | None:
        """The median, each duration taken for the mean of those like it; None without any."""
        count = sum(self._counts.values())
        return (self._at((count - 1) // 2) + self._at(count // 2)) / 2 if count else None

    def _at(self, rank: int) -> float:
        keys = sorted(self._counts)
        ends = accumulate(self._counts[key] for key in keys)
        key = next(key for key, end in zip(keys, ends, strict=True) if rank < end)
        return self._sums[key] / self._counts[key]

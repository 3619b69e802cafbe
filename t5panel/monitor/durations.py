"""The median of any number of durations in the memory of a few."""

from __future__ import annotations

import math
from collections import defaultdict

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
        """The mean of those around the median, of an even number the lower one; None without any."""
        left = (sum(self._counts.values()) + 1) // 2
        for key in sorted(self._counts):
            left -= self._counts[key]
            if left <= 0:
                return self._sums[key] / self._counts[key]
        return None

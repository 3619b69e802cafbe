"""The loss of a whole run in constant memory, for a plot of all of it: the extremes of equal stretches of rows."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from t5panel.monitor.steps import Column, column_edges, filled

LIMIT = 1 << 14
"""Stretches; when there are so many, every two become one. Half of them are still thirty in each column of a plot."""


@dataclass(slots=True)
class LossCurve:
    """Mean loss per target token over steps and over seconds of training alone; only its reader adds to it."""

    steps: array[int] = field(default_factory=lambda: array("q"))
    """The last step of each stretch."""
    seconds: array[float] = field(default_factory=lambda: array("d"))
    lows: array[float] = field(default_factory=lambda: array("f"))
    """The least loss of each stretch; greater than its greatest where none was finite."""
    highs: array[float] = field(default_factory=lambda: array("f"))
    first: float | None = None
    last: float | None = None
    """Of the newest row; None as well where a resume took rows of its stretch back."""
    rows: int = 1
    """Of each stretch but the last."""
    rows_of_last: int = 0

    def add(self, step: int, step_seconds: float, loss: float | None) -> None:
        """The next row, and the seconds it took."""
        if not self.steps:
            self.first = loss
        self.last = loss
        seconds = step_seconds + (self.seconds[-1] if self.seconds else 0.0)
        low, high = (math.inf, -math.inf) if loss is None else (loss, loss)
        if self.steps and self.rows_of_last < self.rows:
            self._set_last(step, seconds, min(low, self.lows[-1]), max(high, self.highs[-1]))
            self.rows_of_last += 1
            return
        if len(self.steps) == LIMIT:
            self._halve()
        self.steps.append(step)
        self.seconds.append(seconds)
        self.lows.append(low)
        self.highs.append(high)
        self.rows_of_last = 1

    def cut(self, step: int) -> None:
        """Forget the rows after a step; of a stretch that holds it all of them."""
        while self.steps and self.steps[-1] > step:
            for values in (self.steps, self.seconds, self.lows, self.highs):
                values.pop()
            self.last, self.rows_of_last = None, self.rows
        if self.rows == 1 and self.highs and self.last is None and math.isfinite(self.highs[-1]):
            self.last = self.highs[-1]

    def columns(self, along: Sequence[float], low: float, high: float, count: int) -> list[Column]:
        """Least and greatest loss in each of `count` columns; `along` says where the stretches stand."""
        places = [bisect_right(along, edge) for edge in column_edges(low, high, count)]
        found = (
            (min(self.lows[begin:end], default=math.inf), max(self.highs[begin:end], default=-math.inf))
            for begin, end in pairwise(places)
        )
        return filled(found)

    def _set_last(self, step: int, seconds: float, low: float, high: float) -> None:
        self.steps[-1], self.seconds[-1], self.lows[-1], self.highs[-1] = step, seconds, low, high

    def _halve(self) -> None:
        self.steps, self.seconds = self.steps[1::2], self.seconds[1::2]
        self.lows = array("f", map(min, self.lows[::2], self.lows[1::2]))
        self.highs = array("f", map(max, self.highs[::2], self.highs[1::2]))
        self.rows *= 2
        self.rows_of_last = self.rows

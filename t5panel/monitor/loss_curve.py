"""The loss of a whole run in constant memory, for a plot of all of it: the extremes of equal stretches of rows."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any

import msgspec

from t5panel.contract.records import Step
from t5panel.monitor.pyramid import NOTHING, both, extremes
from t5panel.monitor.steps import Column, column_edges, filled

LIMIT = 1 << 14
"""Stretches; when there are so many, every two become one. Half of them are still thirty in each column of a plot."""


class CurveEnds(msgspec.Struct, frozen=True):
    """What a curve knows besides its stretches."""

    first: float | None
    last: float | None
    rows: int
    rows_of_last: int


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

    def extend(self, records: Sequence[Step], losses: Sequence[float], seconds: Sequence[float]) -> None:
        """The next records, their losses, NaN where one was not finite, and the seconds that each of them took."""
        if not self.steps:
            self.first = records[0].loss
        times = list(accumulate(seconds, initial=self.seconds[-1] if self.seconds else 0.0))[1:]
        begin = 0
        while begin < len(records):
            if not self.steps or self.rows_of_last >= self.rows:
                self._begin()
            end = min(begin + self.rows - self.rows_of_last, len(records))
            self.lows[-1], self.highs[-1] = both((self.lows[-1], self.highs[-1]), extremes(losses[begin:end]))
            self.steps[-1], self.seconds[-1] = records[end - 1].step, times[end - 1]
            self.rows_of_last += end - begin
            begin = end
        self.last = records[-1].loss

    def cut(self, step: int) -> None:
        """Forget the rows after a step; of a stretch that holds it all of them."""
        while self.steps and self.steps[-1] > step:
            for values in self.arrays:
                values.pop()
            self.last, self.rows_of_last = None, self.rows
        if self.rows == 1 and self.highs and self.last is None and math.isfinite(self.highs[-1]):
            self.last = self.highs[-1]

    @property
    def arrays(self) -> tuple[array[Any], ...]:
        """All stretches, to be kept together with `ends`."""
        return self.steps, self.seconds, self.lows, self.highs

    @property
    def ends(self) -> CurveEnds:
        """What is known besides the stretches."""
        return CurveEnds(self.first, self.last, self.rows, self.rows_of_last)

    @classmethod
    def restored(cls, arrays: Sequence[array[Any]], ends: CurveEnds) -> LossCurve:
        """From kept arrays.

        Raises: ValueError when they cannot be those of a curve.
        """
        steps, seconds, lows, highs = arrays
        if len({len(values) for values in arrays}) != 1 or len(steps) > LIMIT:
            raise ValueError("not the arrays of a curve")
        return cls(steps, seconds, lows, highs, ends.first, ends.last, ends.rows, ends.rows_of_last)

    def columns(self, along: Sequence[float], low: float, high: float, count: int) -> list[Column]:
        """Least and greatest loss in each of `count` columns; `along` says where the stretches stand."""
        places = [bisect_right(along, edge) for edge in column_edges(low, high, count)]
        found = (
            (min(self.lows[begin:end], default=math.inf), max(self.highs[begin:end], default=-math.inf))
            for begin, end in pairwise(places)
        )
        return filled(found)

    def _begin(self) -> None:
        """A new stretch, still without rows."""
        if len(self.steps) == LIMIT:
            self._halve()
        for values, nothing in zip(self.arrays, (0, 0.0, *NOTHING), strict=True):
            values.append(nothing)
        self.rows_of_last = 0

    def _halve(self) -> None:
        self.steps, self.seconds = self.steps[1::2], self.seconds[1::2]
        self.lows = array("f", map(min, self.lows[::2], self.lows[1::2]))
        self.highs = array("f", map(max, self.highs[::2], self.highs[1::2]))
        self.rows *= 2
        self.rows_of_last = self.rows

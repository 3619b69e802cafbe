"""What rank 0 said of every step: the newest rows as they are, all rows as pyramids, older rows from their file."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from threading import Lock
from typing import Any, Literal

from t5panel.contract.records import Step
from t5panel.monitor.pyramid import BASE, FAN, NOTHING, Extremes, Pyramid, both, extremes, level_of

Quantity = Literal["loss", "learning_rate", "grad_norm", "samples_per_second"]
QUANTITIES: tuple[Quantity, ...] = ("loss", "learning_rate", "grad_norm", "samples_per_second")
KEPT_ROWS = 16_384
"""Rows that stay in memory as they are, at least; a multiple of BASE."""
Column = tuple[int, float, float]
"""A column of a plot with the least and the greatest value in it."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Steps in their order and a value of each quantity for each; NaN where it was not finite or not measured."""

    steps: Sequence[int]
    values: tuple[Sequence[float], ...]
    """In the order of QUANTITIES."""

    def of(self, quantity: Quantity) -> Sequence[float]:
        """The values of one quantity."""
        return self.values[QUANTITIES.index(quantity)]

    def part(self, begin: int, end: int) -> Rows:
        """Rows from one index up to another."""
        return Rows(self.steps[begin:end], tuple(values[begin:end] for values in self.values))


def rows_of(records: Sequence[Step]) -> Rows:
    """The rows of records. Samples per second are of one record: rows of a step over its seconds."""
    nan = math.nan
    return Rows(
        array("q", [one.step for one in records]),
        (
            known_values([one.loss for one in records]),
            array("f", [one.learning_rate for one in records]),
            known_values([one.grad_norm for one in records]),
            array("f", [one.samples / ((one.step * one.step_seconds) or nan) for one in records]),
        ),
    )


def known_values(values: Sequence[float | None]) -> array[float]:
    """Values, NaN where there is none. To try it without looking at each is a third of the cost of rows."""
    try:
        return array("f", values)  # type: ignore[arg-type]  # tried
    except TypeError:
        return array("f", [math.nan if value is None else value for value in values])


class StepLog:
    """All steps of a run. `reread(low, high)` gives the records of these steps from the file, void ones left out."""

    def __init__(self, reread: Callable[[float, float], Sequence[Step]]) -> None:
        self._reread = reread
        self._lock = Lock()
        self._firsts = array("q")
        self._pyramids = tuple(Pyramid() for _ in QUANTITIES)
        self._steps = array("q")
        self._values = tuple(array("f") for _ in QUANTITIES)
        self._begin = 0
        self._reread_last: tuple[float, float, Rows] = (math.inf, -math.inf, rows_of(()))

    @property
    def arrays(self) -> tuple[array[Any], ...]:
        """All that is in memory, to be kept together with `first_kept`."""
        pyramids = (values for pyramid in self._pyramids for values in pyramid.arrays)
        return self._firsts, self._steps, *self._values, *pyramids

    @property
    def first_kept(self) -> int:
        """The number of the first row that is in memory as it is."""
        return self._begin

    @classmethod
    def restored(
        cls, reread: Callable[[float, float], Sequence[Step]], first_kept: int, arrays: Sequence[Any]
    ) -> StepLog:
        """From kept arrays.

        Raises: ValueError when they cannot be those of a log.
        """
        log, series = cls(reread), len(QUANTITIES)
        log._begin = first_kept
        log._firsts, log._steps, log._values = arrays[0], arrays[1], tuple(arrays[2 : 2 + series])
        levels = arrays[2 + series :]
        each = len(levels) // series
        log._pyramids = tuple(Pyramid.restored(levels[begin : begin + each]) for begin in range(0, len(levels), each))
        rows, whole = len(log), {len(values) for values in log._values}
        sizes = (whole, len(log._firsts), {len(pyramid) for pyramid in log._pyramids})
        if first_kept < 0 or sizes != ({len(log._steps)}, -(-rows // BASE), {rows // BASE}):
            raise ValueError("not the arrays of a log")
        return log

    def __len__(self) -> int:
        return self._begin + len(self._steps)

    @property
    def first(self) -> int | None:
        """The first step; None without any."""
        return self._firsts[0] if self._firsts else None

    @property
    def last(self) -> int | None:
        """The newest step; None without any."""
        return self._steps[-1] if self._steps else None

    def extend(self, rows: Rows) -> None:
        """More steps, all later than those before."""
        with self._lock:
            self._append(rows)

    def cut(self, step: int) -> None:
        """Forget every step after this one."""
        with self._lock:
            self._cut(step)

    def rows(self, low: float, high: float) -> Rows:
        """The rows from one step to another as they were written; from the file where memory holds them no more."""
        with self._lock:
            return self._rows(low, high)

    def at(self, step: float) -> tuple[int, dict[Quantity, float]] | None:
        """The last row up to a step; None when there is none."""
        with self._lock:
            entry = bisect_right(self._firsts, step) - 1
            rows = self._rows(self._firsts[entry] if entry >= 0 else math.inf, step)
        if not rows.steps:
            return None
        return rows.steps[-1], {quantity: rows.of(quantity)[-1] for quantity in QUANTITIES}

    def after(self, step: float) -> int | None:
        """The next step that has a row; None at the end."""
        with self._lock:
            entry = bisect_right(self._firsts, step)
            rows = self._rows(
                math.nextafter(step, math.inf), self._firsts[entry] if entry < len(self._firsts) else math.inf
            )
        return rows.steps[0] if rows.steps else None

    def columns(self, quantity: Quantity, low: float, high: float, count: int) -> list[Column]:
        """Least and greatest value in each of `count` columns that holds any; the first is around `low`.

        Where a column holds many rows, they are taken together by their first step: a value may be drawn up to one
        column too early. Below that scale every value stands in its own column.
        """
        edges = column_edges(low, high, count)
        with self._lock:
            begin, end = bisect_right(self._firsts, edges[0]), bisect_right(self._firsts, edges[-1])
            if end - begin < count:
                rows = self._rows(edges[0], edges[-1])
                return filled(raw_columns(rows.steps, rows.of(quantity), edges))
            return filled(self._coarse(QUANTITIES.index(quantity), edges, level_of((end - begin) / count)))

    def _coarse(self, number: int, edges: Sequence[float], level: int) -> Iterable[Extremes]:
        """From the pyramid, and from memory what no entry of it holds yet."""
        size, pyramid = FAN**level, self._pyramids[number]
        unfinished = extremes(self._values[number][len(pyramid) * BASE - self._begin :])
        starts = [-(-bisect_right(self._firsts, edge) // size) for edge in edges]
        for begin, end in pairwise(starts):
            found = pyramid.between(begin, end, level)
            yield both(found, unfinished) if begin < end and end * size > len(pyramid) else found

    def _append(self, rows: Rows) -> None:
        self._steps.extend(rows.steps)
        for kept, new in zip(self._values, rows.values, strict=True):
            kept.extend(new)
        size = len(self._steps)
        self._firsts.extend(self._steps[len(self._firsts) * BASE - self._begin :: BASE])
        for pyramid, values in zip(self._pyramids, self._values, strict=True):
            pyramid.extend(values[len(pyramid) * BASE - self._begin : size // BASE * BASE])
        if size >= 2 * KEPT_ROWS:
            self._keep(slice((size - KEPT_ROWS) // BASE * BASE, None))

    def _keep(self, part: slice) -> None:
        """Of the rows in memory only these."""
        begin, end, _ = part.indices(len(self._steps))
        del self._steps[end:], self._steps[:begin]
        for kept in self._values:
            del kept[end:], kept[:begin]
        self._begin += begin

    def _cut(self, step: int) -> None:
        self._reread_last = (math.inf, -math.inf, rows_of(()))
        if self._begin and step < self._oldest:
            self._read_back(step)
        self._keep(slice(bisect_right(self._steps, step)))
        self._shorten(len(self))

    def _read_back(self, step: int) -> None:
        """Let memory hold the entry of a step, read from the file again, and nothing later."""
        entry = max(0, bisect_right(self._firsts, step) - 1)
        begin = self._firsts[entry]
        self._keep(slice(0))
        self._begin = entry * BASE
        self._shorten(self._begin)
        self._append(rows_of(self._reread(begin, step)))

    def _shorten(self, rows: int) -> None:
        del self._firsts[-(-rows // BASE) :]
        for pyramid in self._pyramids:
            pyramid.cut(rows // BASE)

    @property
    def _oldest(self) -> float:
        """The oldest step in memory."""
        return self._steps[0] if self._steps else math.inf

    def _rows(self, low: float, high: float) -> Rows:
        low = max(low, self._firsts[0]) if self._firsts else low
        if self._begin and low < self._oldest:
            return self._from_file(low, high)
        return Rows(self._steps, self._values).part(bisect_left(self._steps, low), bisect_right(self._steps, high))

    def _from_file(self, low: float, high: float) -> Rows:
        """A view looks at the same rows again and again: those read last are kept."""
        begin, end, rows = self._reread_last
        if not begin <= low <= high <= end:
            rows = rows_of(self._reread(low, high))
            if rows.steps and self._steps:
                self._reread_last = (low, min(high, self._oldest), rows)
        return rows.part(bisect_left(rows.steps, low), bisect_right(rows.steps, high))


def column_edges(low: float, high: float, count: int) -> list[float]:
    """Where columns begin, and where the last one ends; `low` and `high` are the middles of the outer ones."""
    width = (high - low) / max(1, count - 1) or 1.0
    return [low + (column - 0.5) * width for column in range(count + 1)]


def raw_columns(steps: Sequence[float], values: Sequence[float], edges: Sequence[float]) -> Iterable[Extremes]:
    """Extremes of the values between edges; costs one pass over them."""
    end = bisect_right(steps, edges[0])
    for edge in edges[1:]:
        begin, end = end, bisect_right(steps, edge, end)
        yield extremes(values[begin:end]) if begin < end else NOTHING


def filled(columns: Iterable[Extremes]) -> list[Column]:
    """The columns that hold a value, with their numbers."""
    return [(column, low, high) for column, (low, high) in enumerate(columns) if low <= high]

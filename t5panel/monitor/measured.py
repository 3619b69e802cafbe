"""What rank 0 measured, all starts together, kept as sums: how fast its warm steps were and where their time went."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter, mul

import msgspec

from t5panel.contract.records import RunInfo, Step
from t5panel.monitor.durations import Durations
from t5panel.monitor.pace import shares_of

WARM_UP_STEPS = 3
"""After each start; records that hold any of them are left out of the pace. Kernels are chosen, the caches fill."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Speed of warm steps; evaluations and saves are not in them."""

    step_seconds: float
    """The median, of one optimizer step."""
    samples_per_second: float
    target_tokens_per_second: float
    data_wait_share: float
    """Of the time of these steps, spent waiting for batches."""
    steps: int
    communication_share: float | None = None
    """Of the same time, spent waiting for other ranks' gradients; None unless every record says it."""


def changed_at(info: RunInfo) -> float:
    """When the settings of a run last changed, in unix seconds; 0 when they are those of its start."""
    return max([0.0, *[each.time for each in info.recoveries], *[each.time for each in info.changes]])


class Spans(msgspec.Struct):
    """When the ranks made steps, in unix seconds: `begins` ascend, and each has its end."""

    begins: list[float] = msgspec.field(default_factory=list)
    ends: list[float] = msgspec.field(default_factory=list)

    def begin(self, moment: float) -> None:
        """From here on they make steps."""
        self.begins.append(moment)
        self.ends.append(moment)

    def reach(self, moment: float) -> None:
        """A step was made."""
        if self.ends:
            self.ends[-1] = moment

    @property
    def end(self) -> float:
        """Up to where it is known whether they made steps."""
        return self.ends[-1] if self.ends else 0.0

    def __contains__(self, moment: float) -> bool:
        at = bisect_right(self.begins, moment) - 1
        return at >= 0 and moment <= self.ends[at]


class TimedSteps(msgspec.Struct):
    """Sums over warm steps; seconds."""

    durations: Durations = msgspec.field(default_factory=Durations)
    count: int = 0
    seconds: float = 0.0
    data: float = 0.0
    communication: float | None = 0.0
    """None as soon as one record does not say it."""
    tokens: int = 0

    def add(self, records: Sequence[Step], counts: Sequence[int]) -> None:
        """More records, of so many steps each."""
        seconds = [one.step_seconds for one in records]
        waits = [one.communication_seconds for one in records]
        self.durations.extend(seconds)
        self.count += sum(counts)
        self.seconds += sum(map(mul, counts, seconds))
        self.data += sum(map(mul, counts, [one.data_wait_seconds for one in records]))
        self.tokens += sum([one.target_tokens for one in records])
        if self.communication is not None:
            known = [wait for wait in waits if wait is not None]
            told = len(known) == len(waits)
            self.communication = self.communication + sum(map(mul, counts, known)) if told else None


class TrainingSums(msgspec.Struct):
    """All that rank 0 recorded; pace, peaks and spans from `since` (unix seconds) on."""

    since: float = 0.0
    newest: float = 0.0
    """Time of the newest step."""
    starts: int = 0
    not_finite: int = 0
    """Records whose loss was not finite."""
    at: int = 0
    """The step up to which everything is recorded."""
    warming: int = WARM_UP_STEPS
    allocated: int | None = None
    """Peak of torch's allocator on rank 0's card, in bytes."""
    reserved: int | None = None
    timed: TimedSteps = msgspec.field(default_factory=TimedSteps)
    spans: Spans = msgspec.field(default_factory=Spans)

    def counted_from(self, since: float) -> TrainingSums | None:
        """The same with a later `since`; None where that cannot be told without reading anew."""
        if self.since == since:
            return self
        if since < self.since or self.newest >= since:
            return None
        return TrainingSums(since, self.newest, self.starts, self.not_finite, self.at, self.warming)

    def begin(self, step: int) -> None:
        """A start after this step. The steps of earlier ones count for the pace, also those that became void."""
        self.at, self.warming = step, WARM_UP_STEPS
        self.starts += 1

    def run(self, moment: float) -> None:
        """The ranks make steps from here on."""
        if moment >= self.since:
            self.spans.begin(moment)

    def add(self, records: Sequence[Step]) -> list[float]:
        """The next records, all of one start; the seconds of training that each of them tells of."""
        counts, last = self._counts(records), records[-1]
        self.at, self.newest = last.step, last.time
        self.not_finite += [one.loss for one in records].count(None)
        if last.time >= self.since:
            self.spans.reach(last.time)
            # Both are peaks since the start.
            self.allocated = _higher(self.allocated, last.vram_allocated)
            self.reserved = _higher(self.reserved, last.vram_reserved)
            self._time(records, counts)
        return [count * one.step_seconds for count, one in zip(counts, records, strict=True)]

    def _counts(self, records: Sequence[Step]) -> list[int]:
        """How many steps each of the next records tells of."""
        if records[-1].step - self.at == len(records):
            return [1] * len(records)
        steps = [self.at, *[one.step for one in records]]
        return [max(1, step - before) for before, step in pairwise(steps)]

    def _time(self, records: Sequence[Step], counts: Sequence[int]) -> None:
        warm = bisect_left(records, self.since, key=attrgetter("time"))
        while warm < len(records) and self.warming > 0:
            self.warming -= counts[warm]
            warm += 1
        if warm < len(records):
            self.timed.add(records[warm:], counts[warm:])

    def pace(self, effective_batch: int | None) -> Pace | None:
        """None before a warm step and without a start."""
        timed, seconds = self.timed, self.timed.durations.middle
        shares = shares_of(timed.seconds, timed.data, timed.communication)
        if effective_batch is None or seconds is None or shares is None:
            return None
        return Pace(
            step_seconds=seconds,
            samples_per_second=effective_batch / seconds,
            target_tokens_per_second=timed.tokens / timed.count / seconds,
            data_wait_share=shares.data,
            steps=timed.count,
            communication_share=shares.communication,
        )


def _higher(known: int | None, size: int | None) -> int | None:
    return known if size is None else size if known is None else max(known, size)

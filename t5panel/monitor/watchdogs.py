"""What the supervisor watches for: records and readings in, alerts out. Has no clock, no files, no processes.

An alert is raised once, by a warning or an error, and is over with an `info` of the same name (records.ALERTS). `now`
is always seconds of a clock that never jumps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean, median

from t5panel.contract.records import Card, Sample, Severity, Step

STALL_SECONDS = 60.0
STALL_TIMES_MEDIAN = 5
FIRST_STEP_SECONDS = 1800.0
"""From the start of the ranks to their first record: weights are loaded, kernels chosen, collectives set up."""
RECENT_RECORDS = 50
SPIKE_AFTER_RECORDS = 20
SPIKE_SPREADS = 8.0
SPIKE_OVER_RECORDS = 5
PLATEAU_PARTS, PLATEAU_PART_RECORDS = 40, 5
PLATEAU_SHARE = 0.1
"""Of all steps: what the flat stretch must cover."""
PLATEAU_MOVEMENT = 0.003
"""Of the loss: less movement from one half of the stretch to the other is none."""
PLATEAU_RATE = 0.2
"""Of the peak learning rate: below it a loss that stands still has converged."""
RAM_WARNING, RAM_ERROR, RAM_OVER = 0.92, 0.97, 0.88
PRESSURE_WARNING, PRESSURE_OVER = 10.0, 2.0
"""Percent of the last ten seconds in which every process waited for memory (PSI, full avg10), of host or cgroup."""
VRAM_WARNING, VRAM_OVER = 0.97, 0.95
THROTTLED_SECONDS = 30.0
LOST_SECONDS = 5.0
DISK_RESERVE = 1.1
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Alert:
    """One change worth telling: raised (warning, error) or over (info)."""

    name: str
    severity: Severity
    message: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What no Sample holds: memory pressure in percent of ten seconds, free bytes on the disk of the run."""

    pressure: float | None
    disk_free: int | None


class Watchdogs:
    """Remembers what it must of one training. Every method gives the alerts that follow, at most one of a name."""

    def __init__(self, *, max_steps: int | None = None) -> None:
        self._raised: dict[str, Severity] = {}
        self._max_steps = max_steps
        self._seen = 0.0
        """When the last sign of progress came."""
        self._step = 0
        self._stride = 1
        """Steps between two records."""
        self._working = False
        self._beats = False
        """Whether the ranks show every step, logged or not."""
        self._durations: deque[float] = deque(maxlen=RECENT_RECORDS)
        """Seconds of a step."""
        self._losses: deque[float] = deque(maxlen=RECENT_RECORDS)
        self._calm = 0
        self._part: list[float] = []
        self._part_begin = 0
        self._stretch: deque[tuple[int, float]] = deque(maxlen=PLATEAU_PARTS)
        """First step and mean loss of each part of the newest stretch: bounded, however long the run."""
        self._peak_rate = 0.0
        self._checkpoint_bytes = 0
        self._throttled_since: dict[int, float] = {}
        self._missing_since: dict[int, float] = {}
        self._present: set[int] = set()

    def began(self, now: float, *, max_steps: int | None = None) -> list[Alert]:
        """The ranks were started, or said how many steps they will take."""
        self._max_steps = max_steps or self._max_steps
        self._working, self._seen = True, now
        return self._over("stall", "the ranks make steps")

    def paused(self, now: float) -> list[Alert]:
        """The ranks do something else than steps: they evaluate, save, or stop."""
        self._working, self._seen = False, now
        return self._over("stall", "the ranks go on")

    def went_on(self, now: float) -> list[Alert]:
        """The ranks make steps again."""
        self._working, self._seen = True, now
        return self._over("stall", "the ranks make steps again")

    def beat(self, now: float) -> list[Alert]:
        """A rank began another step, logged or not."""
        self._beats, self._seen = True, now
        return self._over("stall", "the ranks make steps again")

    def checkpoint(self, size: int) -> None:
        """A checkpoint took so many bytes."""
        self._checkpoint_bytes = max(size, self._checkpoint_bytes)

    def step(self, record: Step, now: float) -> list[Alert]:
        """A logged optimizer step."""
        self._stride = max(1, record.step - self._step)
        self._step, self._seen = record.step, now
        self._durations.append(record.step_seconds)
        alerts = self._over("stall", "the ranks make steps again")
        if record.loss is None:
            message = f"the loss is not finite at step {record.step:,}"
            return [*alerts, *self._raise("not-finite", "error", message)]
        alerts += self._over("not-finite", f"the loss is finite again at step {record.step:,}")
        alerts += self._spike(record.step, record.loss)
        alerts += self._plateau(record)
        self._losses.append(record.loss)
        return alerts

    def sample(self, sample: Sample, around: Surroundings, now: float) -> list[Alert]:
        """A reading of the machine: memory, disk, cards."""
        return [
            *self._memory(sample, around.pressure),
            *self._disk(around.disk_free),
            *self._lost(sample.cards, now),
            *self._full(sample.cards),
            *self._throttling(sample.cards, now),
        ]

    def tick(self, now: float) -> list[Alert]:
        """Time passes: raises `stall` when no step came for too long."""
        if not self._working or now - self._seen < self._allowed_silence():
            return []
        usual = f", usually one takes {median(self._durations):.1f} s" if self._durations else ""
        message = f"no step for {now - self._seen:.0f} s after step {self._step:,}{usual}"
        return self._raise("stall", "error", message)

    def _allowed_silence(self) -> float:
        if not self._durations:
            return FIRST_STEP_SECONDS
        expected = median(self._durations) * (1 if self._beats else self._stride)
        return max(STALL_SECONDS, STALL_TIMES_MEDIAN * expected)

    def _spike(self, step: int, loss: float) -> list[Alert]:
        if len(self._losses) < SPIKE_AFTER_RECORDS:
            return []
        level = median(self._losses)
        spread = median(abs(other - level) for other in self._losses)
        if loss > level + max(SPIKE_SPREADS * spread, 0.25 * level):
            self._calm = 0
            return self._raise(
                "loss-spike", "warning", f"the loss jumped from {level:.3f} to {loss:.3f} at step {step:,}"
            )
        self._calm += 1
        if self._calm < SPIKE_OVER_RECORDS:
            return []
        return self._over("loss-spike", f"the loss is back at {loss:.3f} at step {step:,}")

    def _plateau(self, record: Step) -> list[Alert]:
        self._peak_rate = max(self._peak_rate, record.learning_rate)
        if not self._part:
            self._part_begin = record.step
        self._part.append(record.loss or 0.0)
        width = PLATEAU_SHARE * (self._max_steps or 0) / PLATEAU_PARTS
        if len(self._part) < PLATEAU_PART_RECORDS or record.step - self._part_begin < width:
            return []
        self._stretch.append((self._part_begin, fmean(self._part)))
        self._part = []
        if len(self._stretch) < PLATEAU_PARTS or record.learning_rate < PLATEAU_RATE * self._peak_rate:
            return []
        means = [mean for _, mean in self._stretch]
        before, after = fmean(means[: PLATEAU_PARTS // 2]), fmean(means[PLATEAU_PARTS // 2 :])
        if abs(after - before) < PLATEAU_MOVEMENT * before:
            message = f"the loss stands still: {before:.3f} → {after:.3f} since step {self._stretch[0][0]:,}"
            return self._raise("plateau", "warning", message)
        return self._over("plateau", f"the loss moves again: {before:.3f} → {after:.3f}")

    def _memory(self, sample: Sample, pressure: float | None) -> list[Alert]:
        share = sample.ram_used / sample.ram_limit if sample.ram_limit else 0.0
        stalled = pressure or 0.0
        figures = f"{sample.ram_used / GIB:.1f} of {sample.ram_limit / GIB:.1f} GiB of host RAM in use"
        waiting = f", all processes wait for memory {stalled:.0f} % of the time" if stalled >= 1 else ""
        if share >= RAM_ERROR:
            message = f"{figures}{waiting}: the kernel may kill a rank"
            return self._raise("memory-pressure", "error", message)
        if share >= RAM_WARNING or stalled >= PRESSURE_WARNING:
            return self._raise("memory-pressure", "warning", figures + waiting)
        if share < RAM_OVER and stalled < PRESSURE_OVER:
            return self._over("memory-pressure", figures)
        return []

    def _disk(self, free: int | None) -> list[Alert]:
        if free is None or not self._checkpoint_bytes:
            return []
        need = DISK_RESERVE * self._checkpoint_bytes
        figures = f"{free / GIB:.1f} GiB free, a checkpoint takes {self._checkpoint_bytes / GIB:.1f} GiB"
        if free < need:
            return self._raise("disk", "warning", f"the next checkpoint will not fit: {figures}")
        return self._over("disk", figures) if free > 1.5 * need else []

    def _lost(self, cards: tuple[Card, ...], now: float) -> Iterator[Alert]:
        here = {card.index for card in cards}
        self._present |= here
        missing = self._present - here
        self._missing_since = {index: self._missing_since.get(index, now) for index in missing}
        gone = sorted(index for index, since in self._missing_since.items() if now - since >= LOST_SECONDS)
        if gone:
            yield from self._raise("card-lost", "error", f"{_cards_text(gone)} no longer answers")
        elif not missing:
            yield from self._over("card-lost", "all cards answer again")

    def _full(self, cards: tuple[Card, ...]) -> Iterator[Alert]:
        shares = {card.index: card.used / card.total for card in cards if card.total}
        if not shares:
            return
        fullest = max(shares, key=lambda index: shares[index])
        message = f"card {fullest} is {100 * shares[fullest]:.0f} % full"
        if shares[fullest] >= VRAM_WARNING:
            yield from self._raise("vram-limit", "warning", message)
        elif shares[fullest] < VRAM_OVER:
            yield from self._over("vram-limit", message)

    def _throttling(self, cards: tuple[Card, ...], now: float) -> Iterator[Alert]:
        slowed = {card.index: card.throttle for card in cards if card.throttle}
        self._throttled_since = {index: self._throttled_since.get(index, now) for index in slowed}
        since = self._throttled_since
        lasting = sorted(index for index in slowed if now - since[index] >= THROTTLED_SECONDS)
        if lasting:
            reasons = ", ".join(sorted({reason for index in lasting for reason in slowed[index]}))
            yield from self._raise("throttled", "warning", f"{_cards_text(lasting)} is slowed down: {reasons}")
        elif not slowed:
            yield from self._over("throttled", "no card is slowed down any more")

    def _raise(self, name: str, severity: Severity, message: str) -> list[Alert]:
        """A new alert, or one that got worse."""
        if self._raised.get(name) in (severity, "error"):
            return []
        self._raised[name] = severity
        return [Alert(name, severity, message)]

    def _over(self, name: str, message: str) -> list[Alert]:
        return [Alert(name, "info", message)] if self._raised.pop(name, None) else []


def _cards_text(indices: list[int]) -> str:
    return f"card {indices[0]}" if len(indices) == 1 else f"cards {', '.join(map(str, indices))}"

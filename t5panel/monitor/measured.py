"""What a run measured: its records and readings in one pass each, kept as maxima, means and one loss curve."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass, field

import msgspec

from t5panel.contract.layout import RunDir
from t5panel.contract.reading import records_in
from t5panel.contract.records import ALERTS, Evaluation, Event, Metric, Sample, Start, Status, Step
from t5panel.monitor.durations import Durations
from t5panel.monitor.loss_curve import LossCurve

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


@dataclass(frozen=True, slots=True)
class Spans:
    """When the ranks made steps, in unix seconds: `begins` ascend, and each has its end."""

    begins: array[float]
    ends: array[float]

    def __contains__(self, moment: float) -> bool:
        at = bisect_right(self.begins, moment) - 1
        return at >= 0 and moment <= self.ends[at]


@dataclass(frozen=True, slots=True)
class Training:
    """What rank 0 recorded, all starts together; bytes and seconds."""

    start: Start | None
    evaluation: Evaluation | None
    """The last one, without its answers."""
    curve: LossCurve
    pace: Pace | None
    allocated: int | None
    """Peak of torch's allocator on rank 0's card."""
    reserved: int | None
    not_finite: int
    """Records whose loss was not finite."""
    starts: int
    spans: Spans


@dataclass(frozen=True, slots=True)
class MachineUse:
    """The highest readings while ranks lived, and the mean power while they made steps; bytes and watts."""

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


def read_training(run: RunDir, *, since: float = 0.0) -> Training:
    """All of metrics.jsonl; pace, peaks and spans from `since` (unix seconds) on."""
    reader = _TrainingReader(since)
    for metric in records_in(run.metrics, msgspec.json.Decoder(Metric)):
        reader.add(metric)
    return reader.training()


def read_machine_use(run: RunDir, spans: Spans, *, since: float = 0.0) -> MachineUse:
    """All of samples.jsonl from `since` (unix seconds) on, in constant memory.

    A loop of plain comparisons: a week on three cards is 600,000 readings.
    """
    vram, rss, readings = (defaultdict[int, int](int) for _ in range(3))
    watts = defaultdict[int, float](float)
    vram_total = rss_total = host_used = host_limit = 0
    for sample in records_in(run.samples, msgspec.json.Decoder(Sample)):
        if not sample.ranks or sample.time < since:
            continue
        held = 0
        for rank in sample.ranks:
            held += rank.rss
            rss[rank.rank] = max(rss[rank.rank], rank.rss)
        rss_total = max(held, rss_total)
        host_used, host_limit = max(sample.ram_used, host_used), sample.ram_limit
        held, training = 0, bool(sample.cards) and sample.time in spans
        for card in sample.cards:
            held += card.used
            vram[card.index] = max(vram[card.index], card.used)
            if training and card.power is not None:
                watts[card.index] += card.power
                readings[card.index] += 1
        vram_total = max(held, vram_total)
    power = {index: total / readings[index] for index, total in watts.items()}
    totals = (size or None for size in (vram_total, rss_total, host_used, host_limit))
    return MachineUse(dict(vram), dict(rss), power, *totals)


def read_alert_counts(run: RunDir) -> dict[str, int]:
    """How often each alert was raised; one that got worse counts once."""
    counts: defaultdict[str, int] = defaultdict(int)
    raised = set[str]()
    for event in records_in(run.events, msgspec.json.Decoder(Event)):
        if event.name not in ALERTS:
            continue
        if event.severity == "info":
            raised.discard(event.name)
        elif event.name not in raised:
            raised.add(event.name)
            counts[event.name] += 1
    return dict(counts)


@dataclass(slots=True)
class _TrainingReader:
    since: float
    start: Start | None = None
    evaluations: list[Evaluation] = field(default_factory=list)
    allocated: int | None = None
    reserved: int | None = None
    not_finite: int = 0
    starts: int = 0
    warming: int = WARM_UP_STEPS
    at: int = 0
    """The step up to which everything is recorded."""
    curve: LossCurve = field(default_factory=LossCurve)
    durations: Durations = field(default_factory=Durations)
    timed_steps: int = 0
    timed: float = 0.0
    waited: float = 0.0
    exchanged: float | None = 0.0
    tokens: int = 0
    begins: array[float] = field(default_factory=lambda: array("d"))
    ends: array[float] = field(default_factory=lambda: array("d"))

    def add(self, metric: Metric) -> None:
        match metric:
            case Start():
                self._begin(metric)
            case Status(phase="running"):
                if metric.time >= self.since:
                    self.begins.append(metric.time)
                    self.ends.append(metric.time)
            case Evaluation():
                self.evaluations.append(msgspec.structs.replace(metric, samples=()))
            case Step():
                self._step(metric)

    def training(self) -> Training:
        return Training(
            start=self.start,
            evaluation=self.evaluations[-1] if self.evaluations else None,
            curve=self.curve,
            pace=self._pace(),
            allocated=self.allocated,
            reserved=self.reserved,
            not_finite=self.not_finite,
            starts=self.starts,
            spans=Spans(self.begins, self.ends),
        )

    def _begin(self, start: Start) -> None:
        """Steps after its own were never resumed from: they are void for the curve, not for the pace."""
        self.curve.cut(start.step)
        self.evaluations = [done for done in self.evaluations if done.step <= start.step]
        self.start, self.at, self.warming = start, start.step, WARM_UP_STEPS
        self.starts += 1

    def _step(self, step: Step) -> None:
        count = max(1, step.step - self.at)
        self.at = step.step
        self.not_finite += step.loss is None
        self.curve.add(step.step, count * step.step_seconds, step.loss)
        if step.time < self.since:
            return
        if self.ends:
            self.ends[-1] = step.time
        self.allocated = _higher(self.allocated, step.vram_allocated)
        self.reserved = _higher(self.reserved, step.vram_reserved)
        if self.warming > 0:
            self.warming -= count
            return
        self.durations.add(step.step_seconds)
        self.timed_steps += count
        self.timed += count * step.step_seconds
        self.waited += count * step.data_wait_seconds
        wait = step.communication_seconds
        self.exchanged = None if wait is None or self.exchanged is None else self.exchanged + count * wait
        self.tokens += step.target_tokens

    def _pace(self) -> Pace | None:
        seconds = self.durations.middle
        if self.start is None or not seconds:
            return None
        return Pace(
            step_seconds=seconds,
            samples_per_second=self.start.effective_batch / seconds,
            target_tokens_per_second=self.tokens / self.timed_steps / seconds,
            data_wait_share=self.waited / self.timed,
            steps=self.timed_steps,
            communication_share=None if self.exchanged is None else self.exchanged / self.timed,
        )


def _higher(known: int | None, size: int | None) -> int | None:
    return known if size is None else size if known is None else max(known, size)

"""History gathers what a run directory says; a Snapshot is all of it at one moment, for any view."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import msgspec

from t5panel.contract.layout import RunDir
from t5panel.contract.reading import decoded
from t5panel.contract.records import (
    Checkpoint,
    Diagnosis,
    Evaluation,
    Event,
    Prepared,
    Result,
    RunInfo,
    Sample,
    Start,
    Step,
)
from t5panel.monitor.alerts import active_alerts
from t5panel.monitor.energy import Energy
from t5panel.monitor.measured import changed_at
from t5panel.monitor.pace import TimeShares, Utilization, time_shares, tokens_per_second, utilization
from t5panel.monitor.runs import RunState, read_info, read_note, read_prepared, read_result, read_state
from t5panel.monitor.sample_log import SampleLog
from t5panel.monitor.steps import StepLog
from t5panel.monitor.tail import Tail
from t5panel.monitor.training_log import TrainingLog

KEPT_EVENTS = 200


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run at one moment. Times in unix seconds, memory in bytes."""

    run: RunDir
    info: RunInfo
    state: RunState
    taken: float
    start: Start | None
    last: Step | None
    steps: StepLog
    """Every step. It belongs to the History and grows on."""
    evaluations: tuple[Evaluation, ...]
    """All of them; only the last with its answers."""
    evaluation_at: Callable[[int], Evaluation | None]
    """Reads one of them, by its step, with its answers."""
    checkpoint: Checkpoint | None
    samples: tuple[Sample, ...]
    """The newest readings of the machine, at most an hour of them."""
    events: tuple[Event, ...]
    """The newest of them."""
    result: Result | None
    rejected_lines: int
    """Lines of its files that are no records: a dying writer, or a bad disk, left them."""
    recent_steps: tuple[Step, ...]
    prepared: Prepared | None = None
    """What became of the data's rows, once they are tokenised."""
    alerts: tuple[Event, ...] = ()
    """Alerts that still stand, however long ago they were raised; the worst first."""
    event_count: int = 0
    """Events since the run was created, those that are no longer in `events` too."""
    energy: Energy | None = None
    """Of its cards while its ranks lived; None where NVML did not say any power."""
    note: str = ""
    """The user's own words."""
    unread: float = 0.0
    """The share of its records that was not read yet: those of weeks take seconds."""

    @property
    def diagnosis(self) -> Diagnosis | None:
        """Why a failed run failed, when that is known."""
        return self.state.diagnosis if self.state.phase == "failed" else None

    @property
    def sample(self) -> Sample | None:
        """The newest reading of the machine."""
        return self.samples[-1] if self.samples else None

    @property
    def max_steps(self) -> int | None:
        """Optimizer steps of the whole run, once known."""
        return self.start.max_steps if self.start else None

    @property
    def samples_per_second(self) -> float | None:
        """Rows per second over the last steps."""
        seconds = sum(step.step_seconds for step in self.recent_steps)
        if self.start is None or not seconds:
            return None
        return len(self.recent_steps) * self.start.effective_batch / seconds

    @property
    def data_wait(self) -> float | None:
        """Share of the last steps' seconds that rank 0 waited for data, 0 to 1."""
        seconds = sum(step.step_seconds for step in self.recent_steps)
        return sum(step.data_wait_seconds for step in self.recent_steps) / seconds if seconds else None

    @property
    def tokens_per_second(self) -> float | None:
        """Target tokens per second over the last steps, all ranks together."""
        return tokens_per_second(self.recent_steps, self.start.step if self.start else 0)

    @property
    def time_shares(self) -> TimeShares | None:
        """Where the time of the last steps went."""
        return time_shares(self.recent_steps)

    @property
    def utilization(self) -> Utilization | None:
        """Of the cards' peak, at the rate of the last steps (MFU)."""
        return utilization(self.info, self.prepared, self.samples_per_second)

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds to the last step, at the present rate; None while the run stalls."""
        rate = None if any(alert.name == "stall" for alert in self.alerts) else self.samples_per_second
        if not rate or self.last is None or self.start is None:
            return None
        return (self.start.max_steps - self.last.step) * self.start.effective_batch / rate


class History:
    """Follows one run directory. The only thing in the views' world that changes."""

    def __init__(self, run: RunDir, clock: Callable[[], float] = time.time) -> None:
        self._run, self._clock = run, clock
        self._info_stamp, self._info = _stamp(run.run_json), read_info(run)
        self._begin()
        self._event_tail = Tail(run.events)
        self._decode_event = msgspec.json.Decoder(Event)
        self._events: deque[Event] = deque(maxlen=KEPT_EVENTS)
        self._event_count = 0
        self._alerts: tuple[Event, ...] = ()
        self._rejected = 0

    def refresh(self, *, patience: float = math.inf) -> Snapshot:
        """Read what is new, for about so many seconds at most, and give the run as it is now."""
        state = read_state(self._run)  # before the files: an ended run's last lines are then surely read
        deadline = time.monotonic() + patience
        self._read_info_again()
        for _ in chain(self._training.blocks(), self._readings.blocks(self._training.sums.spans)):
            if time.monotonic() > deadline:
                break
        self._read_events()
        training, readings = self._training, self._readings
        return Snapshot(
            run=self._run,
            info=self._info,
            state=state,
            taken=self._clock(),
            start=training.start,
            last=training.last,
            steps=training.steps,
            evaluations=tuple(training.evaluations),
            evaluation_at=training.evaluation_at,
            checkpoint=training.checkpoint,
            samples=tuple(readings.newest),
            events=tuple(self._events),
            result=read_result(self._run),
            rejected_lines=self._rejected + training.rejected + readings.rejected,
            recent_steps=tuple(training.recent),
            prepared=read_prepared(self._run),
            alerts=self._alerts,
            event_count=self._event_count,
            energy=readings.energy.energy,
            note=read_note(self._run),
            unread=max(training.unread, readings.unread),
        )

    def _read_info_again(self) -> None:
        """Only when it was replaced: a recovery or a resume changed settings, and what counts from then on."""
        stamp = _stamp(self._run.run_json)
        if stamp is not None and stamp != self._info_stamp:
            self._info, self._info_stamp = read_info(self._run), stamp
            if changed_at(self._info) != self._since:
                self._begin()

    def _begin(self) -> None:
        """Read what was recorded, from where the last reader came to."""
        self._since = changed_at(self._info)
        self._training = TrainingLog(self._run, since=self._since)
        self._readings = SampleLog(self._run, since=self._since)

    def _read_events(self) -> None:
        while block := self._event_tail.read():
            events, rejected = decoded(block, self._decode_event)
            self._rejected += rejected
            for event in events:
                self._events.append(event)
                self._event_count += 1
                self._alerts = active_alerts((*self._alerts, event))


def _stamp(path: Path) -> tuple[int, int] | None:
    """What differs after a file was replaced; None while it is missing."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns

"""All that rank 0 recorded of a run, read once: from where the last reader came to, where that is known."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import msgspec

from t5panel.contract.layout import RunDir
from t5panel.contract.reading import decoded
from t5panel.contract.records import Checkpoint, Evaluation, Metric, Start, Status, Step
from t5panel.monitor.bookmark import Place
from t5panel.monitor.kept_tail import KeptTail
from t5panel.monitor.loss_curve import CurveEnds, LossCurve
from t5panel.monitor.measured import TrainingSums
from t5panel.monitor.pieces import Pieces, read_evaluation, read_steps, split
from t5panel.monitor.steps import StepLog, rows_of

RATE_STEPS = 20
CURVE_ARRAYS = 4


class Bookmark(msgspec.Struct, frozen=True):
    """What was made of all records before a place, the arrays of the pieces and steps apart."""

    place: Place
    first_kept: int
    """The row that the arrays' first whole row is."""
    start: Start | None
    last: Step | None
    recent: tuple[Step, ...]
    evaluations: tuple[Evaluation, ...]
    checkpoint: Checkpoint | None
    rejected: int
    sums: TrainingSums
    curve: CurveEnds


class TrainingLog:
    """Grows with the metrics of a run. Pace and peaks are those from `since` (unix seconds) on."""

    def __init__(self, run: RunDir, *, since: float = 0.0) -> None:
        self._run = run
        self._decode = msgspec.json.Decoder(Metric)
        self._tail = KeptTail(run.metrics, run.bookmark)
        self._pieces = Pieces()
        self.sums = TrainingSums(since)
        self.curve = LossCurve()
        self.steps = StepLog(partial(read_steps, run.metrics, self._pieces))
        self.start: Start | None = None
        self.last: Step | None = None
        self.recent: deque[Step] = deque(maxlen=RATE_STEPS)
        self.evaluations: list[Evaluation] = []
        """All of them; only the last with its answers."""
        self.checkpoint: Checkpoint | None = None
        self.rejected = 0
        self._go_on()

    def blocks(self) -> Iterator[None]:
        """Read all that is new, a block at each step."""
        return self._tail.blocks(self._add, self._keeping)

    @property
    def unread(self) -> float:
        """The share of the metrics that is still to be read."""
        return self._tail.unread

    def evaluation_at(self, step: int) -> Evaluation | None:
        """One of the evaluations with its answers, from the file."""
        return read_evaluation(self._run.metrics, self._pieces, step)

    def _add(self, block: bytes, offset: int) -> None:
        for piece in split(block):
            metrics, rejected = decoded(piece, self._decode)
            self.rejected += rejected
            if metrics:
                self._pieces.note(metrics[0].step, offset)
            for kind, group in groupby(metrics, type):
                if kind is Step:
                    self._add_steps(list(group))
                else:
                    for metric in group:
                        self._add_metric(metric, offset)
            offset += len(piece)

    def _add_steps(self, steps: Sequence[Step]) -> None:
        self.last = steps[-1]
        self.recent.extend(steps[-RATE_STEPS:])
        rows = rows_of(steps)
        self.steps.extend(rows)
        self.curve.extend(steps, rows.of("loss"), self.sums.add(steps))

    def _add_metric(self, metric: Metric, offset: int) -> None:
        match metric:
            case Evaluation():
                if self.evaluations:
                    self.evaluations[-1] = msgspec.structs.replace(self.evaluations[-1], samples=())
                self.evaluations.append(metric)
            case Checkpoint():
                self.checkpoint = metric
            case Start():
                self._begin(metric, offset)
            case Status(phase="running"):
                self.sums.run(metric.time)

    def _begin(self, start: Start, offset: int) -> None:
        """A new start: steps after its own were never resumed from, so they are void."""
        self.start = start
        self.steps.cut(start.step)
        self.curve.cut(start.step)
        self.sums.begin(start.step)
        self._pieces.restart(start.step, offset)
        self.evaluations = [done for done in self.evaluations if done.step <= start.step]
        self.recent.clear()
        if self.last is not None and self.last.step > start.step:
            self.last = None

    def _go_on(self) -> None:
        """Take over what another reader made of this very file."""
        found = self._tail.found(Bookmark)
        sums = found[0].sums.counted_from(self.sums.since) if found is not None else None
        if found is None or sums is None:
            return
        mark, arrays = found
        try:
            places, offsets, *rest = arrays
            pieces = Pieces.restored(places, offsets, mark.place.offset)
            curve = LossCurve.restored(rest[:CURVE_ARRAYS], mark.curve)
            log = StepLog.restored(partial(read_steps, self._run.metrics, pieces), mark.first_kept, rest[CURVE_ARRAYS:])
        except (ValueError, IndexError):
            return
        self.curve = curve
        self._pieces, self.steps, self.sums = pieces, log, sums
        self._tail.go_on(mark.place)
        self.start, self.last, self.checkpoint, self.rejected = mark.start, mark.last, mark.checkpoint, mark.rejected
        self.recent.extend(mark.recent)
        self.evaluations.extend(mark.evaluations)

    def _keeping(self, place: Place) -> tuple[Bookmark, tuple[array[Any], ...]]:
        mark = Bookmark(
            place=place,
            first_kept=self.steps.first_kept,
            start=self.start,
            last=self.last,
            recent=tuple(self.recent),
            evaluations=tuple(self.evaluations),
            checkpoint=self.checkpoint,
            rejected=self.rejected,
            sums=self.sums,
            curve=self.curve.ends,
        )
        return mark, (*self._pieces.arrays, *self.curve.arrays, *self.steps.arrays)

"""All that rank 0 recorded of a run, read once: from where the last reader came to, where that is known."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby

import msgspec

from t5panel.contract.layout import RunDir
from t5panel.contract.reading import decoded
from t5panel.contract.records import Checkpoint, Evaluation, Metric, Start, Step
from t5panel.monitor.bookmark import WORTH_KEEPING, Place, keep_bookmark, read_bookmark
from t5panel.monitor.pieces import Pieces, read_steps, split
from t5panel.monitor.steps import StepLog
from t5panel.monitor.tail import Tail

RATE_STEPS = 20


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


class TrainingLog:
    """Grows with the metrics of a run."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._decode = msgspec.json.Decoder(Metric)
        self._tail = Tail(run.metrics)
        self._pieces = Pieces()
        self.steps = StepLog(partial(read_steps, run.metrics, self._pieces))
        self.start: Start | None = None
        self.last: Step | None = None
        self.recent: deque[Step] = deque(maxlen=RATE_STEPS)
        self.evaluations: list[Evaluation] = []
        """All of them; only the last with its answers."""
        self.checkpoint: Checkpoint | None = None
        self.rejected = 0
        self._kept = 0
        """Bytes that a bookmark holds, or that none can be written of."""
        self._go_on()

    def blocks(self) -> Iterator[None]:
        """Read all that is new, a block at each step."""
        while block := self._tail.read():
            self._add(block, self._tail.offset - len(block))
            yield
            self._keep(max(WORTH_KEEPING, self._kept))
        self._keep(WORTH_KEEPING)

    @property
    def unread(self) -> float:
        """The share of the metrics that is still to be read."""
        return self._tail.unread

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
        self.steps.extend(steps)

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

    def _begin(self, start: Start, offset: int) -> None:
        """A new start: steps after its own were never resumed from, so they are void."""
        self.start = start
        self.steps.cut(start.step)
        self._pieces.restart(start.step, offset)
        self.evaluations = [done for done in self.evaluations if done.step <= start.step]
        self.recent.clear()
        if self.last is not None and self.last.step > start.step:
            self.last = None

    def _go_on(self) -> None:
        """Take over what another reader made of this very file."""
        found = read_bookmark(self._run.bookmark, self._run.metrics, Bookmark)
        if found is None:
            return
        try:
            mark, (steps, offsets, *arrays) = found
            pieces = Pieces.restored(steps, offsets, mark.place.offset)
            log = StepLog.restored(partial(read_steps, self._run.metrics, pieces), mark.first_kept, arrays)
        except (ValueError, IndexError):
            return
        self._pieces, self.steps = pieces, log
        self._tail = Tail(self._run.metrics, inode=mark.place.inode, offset=mark.place.offset)
        self._kept = mark.place.offset
        self.start, self.last, self.checkpoint, self.rejected = mark.start, mark.last, mark.checkpoint, mark.rejected
        self.recent.extend(mark.recent)
        self.evaluations.extend(mark.evaluations)

    def _keep(self, worth: int) -> None:
        if self._tail.offset - self._kept >= worth:
            self._kept = self._tail.offset
            arrays = (*self._pieces.arrays, *self.steps.arrays)
            keep_bookmark(self._run.bookmark, self._tail, self._bookmark, arrays)

    def _bookmark(self, place: Place) -> Bookmark:
        return Bookmark(
            place=place,
            first_kept=self.steps.first_kept,
            start=self.start,
            last=self.last,
            recent=tuple(self.recent),
            evaluations=tuple(self.evaluations),
            checkpoint=self.checkpoint,
            rejected=self.rejected,
        )

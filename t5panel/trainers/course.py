"""The way of a run, whatever it trains: its agreed steps, what is due after each, and the records of it."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from t5panel.contract.checkpoints import step_of
from t5panel.contract.marker import Identity, marker_of
from t5panel.contract.records import Evaluation
from t5panel.trainers.checkpoint import Checkpoints, NoSpaceError
from t5panel.trainers.guard import Rank
from t5panel.trainers.ranks import Ranks
from t5panel.trainers.report import Reporter, RowCounts
from t5panel.trainers.resumable import check_resumable

Duty = Literal["log", "evaluate", "save"]
log = logging.getLogger(__name__)


class Course:
    """One training, from its first step or its newest complete checkpoint to its last or an agreed stop."""

    def __init__(self, me: Rank, ranks: Ranks, rows: RowCounts, steps: int, identity: Identity) -> None:
        """Find where to begin.

        Raises: ResumeError when the checkpoint belongs to other settings.
        """
        self.me, self.spec, self.ranks, self.rows, self.steps = me, me.spec, ranks, rows, steps
        self._identity = identity
        self._checkpoints = Checkpoints(me.run, me.spec, ranks)
        self.checkpoint = self._checkpoints.newest()
        if self.checkpoint is not None:
            check_resumable(marker_of(self.checkpoint), identity, self.checkpoint.name)
        self.first_step = step_of(self.checkpoint) if self.checkpoint else 0
        self._at = self.first_step
        self.stopping = False
        self.reporter = Reporter(me, ranks, rows)
        self._saved_at = self._tried_at = self.first_step if self.checkpoint else -1

    def agree(self, tokens: float) -> float:
        """Begin a step: its target tokens over all ranks; all ranks agree on whether to stop after it.

        One exchange over the CPU group does both, so no rank ever waits for its GPU here.
        """
        self._at += 1
        self.me.witness.step = self._at
        with contextlib.suppress(OSError):  # its time is a sign of life also for steps that are not logged
            os.utime(self.me.run.ranks / str(self.ranks.rank))
        total, stop = self.ranks.sum([tokens, float(self.me.run.request.exists())])
        self.stopping = stop > 0
        return total

    def start(self, parameters: int) -> None:
        """Say that training begins."""
        if not self.spec.model.decoder_only:  # of one of those LLaMA-Factory may save an adapter alone
            self._checkpoints.expect(parameters)
        self.reporter.started(step=self.first_step, max_steps=self.steps, parameters=parameters)

    def duties(self, step: int) -> set[Duty]:
        """What is due after a step: logging always at its last, evaluation and saving by their own periods."""
        train, ends = self.spec.train, self._ends(step)
        due: set[Duty] = set()
        if ends or step % train.logging_steps == 0:
            due.add("log")
        finished = step == self.steps
        if self.rows.eval_rows and (finished or (train.eval_steps and step % train.eval_steps == 0)):
            due.add("evaluate")
        if ends or (train.save_steps and step % train.save_steps == 0):
            due.add("save")
        return due

    def evaluate(self, step: int, evaluation: Callable[[], Evaluation]) -> None:
        """Evaluate and record it."""
        self.reporter.phase("evaluating", step)
        done = evaluation()
        self.reporter.evaluated(done)
        self._continue(step, done.seconds)

    def save(self, step: int, write: Callable[[Path], None]) -> None:
        """Save a complete checkpoint and record it.

        A full disk ends the run only where its end is due: else the older checkpoint stays, the steps since then
        would be lost by ending, and the next save may find room again.

        Raises: CheckpointError on all ranks, with what one of them could not write.
        """
        if self._tried_at == step:
            return
        self._tried_at = step
        begin = time.monotonic()
        self.reporter.phase("saving", step)
        try:
            checkpoint = self._checkpoints.save(step, self._identity, write)
        except NoSpaceError as error:
            if self._ends(step):
                raise
            log.warning("step %d goes on without a checkpoint: %s", step, error)
        else:
            self.reporter.saved(checkpoint)
            self._saved_at = step
        self._continue(step, time.monotonic() - begin)

    def finish(self) -> None:
        """Write the result and leave the process groups, all ranks together."""
        stopped_early = self.stopping and self._saved_at < self.steps
        self.reporter.ended(step=self._saved_at, stopped=stopped_early)
        self.ranks.leave()

    def _ends(self, step: int) -> bool:
        return step == self.steps or self.stopping

    def _continue(self, step: int, seconds: float) -> None:
        self.reporter.meter.skip(seconds)
        self.reporter.phase("running", step)

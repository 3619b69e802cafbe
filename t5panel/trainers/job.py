"""What the three methods share around their loops: the rows, the agreed steps, and what happens after each of them."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from t5panel.contract.checkpoints import step_of
from t5panel.contract.marker import marker_of
from t5panel.contract.records import Evaluation
from t5panel.trainers.checkpoint import Checkpoints, NoSpaceError
from t5panel.trainers.data import Split, collate, open_split, total_steps, train_loader
from t5panel.trainers.evaluation import Evaluator
from t5panel.trainers.guard import Rank
from t5panel.trainers.loss import Batch, summed_loss, target_tokens, to_device
from t5panel.trainers.random_state import load_rng
from t5panel.trainers.ranks import Ranks
from t5panel.trainers.report import Reporter
from t5panel.trainers.resumable import check_resumable, identity_of
from t5panel.trainers.store import prepared_of
from t5panel.trainers.waiting import gradient_wait

Duty = Literal["log", "evaluate", "save"]
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Accumulation:
    """The micro-batches of one optimizer step on this rank, and the target tokens of the step over all ranks."""

    batches: list[Batch]
    tokens: float
    waited: float


class Job:
    """One training, from its first step or its newest complete checkpoint to its last or an agreed stop."""

    def __init__(self, me: Rank, ranks: Ranks) -> None:
        """Open the rows and find where to begin.

        Raises: ResumeError when the checkpoint belongs to other settings.
        """
        self.me, self.spec, self.ranks = me, me.spec, ranks
        self.split = _open_split(me)
        self.steps = total_steps(me.spec, self.split.train_rows)
        self._identity = identity_of(me.run, me.spec, self.split)
        self._checkpoints = Checkpoints(me.run, me.spec, ranks)
        self.checkpoint = self._checkpoints.newest()
        if self.checkpoint is not None:
            check_resumable(marker_of(self.checkpoint), self._identity, self.checkpoint.name)
        self.first_step = step_of(self.checkpoint) if self.checkpoint else 0
        self._at = self.first_step
        self.stopping = False
        self.reporter = Reporter(me, ranks, self.split)
        self.evaluator = Evaluator(me, self.split, ranks)
        self.loader = train_loader(
            self.split, me.spec, rank=ranks.rank, first_step=self.first_step, last_step=self.steps
        )
        self._current = Accumulation([], 1.0, 0.0)
        self.timed: nn.Module | None = None
        """The model as DDP wraps it, where DDP does: records then say how long it waits for other ranks."""
        self._saved_at = self._tried_at = self.first_step if self.checkpoint else -1

    def accumulations(self) -> Iterator[tuple[int, list[Batch]]]:
        """Each optimizer step's number (from 1) with its micro-batches, until the last step or an agreed stop."""
        batches = iter(self.loader)
        for step in range(self.first_step + 1, self.steps + 1):
            if self.stopping:
                return
            yield step, self.accumulate(batches).batches

    def accumulate(self, batches: Iterator[Batch]) -> Accumulation:
        """Take one step's micro-batches; agree with all ranks on its target tokens and on whether to stop after it.

        One exchange over the CPU group does both, so no rank ever waits for its GPU here.
        """
        self._at += 1
        self.me.witness.step = self._at
        with contextlib.suppress(OSError):  # its time is a sign of life also for steps that are not logged
            os.utime(self.me.run.ranks / str(self.ranks.rank))
        begin = time.monotonic()
        micro = [next(batches) for _ in range(self.spec.train.gradient_accumulation_steps)]
        waited = time.monotonic() - begin
        mine = float(sum(target_tokens(batch) for batch in micro))
        tokens, stop = self.ranks.sum([mine, float(self.me.run.request.exists())])
        self.stopping = stop > 0
        self._current = Accumulation(micro, max(tokens, 1.0), waited)
        return self._current

    @property
    def loss_scale(self) -> float:
        """Times this, a summed loss gives gradients that, averaged over ranks, are those of the mean per token."""
        return self.ranks.world_size / self._current.tokens

    def settle(self, model: nn.Module) -> None:
        """Run one backward pass whose gradients are thrown away, so that a resumed run adds up as an unbroken one does.

        DDP lays out its buckets anew after the first backward pass, and an element's place in its bucket decides in
        which order the ranks' gradients are added, so how they are rounded. Restore the random state after this.
        """
        batch = collate([self.split.train[0]])
        summed_loss(model, to_device(batch, self.ranks.device)).backward()  # type: ignore[no-untyped-call] # torch
        model.zero_grad()

    def start(self, parameters: int) -> None:
        """Say that training begins."""
        self._checkpoints.expect(parameters)
        self.reporter.started(step=self.first_step, max_steps=self.steps, parameters=parameters)

    def duties(self, step: int) -> set[Duty]:
        """What is due after a step: logging always at its last, evaluation and saving by their own periods."""
        train, ends = self.spec.train, self._ends(step)
        due: set[Duty] = set()
        if ends or step % train.logging_steps == 0:
            due.add("log")
        finished = step == self.steps
        if self.evaluator.possible and (finished or (train.eval_steps and step % train.eval_steps == 0)):
            due.add("evaluate")
        if ends or (train.save_steps and step % train.save_steps == 0):
            due.add("save")
        return due

    def count(self) -> None:
        """Count a finished optimizer step."""
        self.reporter.meter.add_step(tokens=self._current.tokens, waited=self._current.waited)

    def log(self, step: int, *, learning_rate: float, grad_norm: Tensor | float | None) -> None:
        """Record the loss since the last record. Waits for the GPU."""
        self.reporter.step(
            step,
            learning_rate=learning_rate,
            grad_norm=None if grad_norm is None else float(grad_norm),
            communication=None if self.timed is None else gradient_wait(self.timed),
        )

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

    def restore_random_state(self) -> None:
        """Set this rank's random generators as the checkpoint's rank had them. The last thing before training."""
        if self.checkpoint is not None:
            rank, seed = self.ranks.rank, self.spec.train.seed
            load_rng(self.checkpoint, rank=rank, seed=seed, step=self.first_step)

    def after_step(
        self,
        step: int,
        *,
        learning_rate: float,
        grad_norm: Tensor | float | None,
        evaluation: Callable[[], Evaluation],
        write: Callable[[Path], None],
    ) -> None:
        """Do what is due after an optimizer step."""
        due = self.duties(step)
        if "log" in due:
            self.log(step, learning_rate=learning_rate, grad_norm=grad_norm)
        if "save" in due:  # before the evaluation, which may fail
            self.save(step, write)
        if "evaluate" in due:
            self.evaluate(step, evaluation)

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


def _open_split(me: Rank) -> Split:
    prepared = prepared_of(me.run)
    validation = Path(prepared.validation) if prepared.validation else None
    return open_split(Path(prepared.train), validation, me.spec.data.max_eval_samples)

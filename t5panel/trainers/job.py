"""What the methods share around their loops on a T5: our rows, and what happens after each step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from t5panel.contract.records import Evaluation
from t5panel.trainers.course import Course
from t5panel.trainers.data import Split, collate, open_split, total_steps, train_loader
from t5panel.trainers.evaluation import Evaluator
from t5panel.trainers.guard import Rank
from t5panel.trainers.loss import Batch, summed_loss, target_tokens, to_device
from t5panel.trainers.random_state import load_rng
from t5panel.trainers.ranks import Ranks
from t5panel.trainers.resumable import identity_of
from t5panel.trainers.store import prepared_of
from t5panel.trainers.waiting import gradient_wait


@dataclass(frozen=True, slots=True)
class Accumulation:
    """The micro-batches of one optimizer step on this rank, and the target tokens of the step over all ranks."""

    batches: list[Batch]
    tokens: float
    waited: float


class Job(Course):
    """The course of a T5 on our rows."""

    def __init__(self, me: Rank, ranks: Ranks) -> None:
        """Open the rows and find where to begin.

        Raises: ResumeError when the checkpoint belongs to other settings.
        """
        self.split = _open_split(me)
        steps = total_steps(me.spec, self.split.train_rows)
        super().__init__(me, ranks, self.split, steps, identity_of(me.run, me.spec, self.split))
        self.evaluator = Evaluator(me, self.split, ranks)
        self.loader = train_loader(
            self.split, me.spec, rank=ranks.rank, first_step=self.first_step, last_step=self.steps
        )
        self._current = Accumulation([], 1.0, 0.0)
        self.timed: nn.Module | None = None
        """The model as DDP wraps it, where DDP does: records then say how long it waits for other ranks."""

    def accumulations(self) -> Iterator[tuple[int, list[Batch]]]:
        """Each optimizer step's number (from 1) with its micro-batches, until the last step or an agreed stop."""
        batches = iter(self.loader)
        for step in range(self.first_step + 1, self.steps + 1):
            if self.stopping:
                return
            yield step, self.accumulate(batches).batches

    def accumulate(self, batches: Iterator[Batch]) -> Accumulation:
        """Take one step's micro-batches; agree with all ranks on its target tokens and on whether to stop after it."""
        begin = time.monotonic()
        micro = [next(batches) for _ in range(self.spec.train.gradient_accumulation_steps)]
        waited = time.monotonic() - begin
        tokens = self.agree(float(sum(target_tokens(batch) for batch in micro)))
        self._current = Accumulation(micro, max(tokens, 1.0), waited)
        return self._current

    @property
    def loss_scale(self) -> float:
        """Times this, a summed loss gives gradients that, averaged over ranks, are those of the mean per token."""
        return self.ranks.world_size / self._current.tokens

    def settle(self, model: nn.Module) -> None:
        """Before the first step, let a DDP model's gradients live in its buckets: one backward pass is thrown away.

        From then on `zero_grad` fills them with zeros, and the buckets take in the gradients of every pass of a step:
        four bytes a parameter less than beside them. DDP lays out its buckets anew after its first backward pass, and
        an element's place there decides in which order the ranks' gradients are added, so how they are rounded: a
        resumed run adds up as an unbroken one does. The random state stays as it is.
        """
        if not isinstance(model, DistributedDataParallel):
            return
        device = self.ranks.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            batch = to_device(collate([self.split.train[0]]), device)
            summed_loss(model, batch).backward()  # type: ignore[no-untyped-call] # torch
        model.zero_grad = partial(model.zero_grad, set_to_none=False)  # type: ignore[method-assign]
        model.zero_grad()

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


def _open_split(me: Rank) -> Split:
    prepared = prepared_of(me.run)
    validation = Path(prepared.validation) if prepared.validation else None
    return open_split(Path(prepared.train), validation, me.spec.data.max_eval_samples)

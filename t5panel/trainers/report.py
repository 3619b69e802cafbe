"""Rank 0 tells the run directory what happens; all ranks measure, and a GPU's value is read only where it is logged."""

from __future__ import annotations

import logging
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import msgspec
import torch
from torch import Tensor

from t5panel.contract.layout import append_line, write_atomic
from t5panel.contract.records import (
    Checkpoint,
    Evaluation,
    Metric,
    Result,
    Start,
    Status,
    Step,
    encode_line,
    finite_or_none,
)
from t5panel.trainers.checkpoint import lacks_space
from t5panel.trainers.guard import Rank
from t5panel.trainers.ranks import Ranks

log = logging.getLogger(__name__)


class RowCounts(Protocol):
    """How many rows are trained on, and how many are evaluated."""

    @property
    def train_rows(self) -> int:
        """Rows of one epoch."""

    @property
    def eval_rows(self) -> int:
        """Rows held out; 0: nothing is evaluated."""


class Meter:
    """What one rank measured since the last record."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.reset()

    def reset(self) -> None:
        """Start a new record."""
        self._loss = torch.zeros((), dtype=torch.float32, device=self._device)
        self.tokens, self.steps, self.waited, self._begin = 0.0, 0, 0.0, time.monotonic()

    def add_loss(self, summed: Tensor) -> None:
        """Add a micro-batch's summed loss; the value stays on the device."""
        self._loss += summed.detach()

    def add_step(self, *, tokens: float, waited: float) -> None:
        """Count one optimizer step with its target tokens over all ranks and its seconds of waiting for data."""
        self.steps += 1
        self.tokens += tokens
        self.waited += waited

    def skip(self, seconds: float) -> None:
        """Leave out time that was not training: an evaluation, a checkpoint."""
        self._begin += seconds

    def summed_loss(self) -> float:
        """This rank's summed loss. Waits for the device."""
        return self._loss.item()

    @property
    def seconds(self) -> float:
        """Training seconds since the last record."""
        return time.monotonic() - self._begin


class Reporter:
    """Writes metrics.jsonl and result.json. Every rank calls every method; only rank 0 writes."""

    def __init__(self, me: Rank, ranks: Ranks, rows: RowCounts) -> None:
        self._me, self._ranks, self._rows = me, ranks, rows
        self.meter = Meter(ranks.device)
        self._first: float | None = None
        self._last: float | None = None
        self._eval_loss: float | None = None
        self._checkpoint: str | None = None
        self._recorded, self._timed = 0, (0, 0.0)
        self._resumed_first: float | None = None
        self._unwritten: list[bytes] = []
        self._began = time.monotonic()

    def started(self, *, step: int, max_steps: int, parameters: int) -> None:
        """Training begins at `step`."""
        if step > 0:
            self._resumed_first = first_loss(self._me.run.metrics)
        self._write(
            Start(
                time=time.time(),
                step=step,
                max_steps=max_steps,
                world_size=self._ranks.world_size,
                parameters=parameters,
                train_rows=self._rows.train_rows,
                eval_rows=self._rows.eval_rows,
                effective_batch=self._me.spec.effective_batch,
            )
        )
        self.phase("running", step)
        self.meter.reset()

    def phase(self, phase: str, step: int) -> None:
        """What the ranks do from now on."""
        self._write(Status(time.time(), step, phase))  # type: ignore[arg-type]

    def step(
        self, step: int, *, learning_rate: float, grad_norm: float | None, communication: float | None = None
    ) -> None:
        """Record the steps since the last record, up to `step`; `communication`: what one of them waited for others."""
        meter = self.meter
        [loss_sum] = self._ranks.sum([meter.summed_loss()])
        seconds = meter.seconds
        loss = finite_or_none(loss_sum / max(meter.tokens, 1.0))
        if self._recorded == 0:
            self._first = loss if self._resumed_first is None else self._resumed_first
            self._timed = (meter.steps, seconds)
        else:  # the first record holds the warm-up of kernels and caches, and counts only while it is the only one
            steps, earlier = (0, 0.0) if self._recorded == 1 else self._timed
            self._timed = (steps + meter.steps, earlier + seconds)
        self._recorded += 1
        self._last = loss
        samples = step * self._me.spec.effective_batch
        on_card = self._ranks.device.type == "cuda"
        self._write(
            Step(
                time=time.time(),
                step=step,
                epoch=samples / self._rows.train_rows,
                loss=loss,
                learning_rate=learning_rate,
                grad_norm=None if grad_norm is None else finite_or_none(grad_norm),
                samples=samples,
                target_tokens=round(meter.tokens),
                step_seconds=seconds / max(meter.steps, 1),
                data_wait_seconds=meter.waited / max(meter.steps, 1),
                vram_allocated=torch.cuda.max_memory_allocated() if on_card else None,
                vram_reserved=torch.cuda.max_memory_reserved() if on_card else None,
                communication_seconds=communication,
            )
        )
        meter.reset()

    def evaluated(self, evaluation: Evaluation) -> None:
        """Record an evaluation, and its answers in a file of their own."""
        self._eval_loss = evaluation.eval_loss
        self._write(evaluation)
        if self._ranks.rank == 0:
            lines = b"".join(msgspec.json.encode(sample) + b"\n" for sample in evaluation.samples)
            with _surviving_a_full_disk():
                write_atomic(self._me.run.predictions, lines)

    def saved(self, checkpoint: Checkpoint) -> None:
        """Record a complete checkpoint."""
        self._checkpoint = checkpoint.path
        self._write(checkpoint)

    def ended(self, *, step: int, stopped: bool) -> None:
        """Write the result: the run's only proof of a clean end.

        Losses are those of the whole run; samples per second, seconds and peaks are those since the last start.
        """
        usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        on_card = self._ranks.device.type == "cuda"
        peaks = self._ranks.gather((usage, torch.cuda.max_memory_reserved() if on_card else 0))
        if self._ranks.rank != 0:
            return
        steps, seconds = self._timed
        result = Result(
            status="stopped" if stopped else "finished",
            step=step,
            loss_first=self._first,
            loss_last=self._last,
            samples_per_second=steps * self._me.spec.effective_batch / max(seconds, 1e-9),
            peak_rss_per_rank=tuple(peak[0] for peak in peaks),
            peak_vram_per_card=tuple(peak[1] for peak in peaks) if on_card else (),
            checkpoint=self._checkpoint,
            eval_loss=self._eval_loss,
            seconds=time.monotonic() - self._began,
        )
        write_atomic(self._me.run.result, msgspec.json.encode(result))

    def _write(self, metric: Metric) -> None:
        if self._ranks.rank != 0:
            return
        self._unwritten.append(encode_line(metric))
        with _surviving_a_full_disk():
            while self._unwritten:
                append_line(self._me.run.metrics, self._unwritten[0])
                del self._unwritten[0]


@contextmanager
def _surviving_a_full_disk() -> Iterator[None]:
    """Hours of training are worth more than a record: say it, and go on."""
    try:
        yield
    except OSError as error:
        if not lacks_space(error):
            raise
        log.warning("a record could not be written: %s", error)


def first_loss(metrics: Path) -> float | None:
    """The loss of the first record of a run; None when there is none that can be read."""
    decoder = msgspec.json.Decoder(Metric)
    with metrics.open("rb") as lines:
        for line in lines:
            with suppress(msgspec.DecodeError):  # a line that a dead writer left torn
                metric = decoder.decode(line)
                if isinstance(metric, Step):
                    return metric.loss
    return None

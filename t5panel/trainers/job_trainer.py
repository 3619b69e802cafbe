"""Hugging Face's Trainer with our rows, our loss scale, our steps and our checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import Seq2SeqTrainer, TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME

from t5panel.contract.records import Evaluation
from t5panel.trainers.course import Duty
from t5panel.trainers.data import Row
from t5panel.trainers.job import Job
from t5panel.trainers.loss import Batch, summed_loss
from t5panel.trainers.random_state import save_rng


class JobTrainer(Seq2SeqTrainer):  # type: ignore[misc]
    """A Seq2SeqTrainer whose loss is the mean per target token over ranks and accumulation.

    Stock, the Trainer believes that T5 uses `num_items_in_batch` and multiplies loss and gradients by world size x
    accumulation. Here `compute_loss` scales by itself and says so, in the ways of old and new versions.
    """

    control: Any

    def __init__(self, job: Job, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        self.job = job
        self.loss_is_scaled_for_ga = self.model_accepts_loss_kwargs = True

    def get_train_dataloader(self) -> DataLoader[Row]:
        """All micro-batches of this rank from the first step on, as a single epoch."""
        return self.job.loader

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], float]:
        """One optimizer step's micro-batches and its target tokens over all ranks."""
        if self.state.global_step == self.job.first_step:
            self.job.settle(self.model_wrapped)
        accumulation = self.job.accumulate(epoch_iterator)
        return accumulation.batches, accumulation.tokens

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: float | None = None,
    ) -> Tensor:
        """This rank's part of the step's mean loss per token, times the ranks that DDP will average over."""
        loss = summed_loss(model, inputs)
        self.job.reporter.meter.add_loss(loss)
        return loss * self.job.loss_scale

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:  # noqa: ANN401
        """Evaluate as all methods do."""
        if self.control.should_save:
            # The Trainer would save after it; but an evaluation may fail.
            self.job.save(self.state.global_step, self._write)
        self.job.evaluate(self.state.global_step, self._evaluation)
        # Lowers the flag that asked for it; still up, it would ask again at the end of the epoch.
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, {})
        return {}

    def _evaluation(self) -> Evaluation:
        precision: AbstractContextManager[Any] = self.accelerator.autocast()
        return self.job.evaluator.evaluate(self.model_wrapped, self.model, self.state.global_step, precision)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:  # noqa: ANN401
        """Save what the Trainer itself resumes from, through our staging folder and marker."""
        self.job.save(self.state.global_step, self._write)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as the Trainer does, once it is known what DDP made of the model."""
        self.job.timed = self.model_wrapped
        super().log(logs, start_time)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Restore what the Trainer's own way does not: it knows no rank without a file."""
        self.job.restore_random_state()

    def _wrap_model(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Wrap as the Trainer does, but let gradients live in DDP's buckets: four bytes a parameter less."""
        model = super()._wrap_model(*args, **kwargs)
        if self.accelerator.ddp_handler is not None:
            self.accelerator.ddp_handler.gradient_as_bucket_view = True
        return model

    def _write(self, folder: Path) -> None:
        self.save_model(str(folder), _internal_call=True)
        self._save_optimizer_and_scheduler(str(folder))
        save_rng(folder, self.job.ranks.rank)
        if self.args.should_save:
            self.state.save_to_json(str(folder / TRAINER_STATE_NAME))


class Recorded(Protocol):
    """A course whose steps the Trainer makes and tells of."""

    stopping: bool
    steps: int

    def count(self) -> None:
        """Count a finished optimizer step."""

    def duties(self, step: int) -> set[Duty]:
        """What is due after a step."""

    def log(self, step: int, *, learning_rate: float, grad_norm: Tensor | float | None) -> None:
        """Record the loss since the last record."""


class JobCallback(TrainerCallback):  # type: ignore[misc]
    """Turns what is due after a step into the Trainer's own flags, and its log into our record."""

    def __init__(self, job: Recorded) -> None:
        self._job = job

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Count the step and raise the flags of what is due."""
        self._job.count()
        due = self._job.duties(state.global_step)
        control.should_log = "log" in due
        control.should_evaluate = "evaluate" in due
        control.should_save = "save" in due
        control.should_training_stop = self._job.stopping or state.global_step >= self._job.steps

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **kwargs: Any) -> None:  # noqa: ANN401
        """Record the step. The Trainer's closing summary has no learning rate and is left out."""
        if "learning_rate" in logs:
            self._job.log(state.global_step, learning_rate=logs["learning_rate"], grad_norm=logs.get("grad_norm"))

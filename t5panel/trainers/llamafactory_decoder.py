"""A decoder-only model under method `llamafactory`: LLaMA-Factory trains it in its own way, rows, loss and optimizer.

Around it are our steps, records, stop and checkpoints, so that it is watched and resumed as the other methods are.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from t5panel.contract.records import Evaluation, finite_or_none
from t5panel.contract.resuming import identity_of_spec
from t5panel.trainers.course import Course
from t5panel.trainers.data import total_steps
from t5panel.trainers.guard import Rank
from t5panel.trainers.llamafactory_course import on_course
from t5panel.trainers.llamafactory_decoder_rows import TokenizedRows
from t5panel.trainers.llamafactory_modules import LlamaFactory, load_states
from t5panel.trainers.loss import IGNORED
from t5panel.trainers.ranks import Ranks

TRAINERS = {"sft": "CustomSeq2SeqTrainer", "pt": "CustomTrainer", "dpo": "CustomDPOTrainer", "kto": "CustomKTOTrainer"}
"""What the workflow of each stage trains with."""


class DecoderJob(Course):
    """The course of a decoder-only model on LLaMA-Factory's rows."""

    def __init__(self, me: Rank, ranks: Ranks) -> None:
        rows = TokenizedRows.of(me.run)
        identity = identity_of_spec(me.spec, data=rows.identity, held_out=rows.eval_rows)
        super().__init__(me, ranks, rows, total_steps(me.spec, rows.train_rows), identity)
        self.loss: float | None = None
        """As LLaMA-Factory's trainer has just logged it."""
        self._tokens = torch.zeros((), device=ranks.device)
        self._waited = 0.0

    def begin(self, batches: list[Any], waited: float) -> None:
        """Take this rank's micro-batches of the next step."""
        self.agree(0.0)
        self._waited = waited
        for batch in batches:
            if "labels" in batch:
                self._tokens += (batch["labels"] != IGNORED).sum().to(self._tokens.device)

    def count(self) -> None:
        """Count a finished optimizer step."""
        self.reporter.meter.add_step(tokens=0.0, waited=self._waited)

    def log(self, step: int, *, learning_rate: float, grad_norm: Tensor | float | None) -> None:
        """Record the loss that LLaMA-Factory's trainer logged, which is the mean of all ranks. Waits for the GPU."""
        meter = self.reporter.meter
        [meter.tokens] = self.ranks.sum([float(self._tokens)])
        self._tokens.zero_()
        if self.ranks.rank == 0 and self.loss is not None:
            meter.add_loss(torch.tensor(self.loss * max(meter.tokens, 1.0)))
        norm = None if grad_norm is None else float(grad_norm)
        self.reporter.step(step, learning_rate=learning_rate, grad_norm=norm)


def register_decoder(factory: LlamaFactory, job: DecoderJob) -> None:
    """Put our steps around the trainer of the run's stage, and let no encoder-decoder come here."""
    read_config = factory.models.load_config

    def load_config(model_args: Any) -> Any:  # noqa: ANN401
        config = read_config(model_args)
        if config.is_encoder_decoder:
            raise TypeError(f"{config.model_type} is an encoder-decoder: LLaMA-Factory's own rows show it the answers")
        return config

    factory.models.load_config = load_config
    stage = (job.spec.llamafactory or {}).get("stage", "sft")
    workflow, name = import_module(f"llamafactory.train.{stage}.workflow"), TRAINERS[stage]
    setattr(workflow, name, decoder_trainer_for(getattr(workflow, name), job))


def decoder_trainer_for(base: type, job: DecoderJob) -> type:
    """A trainer of LLaMA-Factory that begins, records, saves and ends as all methods do."""

    class DecoderTrainer(on_course(base, job)):  # type: ignore[misc]
        """Its rows, loss and optimizer; our steps."""

        control: Any
        _staging: Path | None = None

        def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            """A step's micro-batches, and whether it is the last."""
            begin = time.monotonic()
            found = super().get_batch_samples(*args, **kwargs)
            job.begin(found[0], time.monotonic() - begin)
            return found

        def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
            """Log, and keep the loss for the record."""
            job.loss = logs.get("loss")
            super().log(logs, *args, **kwargs)

        def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:  # noqa: ANN401
            """Evaluate, after the checkpoint of the same step."""
            metrics: dict[str, float] = {}
            if self.control.should_save:
                self._save_checkpoint(self.model, None)

            def evaluation() -> Evaluation:
                begin = time.monotonic()
                metrics.update(super(DecoderTrainer, self).evaluate(*args, **kwargs))
                loss = metrics.get("eval_loss")
                loss = None if loss is None else finite_or_none(loss)
                seconds = time.monotonic() - begin
                return Evaluation(time.time(), self.state.global_step, loss, None, None, (), seconds)

            job.evaluate(self.state.global_step, evaluation)
            return metrics

        def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
            job.save(self.state.global_step, self._saving(lambda: super(DecoderTrainer, self)._save_checkpoint(*args)))

        def _saving(self, save: Callable[[], None]) -> Callable[[Path], None]:
            """Let a save write into the folder that it is given; the Trainer names a folder in another one."""

            def write(folder: Path) -> None:
                self._staging = folder.parent
                try:
                    save()
                finally:
                    self._staging = None

            return write

        def _get_output_dir(self, trial: Any) -> str:  # noqa: ANN401
            return str(self._staging or super()._get_output_dir(trial))

        def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
            if checkpoint is None or self.is_deepspeed_enabled or job.ranks.device.type == "cuda":
                super()._load_optimizer_and_scheduler(checkpoint)
            else:
                load_states(self.optimizer, self.lr_scheduler, Path(checkpoint), job.ranks.device)

    return DecoderTrainer

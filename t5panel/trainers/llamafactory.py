"""Method `llamafactory`: LLaMA-Factory's fine-tuning, with the rows and the loss that an encoder-decoder needs.

Its own modules do the work. Registered in them, by the names of the one version this was tested with, are our rows, our
steps and our checkpoints; then its tuner takes over.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed

from t5panel.contract.layout import RUN_DIR_VARIABLE, write_atomic
from t5panel.contract.llamafactory import arguments, files_of
from t5panel.contract.spec import RunSpec
from t5panel.trainers.guard import Rank, enter_rank
from t5panel.trainers.job import Job
from t5panel.trainers.job_trainer import JobCallback, JobTrainer
from t5panel.trainers.llamafactory_course import on_course
from t5panel.trainers.llamafactory_decoder import DecoderJob, register_decoder
from t5panel.trainers.llamafactory_modules import LlamaFactory, import_llamafactory, load_states
from t5panel.trainers.optim import build_optimizer, build_schedule
from t5panel.trainers.ranks import Ranks
from t5panel.trainers.text import run_tokenizer


def train(me: Rank) -> None:
    """Train from the first step, or the newest complete checkpoint, to the end or an agreed stop."""
    sys.modules.pop("datasets", None)  # the guard keeps it out of other methods' ranks; LLaMA-Factory needs it
    ranks = Ranks(me)
    factory = import_llamafactory()
    if me.spec.deepspeed is not None:
        _spare_the_compiler(me.spec)
    job = _registered(factory, me, ranks)
    if ranks.rank == 0:  # after an out-of-memory recovery the spec is another than the front wrote these for
        for path, text in files_of(me.spec, me.run).items():
            write_atomic(path, text.encode())
    given = {**arguments(me.spec, me.run), "max_steps": job.steps}
    given.pop("num_train_epochs", None)
    factory.tuner.run_exp(given, callbacks=[JobCallback(job)])


def _registered(factory: LlamaFactory, me: Rank, ranks: Ranks) -> Job | DecoderJob:
    if me.spec.model.decoder_only:
        decoder = DecoderJob(me, ranks)
        register_decoder(factory, decoder)
        return decoder
    job = Job(me, ranks)
    register_trainer(factory, job)
    return job


def register_trainer(factory: LlamaFactory, job: Job) -> None:
    """Put our rows, our tokenizer, our dropout and our trainer where LLaMA-Factory looks for its own."""
    workflow, read_config = factory.workflow, factory.models.load_config

    def load_config(model_args: Any) -> Any:  # noqa: ANN401
        config = read_config(model_args)
        if not config.is_encoder_decoder:
            raise TypeError(f"{config.model_type} is a decoder: model.decoder_only was not set")
        if job.spec.train.dropout_rate is not None:
            config.dropout_rate = job.spec.train.dropout_rate
        return config

    factory.models.load_config = load_config
    workflow.load_tokenizer = lambda _: {"tokenizer": run_tokenizer(job.me.run), "processor": None}
    workflow.get_dataset = lambda *_, **__: {"train_dataset": job.split.train}
    workflow.CustomSeq2SeqTrainer = trainer_for(workflow.CustomSeq2SeqTrainer, job)


def trainer_for(base: type, job: Job) -> type:
    """LLaMA-Factory's trainer with our steps around it."""

    class FactoryTrainer(JobTrainer, on_course(base, job)):  # type: ignore[misc]
        """Loss, evaluation and checkpoints of all methods, in LLaMA-Factory's trainer."""

        optimizer: Any
        lr_scheduler: Any

        def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401
            super().__init__(job, **kwargs)

        def create_optimizer(self, *_: Any, **__: Any) -> torch.optim.Optimizer:  # noqa: ANN401
            """The optimizer of all methods."""
            if self.optimizer is None:
                self.optimizer = build_optimizer(self.model, job.spec.train)
            return self.optimizer  # type: ignore[no-any-return] # the library is untyped

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:  # noqa: ANN401
            """The schedule of all methods."""
            if self.lr_scheduler is None:
                self.lr_scheduler = build_schedule(optimizer or self.optimizer, job.spec.train, num_training_steps)
            return self.lr_scheduler

        def train(self, *_: Any, **__: Any) -> Any:  # noqa: ANN401
            """Train from the seed of all methods."""
            set_seed(job.spec.train.seed + job.ranks.rank)
            return super().train()

        def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
            if checkpoint is None or self.is_deepspeed_enabled:
                super()._load_optimizer_and_scheduler(checkpoint)
            else:
                load_states(self.optimizer, self.lr_scheduler, Path(checkpoint), job.ranks.device)

    return FactoryTrainer


def _spare_the_compiler(spec: RunSpec) -> None:
    import deepspeed

    if spec.device == "cpu":
        # This op would be compiled at start-up: 50 CPU seconds and 1.6 GB, or a crash without a compiler. gloo does it.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


if __name__ == "__main__":
    if not sys.argv[1:]:  # started by LLaMA-Factory's own launcher
        sys.argv.append(os.environ[RUN_DIR_VARIABLE])
    train(enter_rank())

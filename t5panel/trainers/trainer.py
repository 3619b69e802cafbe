"""Method `trainer`: Hugging Face's Seq2SeqTrainer under torchrun, with our rows, our loss scale and our checkpoints."""

from __future__ import annotations

import math
from pathlib import Path

from transformers import Seq2SeqTrainingArguments, set_seed

from t5panel.contract.spec import RunSpec
from t5panel.trainers.guard import Rank, enter_rank
from t5panel.trainers.job import Job
from t5panel.trainers.job_trainer import JobCallback, JobTrainer
from t5panel.trainers.model import build_model, parameter_count
from t5panel.trainers.optim import build_optimizer, build_schedule
from t5panel.trainers.ranks import Ranks
from t5panel.trainers.text import run_tokenizer


def train(me: Rank) -> None:
    """Train from the first step, or the newest complete checkpoint, to the end or an agreed stop."""
    ranks = Ranks(me)
    job = Job(me, ranks)
    model = build_model(me.spec, ranks.device)
    optimizer = build_optimizer(model, me.spec.train)
    schedule = build_schedule(optimizer, me.spec.train, job.steps)
    trainer = JobTrainer(
        job,
        model=model,
        args=training_arguments(me.spec, me.run.checkpoints, job.steps),
        train_dataset=job.split.train,
        optimizers=(optimizer, schedule),
        processing_class=run_tokenizer(me.run),
        callbacks=[JobCallback(job)],
    )
    set_seed(me.spec.train.seed + ranks.rank)
    job.start(parameter_count(model))
    trainer.train(resume_from_checkpoint=str(job.checkpoint) if job.checkpoint else None)
    job.finish()


def training_arguments(spec: RunSpec, output: Path, steps: int) -> Seq2SeqTrainingArguments:
    """The Trainer's arguments of a spec. Logging, evaluation and saving are switched on by the callback alone."""
    train = spec.train
    return Seq2SeqTrainingArguments(
        output_dir=str(output),
        max_steps=steps,
        per_device_train_batch_size=train.per_device_train_batch_size,
        per_device_eval_batch_size=train.per_device_eval_batch_size,
        gradient_accumulation_steps=train.gradient_accumulation_steps,
        max_grad_norm=train.max_grad_norm or math.inf,  # infinity: not clipped, but measured
        learning_rate=train.learning_rate,
        bf16=train.bf16,
        seed=train.seed,
        use_cpu=spec.device == "cpu",
        ddp_find_unused_parameters=False,
        logging_strategy="no",
        eval_strategy="no",
        save_strategy="no",
        logging_nan_inf_filter=False,
        ignore_data_skip=True,
        disable_tqdm=True,
        report_to=[],
        remove_unused_columns=False,
    )


if __name__ == "__main__":
    train(enter_rank())

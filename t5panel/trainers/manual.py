"""Method `manual`: a training loop on one page, under `accelerate launch` or torchrun."""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from transformers import set_seed

from t5panel.contract.records import Evaluation
from t5panel.trainers.guard import Rank, enter_rank
from t5panel.trainers.job import Job
from t5panel.trainers.loss import summed_loss, to_device
from t5panel.trainers.model import build_model, parameter_count
from t5panel.trainers.optim import build_optimizer, build_schedule, learning_rate
from t5panel.trainers.random_state import save_rng
from t5panel.trainers.ranks import Ranks
from t5panel.trainers.text import run_tokenizer


def train(me: Rank) -> None:
    """Train from the first step, or the newest complete checkpoint, to the end or an agreed stop."""
    spec = me.spec
    ranks = Ranks(me)
    accelerator = Accelerator(
        mixed_precision="bf16" if spec.train.bf16 else "no",
        kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],
    )
    job = Job(me, ranks)
    plain_model = build_model(spec, ranks.device)
    plain_optimizer = build_optimizer(plain_model, spec.train)
    schedule = build_schedule(plain_optimizer, spec.train, job.steps)
    model, optimizer = accelerator.prepare(plain_model, plain_optimizer)
    set_seed(spec.train.seed + ranks.rank)
    job.settle(model)
    if job.checkpoint is not None:
        state = torch.load(job.checkpoint / "optimizer.pt", map_location=ranks.device, weights_only=True)
        load_weights(plain_model, job.checkpoint)
        plain_optimizer.load_state_dict(state)
        schedule.load_state_dict(torch.load(job.checkpoint / "scheduler.pt", weights_only=True))
    job.restore_random_state()

    def write(folder: Path) -> None:
        if ranks.rank == 0:
            plain_model.save_pretrained(folder)
            run_tokenizer(me.run).save_pretrained(folder)
            torch.save(plain_optimizer.state_dict(), folder / "optimizer.pt")
            torch.save(schedule.state_dict(), folder / "scheduler.pt")
        save_rng(folder, ranks.rank)

    def evaluation() -> Evaluation:
        return job.evaluator.evaluate(model, plain_model, step, accelerator.autocast())

    job.timed = model
    job.start(parameter_count(plain_model))
    for step, batches in job.accumulations():
        for number, batch in enumerate(batches, start=1):
            last = number == len(batches)
            with nullcontext() if last else accelerator.no_sync(model):
                loss = summed_loss(model, to_device(batch, ranks.device))
                job.reporter.meter.add_loss(loss)
                accelerator.backward(loss * job.loss_scale)
        grad_norm = accelerator.clip_grad_norm_(model.parameters(), spec.train.max_grad_norm or math.inf)
        rate = learning_rate(plain_optimizer)
        optimizer.step()
        schedule.step()
        model.zero_grad()
        job.count()
        job.after_step(step, learning_rate=rate, grad_norm=grad_norm, evaluation=evaluation, write=write)
    job.finish()


def load_weights(model: torch.nn.Module, folder: Path) -> None:
    """Put a checkpoint's weights into a model, tied ones included."""
    from safetensors.torch import load_model

    load_model(model, str(folder / "model.safetensors"))


if __name__ == "__main__":
    train(enter_rank())

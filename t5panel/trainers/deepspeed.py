"""Method `deepspeed`: the DeepSpeed engine with ZeRO stages 0-3, under `deepspeed` or torchrun."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed

from t5panel.contract.records import Evaluation
from t5panel.contract.spec import RunSpec
from t5panel.trainers.guard import Rank, enter_rank
from t5panel.trainers.job import Job
from t5panel.trainers.loss import summed_loss, to_device
from t5panel.trainers.model import build_model, parameter_count
from t5panel.trainers.optim import build_optimizer, build_schedule, learning_rate
from t5panel.trainers.random_state import save_rng
from t5panel.trainers.ranks import Ranks
from t5panel.trainers.text import run_tokenizer

TAG = "zero"
NEVER = 10**9


def engine_config(spec: RunSpec) -> dict[str, Any]:
    """The user's DeepSpeed JSON with all that `train` decides filled in. Clipping is explicit: the default is 1.

    Values of "auto" are left out: here `train` fills them in, inside `zero_optimization` DeepSpeed's defaults do.
    """
    given = {key: value for key, value in (spec.deepspeed or {}).items() if value != "auto"}
    zero = {key: value for key, value in given.get("zero_optimization", {}).items() if value != "auto"}
    return {
        "zero_force_ds_cpu_optimizer": False,  # torch's fused AdamW runs on the host too; DeepSpeed's would be compiled
        **given,
        "zero_optimization": zero,
        "train_micro_batch_size_per_gpu": spec.train.per_device_train_batch_size,
        "gradient_accumulation_steps": spec.train.gradient_accumulation_steps,
        "gradient_clipping": spec.train.max_grad_norm,
        "bf16": {"enabled": spec.train.bf16},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": NEVER,
    }


def train(me: Rank) -> None:
    """Train from the first step, or the newest complete checkpoint, to the end or an agreed stop."""
    # Nothing is compiled here, but DeepSpeed decorates an optimizer that we do not use: 2.5 CPU seconds in every rank.
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
    import deepspeed

    from t5panel.trainers.shards import ShardFiles

    spec = me.spec
    if spec.device == "cpu":
        # This op would be compiled at start-up: 50 CPU seconds and 1.6 GB, or a crash without a compiler. gloo does it.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    ranks = Ranks(me)
    job = Job(me, ranks)
    model = build_model(spec, ranks.device)
    optimizer = build_optimizer(model, spec.train)
    schedule = build_schedule(optimizer, spec.train, job.steps)
    engine, _, _, _ = deepspeed.initialize(model=model, optimizer=optimizer, config=engine_config(spec))
    files = engine.checkpoint_engine = ShardFiles()
    # Rank 0 alone would copy a script on a disk that may be full, while the others wait for it in a barrier.
    engine._copy_recovery_script = lambda _folder: None
    set_seed(spec.train.seed + ranks.rank)
    if job.checkpoint is not None:
        engine.load_checkpoint(str(job.checkpoint), tag=TAG)
        schedule.load_state_dict(torch.load(job.checkpoint / "scheduler.pt", weights_only=True))
        for group, rate in zip(optimizer.param_groups, schedule.get_last_lr(), strict=True):
            group["lr"] = rate
    job.restore_random_state()

    def write(folder: Path) -> None:
        engine.save_checkpoint(str(folder), tag=TAG, save_latest=False)
        weights = engine._zero3_consolidated_16bit_state_dict() if spec.zero_stage == 3 else model.state_dict()
        files.raise_first()
        if ranks.rank == 0:
            (folder / "latest").write_text(TAG, encoding="utf-8")  # for DeepSpeed's own zero_to_fp32.py
            model.save_pretrained(folder, state_dict=weights)
            run_tokenizer(me.run).save_pretrained(folder)
            torch.save(schedule.state_dict(), folder / "scheduler.pt")
        save_rng(folder, ranks.rank)

    def evaluation() -> Evaluation:
        return job.evaluator.evaluate(engine, model, step, nullcontext())

    # Without an optimizer wrapper of its own (ZeRO-0 in fp32) the engine clips but does not tell the norm.
    norm_is_ours = spec.zero_stage == 0 and not spec.train.bf16
    job.start(parameter_count(model))
    for step, batches in job.accumulations():
        rate = learning_rate(optimizer)
        for batch in batches:
            loss = summed_loss(engine, to_device(batch, ranks.device))
            job.reporter.meter.add_loss(loss)
            engine.backward(loss * job.loss_scale, scale_wrt_gas=False)
            grad_norm = plain_grad_norm(engine) if norm_is_ours else None
            engine.step()
        schedule.step()
        job.count()
        if not norm_is_ours:
            grad_norm = engine.get_global_grad_norm()
        job.after_step(step, learning_rate=rate, grad_norm=grad_norm, evaluation=evaluation, write=write)
    job.finish()


def plain_grad_norm(engine: Any) -> torch.Tensor | None:  # noqa: ANN401 - DeepSpeed is untyped
    """Norm of the averaged gradients before clipping, at the last micro-batch of a step; None at the others."""
    if not engine.is_gradient_accumulation_boundary():
        return None
    gradients = [parameter.grad for parameter in engine.module.parameters() if parameter.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)


if __name__ == "__main__":
    train(enter_rank())

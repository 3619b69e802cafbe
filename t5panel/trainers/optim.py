"""One optimizer and one schedule for all methods."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_scheduler
from transformers.optimization import Adafactor

from t5panel.contract.spec import TrainSpec


def build_optimizer(model: nn.Module, train: TrainSpec) -> Optimizer:
    """AdamW or Adafactor over a model's parameters; vectors (norms, biases) are not decayed."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if _dimensions(p) >= 2], "weight_decay": train.weight_decay},
        {"params": [p for p in trainable if _dimensions(p) < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if train.optim == "adafactor":
        adafactor: Optimizer = Adafactor(groups, lr=train.learning_rate, scale_parameter=False, relative_step=False)
        return adafactor
    return torch.optim.AdamW(
        groups,
        lr=train.learning_rate,
        betas=(train.adam_beta1, train.adam_beta2),
        eps=train.adam_epsilon,
        fused=True if train.optim == "adamw_torch_fused" else None,  # else torch chooses: on CUDA its foreach
    )


def _dimensions(parameter: nn.Parameter) -> int:
    """Also of one that ZeRO-3 has taken apart, of which every rank holds a flat piece."""
    return len(getattr(parameter, "ds_shape", parameter.shape))


def build_schedule(optimizer: Optimizer, train: TrainSpec, steps: int) -> LRScheduler:
    """The learning rate of each of `steps` optimizer steps."""
    warmup = train.warmup_steps if train.warmup_steps >= 1 else train.warmup_steps * steps
    schedule: LRScheduler = get_scheduler(
        train.lr_scheduler_type, optimizer, num_warmup_steps=round(warmup), num_training_steps=steps
    )
    return schedule


def learning_rate(optimizer: Optimizer) -> float:
    """The rate of the next optimizer step."""
    return float(optimizer.param_groups[0]["lr"])

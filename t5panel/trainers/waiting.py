"""How long a step waited for the gradients of other ranks, where that is known for nothing."""

from __future__ import annotations

from torch import nn
from torch.nn.parallel import DistributedDataParallel

NANOSECOND = 1e-9


def gradient_wait(model: nn.Module) -> float | None:
    """Seconds of one optimizer step in which the all-reduce went on after the backward pass had ended, on this rank.

    DDP times the first ten steps and then one of a hundred, with CUDA events on a card. None before the first of them,
    and for a model that is none of DDP's: DeepSpeed would have to wait for the card to know.
    """
    if not isinstance(model, DistributedDataParallel):
        return None
    told: dict[str, int] = model._get_ddp_logging_data()  # type: ignore[no-untyped-call] # torch
    exchange, hidden = told.get("backward_comm_time"), told.get("backward_compute_comm_overlap_time")
    if not exchange or hidden is None:
        return None
    return max(0, exchange - hidden) * NANOSECOND

"""VRAM per card before the start. So far model states only: activations, logits and workspace are not counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from t5panel.contract.shapes import Shape
from t5panel.contract.spec import RunSpec
from t5panel.plan.machine import CardFacts

Verdict = Literal["fits", "tight", "no"]
MIB = 2**20

CONTEXT = 639 * MIB
"""CUDA context and loaded modules. Source: measured on one H100 with torch 2.11; differs by card."""
COMMUNICATOR = 566 * MIB
"""NCCL communicator on top of the context. Same measurement, a world of one."""
TIGHT_SHARE = 0.6
"""States above this share of a card leave so little for activations that we no longer say `fits`."""

REDUCE_BUCKET_SIZE = 500_000_000
"""Elements, where a preset names none or `auto`. Source: DeepSpeedZeroConfig, deepspeed 0.19."""

STATES_ONLY = (
    "states only: weights, gradients, optimizer and buckets; activations, logits and workspace are not counted"
)


@dataclass(frozen=True, slots=True)
class CardMemory:
    """One card's need in bytes, by part; None where it is not estimated."""

    index: int
    capacity: int
    context: int
    weights: int
    gradients: int
    optimizer: int
    buckets: int

    @property
    def states(self) -> int:
        """Everything the allocator holds for the model's states."""
        return self.weights + self.gradients + self.optimizer + self.buckets

    @property
    def verdict(self) -> Verdict:
        """Whether the states leave room; `fits` here never promises room for the activations."""
        need = self.states + self.context
        if need > self.capacity:
            return "no"
        return "tight" if need > TIGHT_SHARE * self.capacity else "fits"


def card_memory(spec: RunSpec, shape: Shape, card: CardFacts) -> CardMemory:
    """The states of one rank on one card. `card.total` less what others hold is its capacity."""
    weights, gradients, optimizer = _state_bytes(spec, shape)
    return CardMemory(
        index=card.index,
        capacity=card.total - card.used,
        context=CONTEXT + (COMMUNICATOR if spec.num_gpus > 1 else 0),
        weights=weights,
        gradients=gradients,
        optimizer=optimizer,
        buckets=_bucket_bytes(spec, shape),
    )


def state_bytes_on_host(spec: RunSpec, shape: Shape) -> int:
    """The states of one CPU rank, in bytes."""
    return sum(_state_bytes(spec, shape))


def _state_bytes(spec: RunSpec, shape: Shape) -> tuple[int, int, int]:
    """Bytes of weights, gradients and optimizer of one rank.

    Source: ZeRO paper (Rajbhandari et al. 2020), section 3: 2 + 2 + 12 bytes a parameter in mixed precision, each
    sharded from stages 3, 2 and 1 on; under autocast the weights stay fp32.
    """
    parameters, ranks, stage = shape.parameters, spec.num_gpus, spec.zero_stage
    engine_bf16 = spec.method == "deepspeed" and spec.train.bf16
    width = 2 if engine_bf16 else 4
    moments = parameters // 100 if spec.train.optim == "adafactor" else 8 * parameters
    master = 4 * parameters if engine_bf16 else 0

    def shard(size: int, *, from_stage: int) -> int:
        return size // ranks if stage >= from_stage else size

    return (
        shard(width * parameters, from_stage=3),
        shard(width * parameters, from_stage=2),
        shard(master + moments, from_stage=1),
    )


def _bucket_bytes(spec: RunSpec, shape: Shape) -> int:
    """Communication buffers: DeepSpeed's reduce bucket, doubled by overlap_comm.

    DDP takes none beside the gradients, which are views of its buckets (gradient_as_bucket_view).
    """
    if spec.zero_stage == 0:
        return 0
    zero = (spec.deepspeed or {}).get("zero_optimization", {})
    size = zero.get("reduce_bucket_size")
    elements = min(int(size) if isinstance(size, int | float) else REDUCE_BUCKET_SIZE, shape.parameters)
    return elements * (2 if spec.train.bf16 else 4) * (2 if zero.get("overlap_comm") else 1)

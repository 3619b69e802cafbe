"""Host RAM before the start: what all ranks and the launcher take together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from t5panel.contract.shapes import Shape
from t5panel.contract.words import Launcher, Method
from t5panel.plan.allocator import MIB
from t5panel.plan.memory import Verdict
from t5panel.plan.zero import Zero

if TYPE_CHECKING:
    from t5panel.contract.spec import RunSpec

CUDA_RANK: dict[Method, int] = {
    "manual": 1_950 * MIB,
    "trainer": 2_070 * MIB,
    "deepspeed": 2_100 * MIB,
    "llamafactory": 2_100 * MIB,
}
"""Resident memory of a CUDA rank beside its weights: torch, its kernels, the driver's mappings, shared files in full.

Source: this project's trainers with torch 2.11 on one H100 and one H200, the highest of four models; llamafactory is
taken to be like deepspeed.
"""
CPU_RANK = 430 * MIB
"""One CPU rank before its model. Source: measured on this project's trainers, torch 2.13."""
CPU_RANK_LLAMAFACTORY = 560 * MIB
"""The same in its environment, with all that LLaMA-Factory imports. Source: measured, 0.9.5, torch 2.13."""
LAUNCHER: dict[Launcher, int] = {
    "torchrun": 225 * MIB,
    "accelerate": 230 * MIB,
    "deepspeed": 490 * MIB,
    "llamafactory-cli": 575 * MIB,
}
"""The launcher's own processes. Source: measured, torch 2.13."""
SUPERVISOR = 20 * MIB
OFFLOAD = 1_300 * MIB
"""What an offloaded optimizer adds to a rank beside its shard: staging buffers and CPU Adam. Source: memory peaks of
ZeRO-2 with optimizer offload on three ranks, t5-base 4.0 and t5-large 8.4 GiB against 1.6 and 3.5 without."""
OFFLOADED_BYTES = 16
"""Of a parameter in a rank's shard on the host: fp32 master, two moments and gradient. Same source."""
TIGHT_SHARE = 0.85


@dataclass(frozen=True, slots=True)
class HostMemory:
    """Host RAM in bytes, by part."""

    capacity: int
    per_rank: int
    ranks: int
    launcher: int
    supervisor: int

    @property
    def total(self) -> int:
        """All parts together."""
        return self.ranks + self.launcher + self.supervisor

    @property
    def verdict(self) -> Verdict:
        """Whether the machine's limit holds it."""
        if self.total > self.capacity:
            return "no"
        return "tight" if self.total > TIGHT_SHARE * self.capacity else "fits"


def host_memory(spec: RunSpec, shape: Shape, capacity: int) -> HostMemory:
    """Host RAM of a run on a machine that may use `capacity` bytes."""
    if spec.device == "cpu":
        empty = CPU_RANK_LLAMAFACTORY if spec.method == "llamafactory" else CPU_RANK
        per_rank = empty + _states(spec, shape)
    else:
        # The weights pass through the host when they are loaded and saved: the peak, not the steady state.
        per_rank = CUDA_RANK[spec.method] + 4 * shape.parameters + _offloaded(spec, shape)
    return HostMemory(capacity, per_rank, per_rank * spec.num_gpus, LAUNCHER[spec.launcher], SUPERVISOR)


def _states(spec: RunSpec, shape: Shape) -> int:
    """Weights, gradients, optimizer and buckets of one CPU rank, in bytes.

    Source: the ZeRO paper (Rajbhandari et al. 2020), section 3, with the shards of a stage.
    """
    parameters, ranks, stage = shape.parameters, spec.num_gpus, spec.zero_stage
    engine_bf16 = spec.method == "deepspeed" and spec.train.bf16
    width = 2 if engine_bf16 else 4
    moments = parameters // 100 if spec.train.optim == "adafactor" else 8 * parameters
    master = 4 * parameters if engine_bf16 else 0

    def shard(size: int, *, from_stage: int) -> int:
        return size // ranks if stage >= from_stage else size

    states = (
        shard(width * parameters, from_stage=3)
        + shard(width * parameters, from_stage=2)
        + shard(master + moments, from_stage=1)
    )
    if stage == 0:
        return states
    bucket = Zero.from_config(spec.deepspeed or {}, ranks).reduce_bucket_size
    return states + 2 * width * min(bucket, parameters)


def _offloaded(spec: RunSpec, shape: Shape) -> int:
    """What ZeRO keeps on the host instead of the card, of one rank."""
    zero = Zero.from_config(spec.deepspeed or {}, spec.num_gpus)
    if not zero.offload_optimizer:
        return 0
    weights = 2 if zero.offload_param else 0
    return OFFLOAD + (OFFLOADED_BYTES + weights) * -(-shape.parameters // spec.num_gpus)

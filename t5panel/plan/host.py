"""Host RAM before the start: what all ranks and the launcher take together."""

from __future__ import annotations

from dataclasses import dataclass

from t5panel.contract.shapes import Shape
from t5panel.contract.spec import Launcher, Method, RunSpec
from t5panel.plan.memory import MIB, Verdict, state_bytes_on_host

CUDA_RANK: dict[Method, int] = {
    "manual": 1_560 * MIB,
    "trainer": 1_990 * MIB,
    "deepspeed": 2_100 * MIB,
    "llamafactory": 2_100 * MIB,
}
"""Steady resident memory of a CUDA rank: torch, its kernels and the driver's mappings, shared files counted in full.

Source: this project's trainers on one H100 with torch 2.11 and t5-base; llamafactory is taken to be like deepspeed.
"""
CPU_RANK = 430 * MIB
"""One CPU rank before its model. Source: measured on this project's trainers, torch 2.13."""
LAUNCHER: dict[Launcher, int] = {"torchrun": 225 * MIB, "accelerate": 230 * MIB, "deepspeed": 490 * MIB}
"""The launcher's own processes. Source: measured, torch 2.13."""
SUPERVISOR = 20 * MIB
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
        per_rank = CPU_RANK + state_bytes_on_host(spec, shape)
    else:
        # The weights pass through the host when they are loaded and saved: the peak, not the steady state.
        per_rank = CUDA_RANK[spec.method] + 4 * shape.parameters
    return HostMemory(capacity, per_rank, per_rank * spec.num_gpus, LAUNCHER[spec.launcher], SUPERVISOR)

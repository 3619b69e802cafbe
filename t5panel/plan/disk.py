"""Disk space of a run before the start: its checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from t5panel.contract.shapes import Shape

if TYPE_CHECKING:
    from t5panel.contract.spec import RunSpec


def checkpoint_bytes(spec: RunSpec, shape: Shape) -> int:
    """One checkpoint: fp32 weights and AdamW's two moments, and DeepSpeed's bf16 weights beside them."""
    moments = 0 if spec.train.optim == "adafactor" else 8
    engine_weights = 2 if spec.method == "deepspeed" and spec.train.bf16 else 0
    return (4 + moments + engine_weights) * shape.parameters


def checkpoints_kept(spec: RunSpec) -> int:
    """Checkpoints on the disk at once: the new one is complete before the oldest goes."""
    return 1 if spec.train.save_steps is None else spec.train.save_total_limit + 1

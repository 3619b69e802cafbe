"""What a run changes after a CUDA out-of-memory: less at a time, the same rows per optimizer step. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOST_RECOVERIES = 3

Changes = dict[str, int]


def smaller(spec: Mapping[str, Any], *, evaluating: bool) -> Changes:
    """Dotted keys of a spec with values that need less VRAM; empty when nothing smaller is left.

    Training: the largest batch of at most half that divides the rows of a step, with as much more accumulation; at
    batch 1 checkpointing. Evaluating: half the evaluation batch.
    """
    train = spec["train"]
    if evaluating:
        batch = train["per_device_eval_batch_size"]
        return {"train.per_device_eval_batch_size": batch // 2} if batch > 1 else {}
    batch, accumulation = train["per_device_train_batch_size"], train["gradient_accumulation_steps"]
    rows = batch * accumulation
    less = next((size for size in range(batch // 2, 0, -1) if rows % size == 0), None)
    if less is not None:
        return {"train.per_device_train_batch_size": less, "train.gradient_accumulation_steps": rows // less}
    return {} if train["gradient_checkpointing"] else {"train.gradient_checkpointing": True}


def changed(spec: Mapping[str, Any], changes: Changes) -> dict[str, Any]:
    """A copy of a spec with the changes in it."""
    train = {key.removeprefix("train."): value for key, value in changes.items()}
    return {**spec, "train": {**spec["train"], **train}}


def changes_text(spec: Mapping[str, Any], changes: Changes) -> str:
    """`per_device_train_batch_size 8 → 4, gradient_accumulation_steps 16 → 32`."""
    names = (key.removeprefix("train.") for key in changes)
    return ", ".join(
        f"{name} {spec['train'][name]} → {value}" for name, value in zip(names, changes.values(), strict=True)
    )

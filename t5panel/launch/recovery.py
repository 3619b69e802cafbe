"""What a run changes after a CUDA out-of-memory: less at a time, the same rows per optimizer step. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from t5panel.monitor.gpu_memory import Batch, changed_keys, smaller

MOST_RECOVERIES = 3

Changes = dict[str, int | bool]


def changes_after_shortage(spec: Mapping[str, Any], *, evaluating: bool) -> Changes:
    """Dotted keys of a spec with values that need less VRAM; empty when nothing smaller is left.

    Training: a smaller batch with as much more accumulation, at last checkpointing. Evaluating: half its own batch.
    """
    train = spec["train"]
    if evaluating:
        batch = train["per_device_eval_batch_size"]
        return {"train.per_device_eval_batch_size": batch // 2} if batch > 1 else {}
    now = batch_of(spec)
    less = smaller(now)
    return dict(sorted(changed_keys(now, less).items())) if less else {}


def with_changes(spec: Mapping[str, Any], changes: Changes) -> dict[str, Any]:
    """A copy of a spec with the changes in it."""
    train = {key.removeprefix("train."): value for key, value in changes.items()}
    return {**spec, "train": {**spec["train"], **train}}


def values_of(spec: Mapping[str, Any], changes: Changes) -> Changes:
    """What a spec holds now for the keys of the changes."""
    return {key: spec["train"][key.removeprefix("train.")] for key in changes}


def batch_of(spec: Mapping[str, Any]) -> Batch:
    """The settings that decide the memory of a step."""
    train = spec["train"]
    return Batch(
        train["per_device_train_batch_size"],
        train["gradient_accumulation_steps"],
        train["gradient_checkpointing"],
        spec["num_gpus"],
    )

"""bfloat16 and checkpointing, as the shipped presets train, at least run on the CPU; on cards see test_cuda.py."""

from __future__ import annotations

from pathlib import Path

from tests.trainers.runs import assert_finished, finish, losses, start_run

SETTINGS = {
    "train.bf16": True,
    "train.gradient_checkpointing": True,
    "train.optim": "adamw_torch_fused",
    "train.max_steps": 3,
    "train.per_device_train_batch_size": 2,
    "data.max_eval_samples": 6,
}


def test_every_method_trains_in_bfloat16_with_checkpointing(tmp_path: Path, word_pairs: Path) -> None:
    runs = {
        preset: start_run(tmp_path / preset, preset, word_pairs, SETTINGS)
        for preset in ("manual", "trainer", "deepspeed")
    }

    for run in runs.values():
        assert_finished(finish(run))

    first = {preset: losses(run)[0] for preset, run in runs.items()}
    assert all(abs(loss - first["manual"]) < 0.05 for loss in first.values())
    assert all(losses(run)[-1] < losses(run)[0] for run in runs.values())

"""With which other settings a checkpoint can be resumed, and what is said where it cannot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from t5panel.trainers.random_state import load_rng, save_rng
from t5panel.trainers.resumable import ResumeError, check_resumable
from tests.unit.test_checkpoint import IDENTITY

ZERO = replace(IDENTITY, method="deepspeed", zero_stage=2, sharded=True)
PLAIN_DEEPSPEED = replace(IDENTITY, method="deepspeed")


@pytest.mark.parametrize(
    ("saved", "changes"),
    [
        (IDENTITY, {}),
        (IDENTITY, {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 32}),
        (ZERO, {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 128}),
        (IDENTITY, {"world_size": 2, "gradient_accumulation_steps": 24}),
        (replace(IDENTITY, method="trainer"), {"world_size": 1, "gradient_accumulation_steps": 48}),
        (PLAIN_DEEPSPEED, {"world_size": 2, "gradient_accumulation_steps": 24}),
    ],
)
def test_the_same_rows_per_step_are_resumed(saved: Any, changes: dict[str, int]) -> None:  # noqa: ANN401
    check_resumable(saved, replace(saved, **changes), "checkpoint-20")


@pytest.mark.parametrize(
    ("saved", "changes", "reason"),
    [
        (
            IDENTITY,
            {"per_device_train_batch_size": 4},
            "effective batch 8 × 16 × 3 = 384 → 4 × 16 × 3 = 192: step N would stand for other rows",
        ),
        (
            ZERO,
            {"world_size": 2, "gradient_accumulation_steps": 24},
            "3 → 2 ranks: ZeRO shards belong to 3 ranks",
        ),
        (ZERO, {"zero_stage": 3}, "ZeRO stage 2 → 3: the optimizer's state is laid out otherwise"),
        (IDENTITY, {"seed": 7}, "seed 42 → 7: the rows would come in another order"),
        (IDENTITY, {"method": "trainer"}, "method manual → trainer: its files are others"),
        (IDENTITY, {"held_out": 5}, "10 → 5 rows held out of training: step N would stand for other rows"),
        (
            IDENTITY,
            {"data": {"format": 2, "rows": 101, "crc32": {"source": 1, "target": 2}}},
            "the tokenised rows are others: rows 100 → 101",
        ),
    ],
)
def test_other_rows_or_other_shards_are_refused_with_the_reason(
    saved: Any,  # noqa: ANN401
    changes: dict[str, Any],
    reason: str,
) -> None:
    with pytest.raises(ResumeError) as caught:
        check_resumable(saved, replace(saved, **changes), "checkpoint-20")

    assert str(caught.value) == f"checkpoint-20 cannot be resumed with these settings: {reason}"


def test_every_reason_is_said_at_once() -> None:
    now = replace(IDENTITY, seed=1, world_size=2)

    with pytest.raises(ResumeError, match=r"effective batch .*; seed 42 → 1"):
        check_resumable(IDENTITY, now, "checkpoint-20")


def test_an_older_marker_is_judged_by_what_it_says() -> None:
    saved = replace(IDENTITY, held_out=None, zero_stage=None, sharded=None, data={"format": 1, "rows": 100})

    check_resumable(saved, IDENTITY, "checkpoint-20")
    with pytest.raises(ResumeError, match="rows 99 → 100"):
        check_resumable(replace(saved, data={"format": 1, "rows": 99}), IDENTITY, "checkpoint-20")


def test_random_generators_come_back_and_a_new_rank_gets_its_own(tmp_path: Any) -> None:  # noqa: ANN401
    def draw() -> tuple[float, float]:
        return float(torch.rand(())), float(np.random.random())

    save_rng(tmp_path, 0)
    first = draw()

    load_rng(tmp_path, rank=0, seed=42, step=20)
    assert draw() == first
    drawn = set()
    for rank, step in ((1, 20), (2, 20), (1, 21), (1, 20)):
        load_rng(tmp_path, rank=rank, seed=42, step=step)
        drawn.add(draw())
    assert len(drawn) == 3

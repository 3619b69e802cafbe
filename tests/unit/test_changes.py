"""What may be changed when a run is resumed: whatever leaves every later step its rows, and the files loadable."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from t5panel.contract.checkpoints import PREFIX
from t5panel.contract.layout import RunDir
from t5panel.contract.marker import write_marker
from t5panel.contract.records import Change, RunInfo
from t5panel.contract.resuming import identity_of_spec
from t5panel.errors import UsageError
from t5panel.launch.changes import changed_run
from t5panel.launch.commands import command_for, prepare_command_for
from t5panel.monitor.gpu_memory import same_rows
from t5panel.presets import load_preset
from t5panel.render.state import change_texts

SETTINGS = {"device": "cpu", "train.per_device_train_batch_size": 4, "train.gradient_accumulation_steps": 2}


def ended_run(folder: Path, preset: str = "manual", *, saved: bool = True) -> tuple[RunDir, RunInfo]:
    """A run of three ranks that ended, with its checkpoint of step 14 or without any."""
    run, spec = RunDir(folder), load_preset(preset, SETTINGS).spec
    checkpoint = run.checkpoints / f"{PREFIX}14"
    checkpoint.mkdir(parents=True)
    (checkpoint / "model.safetensors").write_bytes(b"weights")
    if saved:
        write_marker(checkpoint, identity_of_spec(spec, data={"rows": 99}, held_out=9), 14)
    info = RunInfo(
        run_id=run.run_id,
        preset=preset,
        created=0.0,
        spec=spec.model_dump(mode="json"),
        prepare=prepare_command_for(spec, run).record,
        command=command_for(spec, run, cores=6).record,
        cards=(),
        interpreter=sys.executable,
        versions={},
        plan={"effective_batch": 24, "world_size": 3},
    )
    return run, info


def faults(run: RunDir, info: RunInfo, values: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Where, what and what helps: why these values are refused."""
    with pytest.raises(UsageError) as caught:
        changed_run(run, info, values, cores=6)
    return [(fault.where, fault.message, fault.hint) for fault in caught.value.faults]


@pytest.mark.parametrize("preset", ["manual", "trainer"])
def test_fewer_ranks_with_as_much_more_accumulation_are_another_command_and_are_noted(
    preset: str, tmp_path: Path
) -> None:
    run, info = ended_run(tmp_path, preset)

    changed = changed_run(run, info, {"num_gpus": 2, "train.gradient_accumulation_steps": 3}, cores=6)

    [change] = changed.info.changes
    assert changed.spec.effective_batch == 24
    assert any(word.endswith("=2") for word in changed.info.command.argv if "proc" in word)
    assert changed.info.command.env["OMP_NUM_THREADS"] == "3"
    assert changed.info.plan == {"effective_batch": 24, "world_size": 2}
    assert all("num_processes: 2" in text for text in changed.files.values())
    assert (change.step, change.before, change.after) == (
        *(14, {"num_gpus": 3, "train.gradient_accumulation_steps": 2}),
        {"num_gpus": 2, "train.gradient_accumulation_steps": 3},
    )
    assert list(change_texts([change])) == ["num_gpus 3 → 2, gradient_accumulation_steps 2 → 3 from step 14 on"]


def test_other_cards_are_other_cards(tmp_path: Path) -> None:
    run, info = ended_run(tmp_path)
    on_cards = msgspec.structs.replace(info, spec={**info.spec, "device": "cuda"})
    values = {"gpus": [0, 2], "num_gpus": 2, "train.gradient_accumulation_steps": 3}

    changed = changed_run(run, on_cards, values, cores=6)

    assert changed.info.cards == (0, 2)
    assert changed.info.command.env["CUDA_VISIBLE_DEVICES"] == "0,2"


def test_fewer_ranks_alone_would_read_other_rows_and_the_nearest_setting_is_named(tmp_path: Path) -> None:
    assert faults(*ended_run(tmp_path), {"num_gpus": 2}) == [
        (
            "checkpoint-14",
            "effective batch 4 × 2 × 3 = 24 → 4 × 2 × 2 = 16: step N would stand for other rows",
            "the same rows: --set train.gradient_accumulation_steps=3",
        )
    ]


@pytest.mark.parametrize("preset", ["deepspeed", "llamafactory"])
def test_zero_shards_belong_to_their_ranks(preset: str, tmp_path: Path) -> None:
    values = {"num_gpus": 2, "train.gradient_accumulation_steps": 3}

    assert faults(*ended_run(tmp_path, preset), values) == [
        ("checkpoint-14", "3 → 2 ranks: ZeRO shards belong to 3 ranks", "")
    ]


def test_every_setting_that_the_checkpoint_decides_is_refused_at_once(tmp_path: Path) -> None:
    values = {
        "train.learning_rate": 1e-2,
        "train.seed": 7,
        "data.max_source_length": 64,
        "model.name_or_path": "builtin:t5-small",
        "train.max_steps": 14,
    }

    found = {where: message for where, message, _ in faults(*ended_run(tmp_path), values)}

    assert found == {
        "train.learning_rate": "the checkpoint restores optimizer, schedule and precision as they were",
        "data.max_source_length": "step N would stand for other rows",
        "model.name_or_path": "the checkpoint holds the weights of this model",
        "checkpoint-14": "seed 42 → 7: the rows would come in another order",
        "train.max_steps": "14 steps are done: the checkpoint is of step 14",
    }


@pytest.mark.parametrize("values", [{"train.seed": "x"}, {"tran.seed": 1}, {"num_gpus": 0}])
def test_what_is_no_setting_is_refused_as_at_a_start(values: dict[str, Any], tmp_path: Path) -> None:
    [(where, message, _)] = faults(*ended_run(tmp_path), values)

    assert where.startswith("--set: ")
    assert message


def test_a_value_that_is_the_same_is_no_change(tmp_path: Path) -> None:
    run, info = ended_run(tmp_path)

    assert changed_run(run, info, {"train.learning_rate": info.spec["train"]["learning_rate"]}, cores=6).info == info


def test_without_a_checkpoint_anything_may_change(tmp_path: Path) -> None:
    run, info = ended_run(tmp_path, saved=False)

    changed = changed_run(run, info, {"train.seed": 7, "num_gpus": 2}, cores=6)

    assert [(change.step, change.after) for change in changed.info.changes] == [(0, {"train.seed": 7, "num_gpus": 2})]


def test_a_change_reads_as_people_write_it() -> None:
    change = Change(
        0.0, 1_240, {"schedule": None, "oom_recovery": True}, {"schedule": "22:00-08:00", "oom_recovery": False}
    )

    assert list(change_texts([change])) == [
        "schedule empty → 22:00-08:00, oom_recovery true → false from step 1,240 on"
    ]


@pytest.mark.parametrize(
    ("rows", "ranks", "largest", "found"),
    [(24, 2, 4, (4, 3)), (24, 4, 4, (3, 2)), (384, 2, 8, (8, 24)), (9, 2, 4, None)],
)
def test_the_nearest_batch_keeps_the_rows(rows: int, ranks: int, largest: int, found: tuple[int, int] | None) -> None:
    assert same_rows(rows, ranks=ranks, largest=largest) == found

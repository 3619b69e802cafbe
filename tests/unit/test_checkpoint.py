"""A checkpoint is resumed from when every byte of it is as it was saved, and never otherwise."""

from __future__ import annotations

import json
import random
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
from safetensors import SafetensorError

from t5panel.contract.layout import RunDir
from t5panel.contract.marker import MARKER, Identity, fault_of, read_marker, write_marker
from t5panel.contract.spec import RunSpec
from t5panel.trainers.checkpoint import CheckpointError, Checkpoints, NoSpaceError, lacks_space, newest_verified, rotate
from t5panel.trainers.ranks import Ranks

T = TypeVar("T")
IDENTITY = Identity(
    data={"format": 2, "rows": 100, "crc32": {"source": 1, "target": 2}},
    held_out=10,
    method="manual",
    zero_stage=0,
    sharded=False,
    world_size=3,
    per_device_train_batch_size=8,
    gradient_accumulation_steps=16,
    seed=42,
)
SPEC = RunSpec.model_validate({"method": "manual", "launcher": "torchrun", "train": {"save_total_limit": 2}})
FILES = {"model.safetensors": 3000, "optimizer.pt": 5000, "zero/shard_0.pt": 700, "zero/shard_1.pt": 700}
Usage = namedtuple("Usage", "total used free")


class FakeRanks:
    """One rank's view of a world whose other ranks report `others`."""

    def __init__(self, *others: Any) -> None:  # noqa: ANN401
        self.rank, self.world_size, self._others = 0, 1 + len(others), others

    def gather(self, value: T) -> list[T]:
        return [value, *self._others]


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run with two complete checkpoints."""
    run = RunDir(tmp_path)
    for step in (10, 20):
        complete(run, step)
    return run


def fill(folder: Path, *, seed: int = 0) -> None:
    noise = random.Random(seed)
    for name, size in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(noise.randbytes(size))


def complete(run: RunDir, step: int) -> Path:
    folder = run.checkpoints / f"checkpoint-{step}"
    fill(folder, seed=step)
    write_marker(folder, IDENTITY, step)
    return folder


def checkpoints_of(run: RunDir, *others: Any) -> Checkpoints:  # noqa: ANN401
    return Checkpoints(run, SPEC, cast(Ranks, FakeRanks(*others)))


def names(run: RunDir) -> list[str]:
    return sorted(path.name for path in run.checkpoints.iterdir())


def chosen(run: RunDir) -> str | None:
    found, _ = newest_verified(run)
    return found.name if found else None


def test_the_newest_complete_one_is_chosen_by_its_step(run: RunDir) -> None:
    complete(run, 100)

    assert chosen(run) == "checkpoint-100"


@pytest.mark.parametrize("seed", range(60))
def test_a_file_truncated_anywhere_is_never_resumed_from(seed: int, run: RunDir) -> None:
    dice = random.Random(seed)
    name, size = dice.choice(list(FILES.items()))
    with (run.checkpoints / "checkpoint-20" / name).open("r+b") as file:
        file.truncate(dice.randrange(size))

    assert chosen(run) == "checkpoint-10"


@pytest.mark.parametrize("seed", range(60))
def test_a_flipped_bit_anywhere_is_never_resumed_from(seed: int, run: RunDir) -> None:
    dice = random.Random(seed)
    path = run.checkpoints / "checkpoint-20" / dice.choice(list(FILES))
    content = bytearray(path.read_bytes())
    content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    path.write_bytes(content)

    assert chosen(run) == "checkpoint-10"


@pytest.mark.parametrize("name", [*FILES, MARKER])
def test_a_missing_file_is_never_resumed_from(name: str, run: RunDir) -> None:
    (run.checkpoints / "checkpoint-20" / name).unlink()

    assert chosen(run) == "checkpoint-10"


def test_a_marker_cut_at_any_byte_is_no_marker(run: RunDir) -> None:
    path = run.checkpoints / "checkpoint-20" / MARKER
    content = path.read_bytes()

    for length in range(len(content)):
        path.write_bytes(content[:length])
        assert chosen(run) == "checkpoint-10"


def test_a_marker_with_any_digit_altered_is_no_marker(run: RunDir) -> None:
    path = run.checkpoints / "checkpoint-20" / MARKER
    content = path.read_bytes()
    digits = [index for index, byte in enumerate(content) if chr(byte).isdigit()]

    for index in digits:
        path.write_bytes(content[:index] + bytes([content[index] ^ 1]) + content[index + 1 :])
        assert chosen(run) == "checkpoint-10"


def test_what_a_dead_run_left_in_the_staging_folder_is_never_resumed_from(run: RunDir) -> None:
    staging = run.checkpoints / ".staging" / "checkpoint-30"
    fill(staging)
    write_marker(staging, IDENTITY, 30)
    (run.checkpoints / "checkpoint-best").mkdir()

    assert chosen(run) == "checkpoint-20"


def test_a_run_without_a_complete_checkpoint_begins_anew(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    fill(run.checkpoints / "checkpoint-20")

    assert newest_verified(run) == (None, (run.checkpoints / "checkpoint-20",))
    assert newest_verified(RunDir(tmp_path / "fresh")) == (None, ())


def test_a_damaged_one_is_named_in_the_log_with_its_fault(run: RunDir, caplog: pytest.LogCaptureFixture) -> None:
    (run.checkpoints / "checkpoint-20" / "optimizer.pt").write_bytes(b"x" * 4321)

    checkpoints_of(run).newest()

    assert "checkpoint-20 is not resumed from: optimizer.pt has 4,321 of 5,000 bytes" in caplog.text


def test_an_older_marker_without_checksums_is_taken_by_its_sizes(run: RunDir) -> None:
    folder = run.checkpoints / "checkpoint-30"
    fill(folder)
    old = {
        "step": 30,
        "data": {"format": 1, "rows": 100},
        "method": "manual",
        "world_size": 3,
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 16,
        "seed": 42,
        "files": FILES,
    }
    (folder / MARKER).write_text(json.dumps(old, indent=1) + "\n")

    assert chosen(run) == "checkpoint-30"
    (folder / "optimizer.pt").write_bytes(b"short")
    assert chosen(run) == "checkpoint-20"


def test_a_saved_checkpoint_is_verified_and_the_oldest_goes(run: RunDir) -> None:
    saved = checkpoints_of(run).save(30, IDENTITY, fill)

    assert (saved.step, saved.path, saved.bytes) == (30, "checkpoints/checkpoint-30", sum(FILES.values()))
    assert fault_of(run.checkpoints / "checkpoint-30") is None
    assert names(run) == ["checkpoint-20", "checkpoint-30"]


def test_a_damaged_one_stays_until_a_newer_is_complete_and_never_takes_a_good_ones_place(run: RunDir) -> None:
    damaged = complete(run, 30)
    (damaged / "optimizer.pt").write_bytes(b"x" * FILES["optimizer.pt"])
    checkpoints = checkpoints_of(run)

    assert checkpoints.newest() == run.checkpoints / "checkpoint-20"
    assert damaged.exists()

    checkpoints.save(25, IDENTITY, fill)
    assert names(run) == ["checkpoint-20", "checkpoint-25"]


def test_a_new_checkpoint_takes_the_name_of_a_damaged_one(run: RunDir) -> None:
    (run.checkpoints / "checkpoint-20" / "optimizer.pt").write_bytes(b"x" * FILES["optimizer.pt"])

    checkpoints_of(run).save(20, IDENTITY, fill)

    assert chosen(run) == "checkpoint-20"
    assert names(run) == ["checkpoint-10", "checkpoint-20"]


@pytest.mark.parametrize("keep", [1, 2, 5])
def test_rotation_keeps_the_newest_and_never_deletes_it(keep: int, run: RunDir) -> None:
    newest = complete(run, 30)

    rotate(run, newest, keep)

    assert names(run) == ["checkpoint-10", "checkpoint-20", "checkpoint-30"][-keep:]


def test_a_deletion_that_is_cut_short_leaves_no_half_checkpoint_and_the_next_save_ends_it(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = complete(run, 30)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_args, **_how: None)
        rotate(run, newest, 2)
    listed = [folder.name for folder in run.checkpoints.glob("checkpoint-*")]

    checkpoints_of(run).save(40, IDENTITY, fill)

    assert sorted(listed) == ["checkpoint-20", "checkpoint-30"]
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["checkpoint-30", "checkpoint-40"]


FULL = OSError(28, "No space left on device")


@pytest.mark.parametrize(
    "error",
    [
        FULL,
        OSError(122, "Disk quota exceeded"),
        RuntimeError("write(): fd 3 failed with No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 1600832 vs 1600784"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_disk_full_during_a_save_is_told_leaves_nothing_and_costs_no_older_one(error: Exception, run: RunDir) -> None:
    def write(folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise error

    with pytest.raises(NoSpaceError, match="rank 0: ") as caught:
        checkpoints_of(run).save(30, IDENTITY, write)

    assert caught.value.__cause__ is error
    assert str(error) in str(caught.value)
    assert names(run) == ["checkpoint-10", "checkpoint-20"]
    assert chosen(run) == "checkpoint-20"


def test_what_fails_on_another_rank_is_raised_here_too(run: RunDir) -> None:
    with pytest.raises(NoSpaceError, match=r"rank 1: OSError: \[Errno 28\]"):
        checkpoints_of(run, (f"OSError: {FULL}", True)).save(30, IDENTITY, fill)
    with pytest.raises(CheckpointError, match="rank 1: PermissionError: no") as caught:
        checkpoints_of(run, ("PermissionError: no", False)).save(30, IDENTITY, fill)

    assert not isinstance(caught.value, NoSpaceError)
    assert names(run) == ["checkpoint-10", "checkpoint-20"]


def test_other_errors_are_no_lack_of_space() -> None:
    assert not lacks_space(PermissionError(13, "Permission denied"))
    assert not lacks_space(RuntimeError("shapes differ"))


@pytest.mark.parametrize(
    ("prepare", "needed"),
    [
        (lambda checkpoints: checkpoints.newest(), sum(FILES.values())),
        (lambda checkpoints: checkpoints.expect(1000), 12_000),
    ],
    ids=["as the last one", "by its parameters"],
)
def test_a_checkpoint_that_surely_does_not_fit_is_not_begun(
    prepare: Callable[[Checkpoints], None], needed: int, run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(10**9, 10**9 - 9000, 9000))
    checkpoints = checkpoints_of(run)
    prepare(checkpoints)
    written: list[Path] = []

    with pytest.raises(NoSpaceError, match=f"rank 0: it needs {needed:,} bytes and 9,000 are free"):
        checkpoints.save(30, IDENTITY, written.append)

    assert written == []
    assert names(run) == ["checkpoint-10", "checkpoint-20"]


def test_a_marker_says_what_was_saved(run: RunDir) -> None:
    marker = read_marker(run.checkpoints / "checkpoint-20")

    assert marker is not None
    assert (marker.step, marker.effective_batch, marker.bytes) == (20, 384, sum(FILES.values()))


def test_a_run_whose_folder_was_removed_has_none(run: RunDir) -> None:
    shutil.rmtree(run.path)

    assert chosen(run) is None

"""Checkpoints: built aside, marked complete last, renamed into place; only complete ones are ever resumed from."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from t5panel.contract.layout import RunDir, write_json
from t5panel.contract.records import Checkpoint
from t5panel.contract.spec import RunSpec
from t5panel.trainers.ranks import Ranks
from t5panel.trainers.store import prepared_of, store_meta

MARKER = "complete.json"
STAGING = ".staging"
PREFIX = "checkpoint-"


class ResumeError(RuntimeError):
    """A checkpoint does not belong to this run's settings."""


def save_checkpoint(run: RunDir, spec: RunSpec, ranks: Ranks, step: int, write: Callable[[Path], None]) -> Checkpoint:
    """Let every rank `write` into a staging folder, then make it the newest checkpoint and drop the oldest.

    A crash at any moment leaves either no folder of that name or a complete one.
    """
    begin = time.monotonic()
    staging = run.checkpoints / STAGING / f"{PREFIX}{step}"
    final = run.checkpoints / f"{PREFIX}{step}"
    if ranks.rank == 0:
        # All of it: a half checkpoint that a dead run left must not fill the disk for ever.
        shutil.rmtree(staging.parent, ignore_errors=True)
        staging.mkdir(parents=True)
    ranks.barrier()
    write(staging)
    ranks.barrier()
    size = 0
    if ranks.rank == 0:
        size = _publish(staging, final, _identity(run, spec), step)
        _rotate(run, spec.train.save_total_limit)
    ranks.barrier()
    return Checkpoint(time.time(), step, str(final.relative_to(run.path)), size, time.monotonic() - begin)


def newest_complete(run: RunDir) -> Path | None:
    """The newest checkpoint whose marker and files are all there, None without one."""
    return next((folder for folder in reversed(_by_step(run)) if is_complete(folder)), None)


def is_complete(folder: Path) -> bool:
    """True when the marker is there and every file it names has its size."""
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    sizes: dict[str, int] = marker["files"]
    return all((folder / name).is_file() and (folder / name).stat().st_size == size for name, size in sizes.items())


def step_of(folder: Path) -> int:
    """The optimizer step of a checkpoint folder."""
    return int(folder.name.removeprefix(PREFIX))


def check_resumable(folder: Path, run: RunDir, spec: RunSpec) -> None:
    """Raises: ResumeError for a checkpoint of another method, world size, batch or data: its rows would be others."""
    marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    expected = _identity(run, spec)
    different = [f"{key} {marker.get(key)} → {value}" for key, value in expected.items() if marker.get(key) != value]
    if different:
        raise ResumeError(f"{folder.name} cannot be resumed with other settings: {', '.join(different)}")


def rng_state() -> dict[str, Any]:
    """All random generators of this rank, in the form transformers' Trainer saves and loads."""
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "cpu": torch.random.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.random.get_rng_state()
    return state


def restore_rng_state(state: dict[str, Any]) -> None:
    """Set all random generators of this rank."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.random.set_rng_state(state["cpu"])
    if "cuda" in state:
        torch.cuda.random.set_rng_state(state["cuda"])


def save_rng(folder: Path, rank: int) -> None:
    """Save this rank's random generators into a checkpoint."""
    torch.save(rng_state(), rng_file(folder, rank))


def load_rng(folder: Path, rank: int) -> None:
    """Restore this rank's random generators from a checkpoint."""
    with torch.serialization.safe_globals(_numpy_globals()):
        restore_rng_state(torch.load(rng_file(folder, rank), weights_only=True))


def rng_file(folder: Path, rank: int) -> Path:
    """Where a rank's random generators are saved."""
    return folder / f"rng_state_{rank}.pth"


def _numpy_globals() -> list[Any]:
    """What numpy's generator state is pickled from: enough for weights_only loading."""
    return [np.ndarray.__reduce__(np.empty(0))[0], np.ndarray, np.dtype, type(np.dtype(np.uint32))]


def _identity(run: RunDir, spec: RunSpec) -> dict[str, Any]:
    """What must be the same for step N to mean the same rows; files may be moved or touched, not changed."""
    return {
        "data": store_meta(Path(prepared_of(run).train)),
        "method": spec.method,
        "world_size": spec.num_gpus,
        "per_device_train_batch_size": spec.train.per_device_train_batch_size,
        "gradient_accumulation_steps": spec.train.gradient_accumulation_steps,
        "seed": spec.train.seed,
    }


def _publish(staging: Path, final: Path, identity: dict[str, Any], step: int) -> int:
    paths = [path for path in staging.rglob("*") if path.is_file()]
    for path in paths:
        _flush(path)
    files = {str(path.relative_to(staging)): path.stat().st_size for path in paths}
    write_json(staging / MARKER, {"step": step, **identity, "files": files})
    shutil.rmtree(final, ignore_errors=True)
    staging.rename(final)
    return sum(files.values())


def _flush(path: Path) -> None:
    """Have a file on the disk, not only in the page cache, before the marker calls it complete."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rotate(run: RunDir, keep: int) -> None:
    complete = [folder for folder in _by_step(run) if is_complete(folder)]
    for folder in complete[:-keep]:
        # Without its marker it is no checkpoint any more, whenever the deletion is cut short.
        (folder / MARKER).unlink()
        shutil.rmtree(folder)


def _by_step(run: RunDir) -> list[Path]:
    return sorted(run.checkpoints.glob(f"{PREFIX}*"), key=step_of)

"""The checkpoint folders of a run, and which of them is the newest that is whole."""

from __future__ import annotations

from pathlib import Path

from t5panel.contract.layout import RunDir
from t5panel.contract.marker import fault_of

PREFIX = "checkpoint-"


def newest_checkpoint(run: RunDir) -> Path | None:
    """The newest checkpoint whose marker and files are all there, None without one."""
    return next((folder for folder in reversed(checkpoints_of(run)) if is_whole(folder)), None)


def checkpoints_of(run: RunDir) -> list[Path]:
    """The checkpoint folders of a run by step, whole or not."""
    found = (path for path in run.checkpoints.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdecimal())
    return sorted(found, key=step_of)


def is_whole(folder: Path) -> bool:
    """True when the marker is there and every file it names has its size."""
    return fault_of(folder, checksums=False) is None


def step_of(folder: Path) -> int:
    """The optimizer step of a checkpoint folder."""
    return int(folder.name.removeprefix(PREFIX))

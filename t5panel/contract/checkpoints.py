"""How a complete checkpoint is told from any other folder: by the marker that is written into it last."""

from __future__ import annotations

import json
from pathlib import Path

from t5panel.contract.layout import RunDir

MARKER = "complete.json"
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
    try:
        sizes = json.loads((folder / MARKER).read_text(encoding="utf-8"))["files"]
        return all((folder / name).stat().st_size == _size(entry) for name, entry in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def step_of(folder: Path) -> int:
    """The optimizer step of a checkpoint folder."""
    return int(folder.name.removeprefix(PREFIX))


def _size(entry: int | dict[str, int]) -> int:
    """Of one file in a marker: its size, or a mapping that holds it beside a checksum."""
    return entry if isinstance(entry, int) else entry["size"]

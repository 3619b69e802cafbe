"""The place where a run would live: its folder and the disk under it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from t5panel.contract.shapes import Shape
from t5panel.contract.spec import RunSpec
from t5panel.plan.disk import checkpoint_bytes, checkpoints_kept
from t5panel.plan.machine import GIB
from t5panel.plan.planning import Finding


def free_bytes(folder: Path) -> int:
    """Free space on the disk of a folder."""
    return shutil.disk_usage(folder).free


def place_findings(
    run_dir: Path, spec: RunSpec, shape: Shape | None, *, free: Callable[[Path], int] = free_bytes
) -> tuple[Finding, ...]:
    """What stands against a run in this folder: it exists, cannot be made, or the disk is too small."""
    if os.path.lexists(run_dir):
        hint = "name a new folder, or `t5panel resume` the run in it"
        return (Finding("error", "run-dir", f"{run_dir} exists", hint),)
    existing = next(folder for folder in run_dir.parents if os.path.lexists(folder))
    if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
        return (Finding("error", "run-dir", f"{existing} cannot be written to", "name another with --run-dir"),)
    return () if shape is None else _disk_findings(existing, spec, shape, free(existing))


def _disk_findings(folder: Path, spec: RunSpec, shape: Shape, free: int) -> tuple[Finding, ...]:
    one, kept = checkpoint_bytes(spec, shape), checkpoints_kept(spec)
    have = f"{folder} has {free / GIB:.1f} GiB free"
    if free < one:
        message = f"a checkpoint needs {one / GIB:.1f} GiB, {have}"
        return (Finding("error", "disk", message, "free some space, or another disk with --run-dir"),)
    if free < one * kept:
        message = f"{kept} checkpoints need {one * kept / GIB:.1f} GiB, {have}"
        return (Finding("warning", "disk", message, "keep fewer: --set train.save_total_limit=1"),)
    return ()

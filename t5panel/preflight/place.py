"""The places a run would fill: its folder, the cache of tokenised rows, and the disks under them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from t5panel.contract.shapes import Shape, is_builtin
from t5panel.contract.spec import RunSpec
from t5panel.plan.disk import checkpoint_bytes, checkpoints_kept
from t5panel.plan.machine import GIB
from t5panel.plan.planning import Finding

CACHE_PER_BYTE = 3
"""Bytes of cache for a byte of data: two or four for each token, and compressed columns grow when they are read."""


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
    existing = _existing(run_dir)
    if not _takes_files(existing):
        return (Finding("error", "run-dir", f"{existing} cannot be written to", "name another with --run-dir"),)
    return () if shape is None else _disk_findings(existing, spec, shape, free(existing))


def cache_findings(cache: Path, spec: RunSpec, *, free: Callable[[Path], int] = free_bytes) -> tuple[Finding, ...]:
    """What stands against tokenised rows in this folder, which need about three times the space of their files."""
    existing, hint = _existing(cache), "name another folder with the variable XDG_CACHE_HOME"
    if not _takes_files(existing):
        return (Finding("error", "cache", f"{existing} cannot be written to", hint),)
    names = (name for name in (spec.data.train, spec.data.validation) if name is not None and not is_builtin(name))
    need = CACHE_PER_BYTE * sum(_size(Path(name)) for name in names)
    if need <= (have := free(existing)):
        return ()
    message = f"tokenised rows need about {need / GIB:.1f} GiB, {existing} has {have / GIB:.1f} GiB free"
    return (Finding("error", "cache", message, f"free some space, or {hint}"),)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(above for above in (folder, *folder.parents) if os.path.lexists(above))


def _takes_files(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _size(path: Path) -> int:
    """Bytes of a file, or of the files in a folder; what cannot be read counts nothing."""
    try:
        files = [entry for entry in path.iterdir() if entry.is_file()] if path.is_dir() else [path]
        return sum(file.stat().st_size for file in files)
    except OSError:
        return 0


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

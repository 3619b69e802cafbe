"""The places a run would fill: its folder, the cache of tokenised rows, and the disks under them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from t5panel.contract.shapes import Shape, is_builtin
from t5panel.plan.disk import checkpoint_bytes, checkpoints_kept
from t5panel.plan.machine import GIB
from t5panel.plan.planning import Finding

if TYPE_CHECKING:
    from t5panel.contract.spec import RunSpec

CACHE_PER_BYTE = 3
"""Bytes of cache for a byte of data: two or four for each token, and compressed columns grow when they are read."""
WANTED_INODES = 1000
"""A checkpoint and a cache of tokenised rows have a few dozen files each."""


def free_bytes(folder: Path) -> int:
    """Free space on the disk of a folder."""
    return shutil.disk_usage(folder).free


def free_inodes(folder: Path) -> int | None:
    """Files that the disk of a folder can still hold; None on a file system that does not count them."""
    space = os.statvfs(folder)
    return space.f_favail if space.f_files else None


def inode_findings(folder: Path, free: int | None) -> tuple[Finding, ...]:
    """A disk that is full of small files takes no new one, however much space is left."""
    if free is None or free >= WANTED_INODES:
        return ()
    message = f"the disk of {folder} can hold {free:,} more files"
    return (Finding("warning", "disk.inodes", message, "`df -i` shows it; delete caches of many small files"),)


def place_findings(
    run_dir: Path, spec: RunSpec, shape: Shape | None, *, free: Callable[[Path], int] = free_bytes
) -> tuple[Finding, ...]:
    """What stands against a run in this folder: it exists, cannot be made, or the disk is too small."""
    if os.path.lexists(run_dir):
        hint = "name a new folder, or `t5panel resume` the run in it"
        return (Finding("error", "run-dir", f"{run_dir} exists", hint),)
    existing = existing_folder(run_dir)
    if not _takes_files(existing):
        return (Finding("error", "run-dir", f"{existing} cannot be written to", "name another with --run-dir"),)
    found = inode_findings(existing, free_inodes(existing))
    return found if shape is None else (*found, *disk_findings(existing, spec, shape, free(existing)))


def cache_findings(cache: Path, spec: RunSpec, *, free: Callable[[Path], int] = free_bytes) -> tuple[Finding, ...]:
    """What stands against tokenised rows in this folder, which need about three times the space of their files."""
    existing, hint = existing_folder(cache), "name another folder with the variable XDG_CACHE_HOME"
    if not _takes_files(existing):
        return (Finding("error", "cache", f"{existing} cannot be written to", hint),)
    names = (name for name in (spec.data.train, spec.data.validation) if name is not None and not is_builtin(name))
    need = CACHE_PER_BYTE * sum(_size(Path(name)) for name in names)
    if need <= (have := free(existing)):
        return ()
    message = f"tokenised rows need about {need / GIB:.1f} GiB, {existing} has {have / GIB:.1f} GiB free"
    return (Finding("error", "cache", message, f"free some space, or {hint}"),)


def existing_folder(folder: Path) -> Path:
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


def disk_findings(folder: Path, spec: RunSpec, shape: Shape, free: int) -> tuple[Finding, ...]:
    """Whether the checkpoints of a run find room."""
    one, kept = checkpoint_bytes(spec, shape), checkpoints_kept(spec)
    have = f"{folder} has {free / GIB:.1f} GiB free"
    if free < one:
        message = f"a checkpoint needs {one / GIB:.1f} GiB, {have}"
        return (Finding("error", "disk", message, "free some space, or another disk with --run-dir"),)
    if free < one * kept:
        message = f"{kept} checkpoints need {one * kept / GIB:.1f} GiB, {have}"
        return (Finding("warning", "disk", message, "keep fewer: --set train.save_total_limit=1"),)
    return ()

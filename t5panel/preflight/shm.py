"""Shared memory (/dev/shm), through which NCCL and data workers talk: its size, and what dead processes left there."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from t5panel.plan.machine import GIB
from t5panel.plan.planning import Finding

FOLDER = Path("/dev") / "shm"
LEFT_BY = ("nccl-", "torch_")
"""How the names begin that NCCL and torch give their files."""
WANTED_FREE = 256 * 2**20
"""Docker gives 64 MiB, which three ranks of NCCL use up."""
YOUNG_SECONDS = 60.0
"""A file this new may be about to be mapped."""
NAMED = 3


class ShmFacts(msgspec.Struct, frozen=True):
    """Shared memory in bytes; 0 where there is none. `stale`: files of this user that no process maps or has open."""

    size: int
    free: int
    stale: tuple[Path, ...] = ()
    stale_bytes: int = 0


def read_shm(folder: Path = FOLDER, *, proc: Path = Path("/proc"), now: float | None = None) -> ShmFacts:
    """The size of /dev/shm and the files left in it. Other processes are looked at only when there are such files."""
    try:
        space = os.statvfs(folder)
        entries = [entry for entry in os.scandir(folder) if entry.name.startswith(LEFT_BY)]
    except OSError:
        return ShmFacts(0, 0)
    size, free = space.f_frsize * space.f_blocks, space.f_frsize * space.f_bavail
    candidates = {}
    for entry in entries:
        with contextlib.suppress(OSError):  # gone a moment ago
            status = entry.stat(follow_symlinks=False)
            if status.st_uid == os.getuid() and (now or time.time()) - status.st_mtime > YOUNG_SECONDS:
                candidates[entry.path] = status.st_blocks * 512
    stale = sorted(candidates.keys() - used_files(candidates, proc=proc)) if candidates else []
    return ShmFacts(size, free, tuple(map(Path, stale)), sum(candidates[path] for path in stale))


def used_files(paths: Iterable[str], *, proc: Path = Path("/proc")) -> set[str]:
    """Those of these files that a process of this user maps or has open."""
    wanted, used = set(paths), set()
    for folder in proc.glob("[0-9]*"):
        with contextlib.suppress(OSError):  # another user's, or gone
            maps = (folder / "maps").read_text(errors="replace")
            used |= {path for path in wanted if path in maps}
            used |= wanted & _open_files(folder / "fd")
    return used


def _open_files(descriptors: Path) -> set[str]:
    found = set()
    for link in descriptors.iterdir():
        with contextlib.suppress(OSError):  # closed a moment ago
            found.add(str(link.readlink()))
    return found


def shm_findings(facts: ShmFacts) -> tuple[Finding, ...]:
    """What /dev/shm holds against several ranks on cards."""
    found = []
    if facts.size == 0:
        hint = "mount it (docker: --ipc=host or --shm-size=1g), or set NCCL_SHM_DISABLE=1"
        found.append(Finding("warning", "shm.none", "there is no /dev/shm: NCCL and data workers need it", hint))
    elif facts.free < WANTED_FREE:
        message = f"shared memory (/dev/shm) has {facts.free / 2**20:,.0f} of {facts.size / 2**20:,.0f} MiB free"
        hint = "docker run --shm-size=1g, or sudo mount -o remount,size=1g /dev/shm, or set NCCL_SHM_DISABLE=1"
        found.append(Finding("warning", "shm.small", message, hint))
    if facts.stale:
        count, held = len(facts.stale), facts.stale_bytes / GIB
        message = f"{count} {'file' if count == 1 else 'files'} ({held:.2f} GiB) of dead processes lie in /dev/shm"
        names = " ".join(map(str, facts.stale[:NAMED]))
        more = f" and {count - NAMED} more" if count > NAMED else ""
        found.append(Finding("warning", "shm.stale", message, f"rm {names}{more}"))
    return tuple(found)


def shm_text(facts: ShmFacts) -> str:
    """`1.0 GiB, 0.9 GiB free`."""
    return f"{facts.size / GIB:.1f} GiB, {facts.free / GIB:.1f} GiB free" if facts.size else "none"

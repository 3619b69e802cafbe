"""Locks that a killed compiler has left: whoever builds the same extension next waits for them for ever."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from t5panel.plan.planning import Finding
from t5panel.preflight.shm import used_files


def compiler_caches(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Where torch and Triton keep what they compile for this user; a run's own cache is elsewhere."""
    home = Path(environ.get("HOME", "/"))
    torch = environ.get("TORCH_EXTENSIONS_DIR") or home / ".cache/torch_extensions"
    return (Path(torch), Path(environ.get("TRITON_CACHE_DIR") or home / ".triton/cache"))


def stale_locks(caches: Iterable[Path], *, proc: Path = Path("/proc")) -> tuple[Path, ...]:
    """Lock files that no process has open: torch's FileBaton keeps its lock open as long as it builds."""
    locks = [
        os.path.join(folder, "lock")  # noqa: PTH118 - os.walk's own strings
        for cache in caches
        for folder, _, files in os.walk(cache)
        if "lock" in files
    ]
    return tuple(map(Path, sorted(set(locks) - used_files(locks, proc=proc)))) if locks else ()


def lock_findings(locks: Iterable[Path]) -> tuple[Finding, ...]:
    """What they hold against other programs of this Python; our runs build in a folder of their own."""
    message = "a killed build left a lock: other programs that build the same extension wait for it for ever"
    return tuple(Finding("info", "compiler.lock", message, f"rm {lock}") for lock in locks)

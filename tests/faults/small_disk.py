"""A disk of a few MiB for the checkpoints of a run, which can be filled: a real tmpfs where mounting is permitted."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

BYTES = 16 * 2**20
BALLAST = "ballast"
MOUNT, UMOUNT = "mount", "umount"


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """An empty disk at a folder, gone afterwards with all that is on it.

    Raises: OSError where mounting is not permitted.
    """
    mounting = subprocess.run(
        (MOUNT, "-t", "tmpfs", "-o", f"size={BYTES},mode=0700", "tmpfs", str(folder)),
        capture_output=True,
        text=True,
        check=False,
    )
    if mounting.returncode != 0:
        raise OSError(errno.EPERM, mounting.stderr.strip(), str(folder))
    try:
        yield
    finally:
        subprocess.run((UMOUNT, "--lazy", str(folder)), check=True)


@cache
def why_no_small_disk() -> str:
    """Why no such disk can be had here, empty when it can."""
    if os.geteuid() != 0 or shutil.which(MOUNT) is None:
        return "a small disk needs root and mount"
    with tempfile.TemporaryDirectory() as folder:
        try:
            with small_disk(Path(folder)):
                return ""
        except OSError as error:
            return f"a small disk cannot be mounted: {error.strerror}"


def fill(folder: Path, *, leave: int) -> None:
    """Leave so many bytes of a disk free."""
    ballast = folder / BALLAST
    while True:  # a checkpoint may be written at this moment
        with contextlib.suppress(OSError):
            ballast.write_bytes(bytes(max(0, shutil.disk_usage(folder).free - leave)))
            return
        ballast.unlink(missing_ok=True)


def clear(folder: Path) -> None:
    """Give back what was filled."""
    (folder / BALLAST).unlink(missing_ok=True)

"""Checkpoints: built aside, marked complete last, renamed into place; only verified ones are ever resumed from."""

from __future__ import annotations

import errno
import logging
import shutil
import time
from collections.abc import Callable, Collection
from pathlib import Path

import torch
from safetensors import SafetensorError

from t5panel.contract.checkpoints import PREFIX, checkpoints_of, is_whole, step_of
from t5panel.contract.layout import RunDir
from t5panel.contract.marker import Identity, fault_of, flush, read_marker, write_marker
from t5panel.contract.records import Checkpoint
from t5panel.contract.spec import RunSpec
from t5panel.trainers.ranks import Ranks

STAGING = ".staging"
SPACE_ERRORS = (errno.ENOSPC, errno.EDQUOT)
SPACE_WORDS = ("No space left on device", "Disk quota exceeded", "PytorchStreamWriter", "inline_container.cc")
"""How libraries that lose the error number say it; torch's zip writer does not say why it could not write."""
LEAST_BYTES_PER_PARAMETER = {"adamw_torch": 12, "adamw_torch_fused": 12, "adafactor": 4}
"""float32 weights and AdamW's two moments; Adafactor's factored moments are small. DeepSpeed writes more."""

log = logging.getLogger(__name__)


class CheckpointError(RuntimeError):
    """A checkpoint could not be written; the older ones are as they were."""


class NoSpaceError(CheckpointError):
    """A checkpoint does not fit on the disk."""


class Checkpoints:
    """The checkpoints of a run, seen from one rank. Every method must be called by every rank."""

    def __init__(self, run: RunDir, spec: RunSpec, ranks: Ranks) -> None:
        self._run, self._ranks = run, ranks
        self._keep, self._optim = spec.train.save_total_limit, spec.train.optim
        self._damaged: tuple[Path, ...] = ()
        self._bytes = 0
        """What the next one takes, at least."""

    def newest(self) -> Path | None:
        """The newest checkpoint whose every file is as it was saved; rank 0 looks, all take its choice."""
        name = ""
        if self._ranks.rank == 0:
            found, self._damaged = newest_verified(self._run)
            name = found.name if found else ""
            marker = read_marker(found) if found else None
            self._bytes = marker.bytes if marker else 0
        name = self._ranks.gather(name)[0]
        return self._run.checkpoints / name if name else None

    def expect(self, parameters: int) -> None:
        """Say how large the model is: before the first checkpoint nothing else tells how large that will be."""
        self._bytes = self._bytes or parameters * LEAST_BYTES_PER_PARAMETER[self._optim]

    def save(self, step: int, identity: Identity, write: Callable[[Path], None]) -> Checkpoint:
        """Let every rank `write` into a staging folder, then make it the newest checkpoint and drop the oldest.

        A crash at any moment leaves either no folder of that name or a complete one. `write` must come to all its
        collective calls whatever it cannot write, and raise afterwards.

        Raises: NoSpaceError or CheckpointError, on all ranks when one fails; then nothing of it stays.
        """
        begin = time.monotonic()
        final = self._run.checkpoints / f"{PREFIX}{step}"
        staging = final.parent / STAGING / final.name
        first = self._ranks.rank == 0
        try:
            _together(self._ranks, lambda: self._make_room(staging) if first else None)
            _together(self._ranks, lambda: write(staging))
            _together(self._ranks, lambda: self._publish(staging, final, identity, step) if first else None)
        except CheckpointError:
            if first:
                shutil.rmtree(staging.parent, ignore_errors=True)
            raise
        if first:
            rotate(self._run, final, self._keep, self._damaged)
        path = str(final.relative_to(self._run.path))
        return Checkpoint(time.time(), step, path, self._bytes, time.monotonic() - begin)

    def _make_room(self, staging: Path) -> None:
        # All of it: a half checkpoint that a dead run left must not fill the disk for ever.
        shutil.rmtree(staging.parent, ignore_errors=True)
        staging.mkdir(parents=True)
        free = shutil.disk_usage(staging).free
        if free < self._bytes:
            raise NoSpaceError(f"it needs {self._bytes:,} bytes and {free:,} are free")

    def _publish(self, staging: Path, final: Path, identity: Identity, step: int) -> None:
        self._bytes = write_marker(staging, identity, step).bytes
        if final.exists():  # a damaged one: it goes only when the new one has its place
            final.rename(staging.parent / "replaced")
        staging.rename(final)
        flush(final.parent)
        shutil.rmtree(staging.parent, ignore_errors=True)


def newest_verified(run: RunDir) -> tuple[Path | None, tuple[Path, ...]]:
    """The newest checkpoint whose files all are as they were saved, and the damaged ones that are newer.

    Each damaged one is named in the log, and stays until a newer one is complete.
    """
    damaged: list[Path] = []
    for folder in reversed(checkpoints_of(run)):
        fault = fault_of(folder)
        if fault is None:
            return folder, tuple(damaged)
        log.warning("%s is not resumed from: %s", folder.name, fault)
        damaged.append(folder)
    return None, tuple(damaged)


def rotate(run: RunDir, newest: Path, keep: int, damaged: Collection[Path] = ()) -> None:
    """Keep `newest` and the complete ones before it, `keep` in all; a damaged one never takes a good one's place."""
    others = [folder for folder in checkpoints_of(run) if folder != newest]
    good = [
        folder for folder in others if step_of(folder) < step_of(newest) and folder not in damaged and is_whole(folder)
    ]
    kept = good[len(good) - min(keep - 1, len(good)) :]
    doomed = run.checkpoints / STAGING  # a deletion that is cut short leaves no half checkpoint
    for folder in others:
        if folder not in kept:
            doomed.mkdir(exist_ok=True)
            folder.rename(doomed / folder.name)
    shutil.rmtree(doomed, ignore_errors=True)


def lacks_space(error: BaseException) -> bool:
    """True for an error of a full disk, also of libraries that tell it in words only."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in SPACE_ERRORS
    return isinstance(error, NoSpaceError) or any(words in str(error) for words in SPACE_WORDS)


def _together(ranks: Ranks, act: Callable[[], None]) -> None:
    """Do this rank's part of a save. What fails on one rank is raised on all: none waits for one that gave up.

    Other errors than those of writing end the rank, and by that the launcher ends the others.
    """
    failed: Exception | None = None
    try:
        act()
    except torch.OutOfMemoryError:
        raise
    except (OSError, RuntimeError, SafetensorError) as error:
        failed = error
    reports = ranks.gather((_told(failed), failed is not None and lacks_space(failed)))
    told = [(f"rank {rank}: {text}", full) for rank, (text, full) in enumerate(reports) if text]
    if told:
        kind = NoSpaceError if all(full for _, full in told) else CheckpointError
        raise kind("; ".join(text for text, _ in told)) from failed


def _told(error: Exception | None) -> str:
    if error is None:
        return ""
    return str(error) if isinstance(error, NoSpaceError) else f"{type(error).__name__}: {error}"

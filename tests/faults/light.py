"""A light rank: `python -m tests.faults.light RUN`. The real guard, agreement, checkpoints and records, no model.

Every step folds its number into a chain of hashes that checkpoints carry; the loss is read off the chain. So a step
that is left out, done twice or resumed from the wrong state changes every later loss. Rank 0 notes each step in
`cache/steps` before it records it. What a rank shall do wrong it finds in `cache/trouble-RANK`, polled at every step;
while there is a `cache/fat`, checkpoints are larger than the last one lets expect. It goes on until `cache/enough`.
"""

from __future__ import annotations

import hashlib
import math
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import torch
from torch.distributed import DistBackendError

from t5panel.contract.checkpoints import step_of
from t5panel.contract.marker import Identity
from t5panel.trainers.checkpoint import Checkpoints, NoSpaceError
from t5panel.trainers.data import Split
from t5panel.trainers.guard import Rank, enter_rank
from t5panel.trainers.ranks import Ranks
from t5panel.trainers.report import Reporter

MOST_STEPS = 1_000_000
"""What a run says that it will make; it ends when it is told."""
STEP_SECONDS = 0.02
SAVE_EVERY, EVALUATE_EVERY = 8, 50
STATE_BYTES, FAT_BYTES = 200_000, 6_000_000
SEED = b"light"


def chain_after(link: bytes, step: int) -> bytes:
    """The next link."""
    return hashlib.blake2b(link + step.to_bytes(8, "big"), digest_size=16).digest()


def link_at(step: int) -> bytes:
    """The link of a step."""
    link = SEED
    for number in range(1, step + 1):
        link = chain_after(link, number)
    return link


def loss_of(link: bytes, step: int) -> float:
    """A falling loss whose last digits are the chain's."""
    return 4.0 / (1 + step / 100) + int.from_bytes(link[:4], "big") / 2**32 / 100


def losses_until(step: int) -> list[float]:
    """The losses of an unbroken run."""
    link, found = SEED, []
    for number in range(1, step + 1):
        link = chain_after(link, number)
        found.append(loss_of(link, number))
    return found


def train(me: Rank) -> None:
    """All steps from the newest complete checkpoint on, up to an agreed end."""
    ranks = Ranks(me)
    checkpoints = Checkpoints(me.run, me.spec, ranks)
    rows = cast(Split, SimpleNamespace(train_rows=1000, eval_rows=0))
    reporter = Reporter(me, ranks, rows)
    live_as_told(me)
    newest = checkpoints.newest()
    first, link = (step_of(newest), (newest / f"chain-{me.rank}").read_bytes()) if newest else (0, SEED)
    checkpoints.expect(STATE_BYTES)

    def write(folder: Path) -> None:
        (folder / f"chain-{me.rank}").write_bytes(link)
        (folder / f"state-{me.rank}.bin").write_bytes(
            os.urandom(FAT_BYTES if (me.run.cache / "fat").exists() else STATE_BYTES)
        )
        time.sleep(0.1)

    def save(step: int) -> None:
        reporter.phase("saving", step)
        reporter.saved(checkpoints.save(step, identity_of(me), write))
        reporter.phase("running", step)

    reporter.started(step=first, max_steps=MOST_STEPS, parameters=1)
    step, stop, enough = first, 0.0, 0.0
    while not stop and not enough:
        step += 1
        os.utime(me.run.ranks / str(me.rank))
        found = (1.0, me.run.request.exists(), (me.run.cache / "enough").exists())
        tokens, stop, enough = ranks.sum([float(value) for value in found])
        me.witness.step = step
        loss = make_trouble(me)
        time.sleep(STEP_SECONDS)
        link = chain_after(link, step)
        reporter.meter.add_loss(torch.tensor(loss_of(link, step) if loss is None else loss))
        reporter.meter.add_step(tokens=tokens, waited=0.0)
        if me.rank == 0:
            with (me.run.cache / "steps").open("ab", buffering=0) as file:
                file.write(f"{step}\n".encode())
        reporter.step(step, learning_rate=1e-3, grad_norm=1.0)
        if step % SAVE_EVERY == 0 or stop or enough:
            try:
                save(step)
            except NoSpaceError:
                if stop or enough:
                    raise
                reporter.phase("running", step)
        if step % EVALUATE_EVERY == 0:
            reporter.phase("evaluating", step)
            time.sleep(0.3)
            reporter.phase("running", step)
    reporter.ended(step=step, stopped=not enough)
    ranks.leave()


def identity_of(me: Rank) -> Identity:
    """What the checkpoints are of."""
    train = me.spec.train
    return Identity(
        data={},
        method=me.spec.method,
        world_size=me.world_size,
        per_device_train_batch_size=train.per_device_train_batch_size,
        gradient_accumulation_steps=train.gradient_accumulation_steps,
        seed=train.seed,
    )


TROUBLES = {
    "oom": torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 1.23 GiB. GPU 0 has a total capacity of 19.58 GiB of which 1.02 GiB "
        "is free. Including non-PyTorch memory, this process has 18.55 GiB memory in use. Of the allocated memory "
        "14.94 GiB is allocated by PyTorch, and 3.18 GiB is reserved by PyTorch but unallocated."
    ),
    "nccl-shm": DistBackendError(
        "NCCL error in: ProcessGroupNCCL.cpp:3690, unhandled system error (run with NCCL_DEBUG=INFO for details), NCCL "
        "version 2.27.5\nncclSystemError: System call (e.g. socket, malloc) or external library call failed or device "
        "error.\nLast error:\nError while attaching to shared memory segment /dev/shm/nccl-8Xm2Fz (size 0), error: No "
        "such file or directory (2)"
    ),
    "row": ValueError("row 7 of train.parquet holds no text"),
}
"""What a rank fails with where the hardware for it is missing: the words are those of torch and NCCL."""


def make_trouble(me: Rank) -> float | None:
    """Do what the trouble file of this rank says, once; a loss when only that is wrong."""
    path = me.run.cache / f"trouble-{me.rank}"
    try:
        trouble = path.read_text()
    except FileNotFoundError:
        return None
    if trouble == "nan":  # it stays
        return math.nan
    path.unlink()
    match trouble:
        case "hang":
            time.sleep(3600)
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "exit":
            os._exit(3)
        case _:
            raise TROUBLES[trouble]
    return None


def live_as_told(me: Rank) -> None:
    """Be as hard to end as this rank's file says."""
    try:
        manner = (me.run.cache / f"manner-{me.rank}").read_text()
    except FileNotFoundError:
        return
    if manner == "ignores-term":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if manner == "forks" and os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
        os._exit(0)


if __name__ == "__main__":
    train(enter_rank())

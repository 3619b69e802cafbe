"""The first line of every rank: who it is, where it writes, and that it dies with its supervisor."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from t5panel.contract.layout import SUPERVISOR_VARIABLE, RunDir, write_atomic
from t5panel.contract.process import carrying, pidfd_of, start_time_of
from t5panel.contract.records import RankId
from t5panel.contract.spec import RunSpec
from t5panel.trainers.witness import Witness

DIED_WITH_SUPERVISOR = 137
LOOK_SECONDS = 0.5


class WorldSizeError(RuntimeError):
    """The launcher started another number of ranks than the run asks for."""


@dataclass(frozen=True)
class Rank:
    """One rank of a run, as its launcher's environment tells it."""

    run: RunDir
    spec: RunSpec
    rank: int
    local_rank: int
    world_size: int
    witness: Witness = field(repr=False, compare=False)
    """Tell it the step: it is in the file that a failing rank leaves."""


def enter_rank() -> Rank:
    """This process as a rank of the run named on the command line.

    Raises: WorldSizeError when the launcher's world is not the run's, so that separate trainings cannot pass as one.
    """
    run = RunDir(Path(sys.argv[1]))
    rank = int(os.environ.setdefault("RANK", "0"))
    witness = Witness(run, rank)
    witness.watch()
    local_rank = int(os.environ.setdefault("LOCAL_RANK", "0"))
    world_size = int(os.environ.setdefault("WORLD_SIZE", "1"))
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "0")
    _die_with_supervisor(run)
    _write_to(run.rank_log(rank))
    # transformers.Trainer would import datasets, pandas and pyarrow: 83 MiB in every rank, for nothing.
    sys.modules["datasets"] = None  # type: ignore[assignment]
    spec = read_spec(run)
    if world_size != spec.num_gpus:
        raise WorldSizeError(f"the launcher started a world of {world_size}, the run needs {spec.num_gpus}")
    _show_stacks_when_asked(run, rank)
    _register(run, rank)
    return Rank(run, spec, rank, local_rank, world_size, witness)


def read_spec(run: RunDir) -> RunSpec:
    """The resolved spec of a run."""
    info = msgspec.json.decode(run.run_json.read_bytes())
    return RunSpec.model_validate_json(msgspec.json.encode(info["spec"]))


def _die_with_supervisor(run: RunDir) -> None:
    """Watch the supervisor and end at once when it ends, and all else of its run with us: no orphan keeps a card."""
    named = os.environ.get(SUPERVISOR_VARIABLE)
    if named is None:
        return
    supervisor = int(named)
    wait = wait_for_end_of(supervisor)

    def watch() -> None:
        wait()
        try:
            end_others(run, supervisor)
        finally:
            os._exit(DIED_WITH_SUPERVISOR)

    threading.Thread(target=watch, name="supervisor-guard", daemon=True).start()


def end_others(run: RunDir, supervisor: int) -> None:
    """Kill what else this supervisor started for the run and cannot end any more: a frozen rank, a daemon of a rank.

    What a later supervisor starts is not touched. Ranks come last: each does the same, so none is killed by another
    one before that one has ended the rest.
    """
    ranks = {msgspec.json.decode(path.read_bytes(), type=RankId).pid for path in run.ranks.glob("[0-9]*")}
    others = set(carrying(run.mark_of(supervisor))) - {os.getpid()}
    for pid in (*(others - ranks), *(others & ranks)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def wait_for_end_of(pid: int) -> Callable[[], None]:
    """A function that returns when the process with this pid has ended.

    Through a pidfd; where there is none, by looking twice a second whether it is still the same process.
    """
    descriptor = pidfd_of(pid)
    if descriptor is not None:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)

        def wait() -> None:
            poll.poll()

        return wait
    begun = start_time_of(pid)

    def look() -> None:
        while begun is not None and start_time_of(pid) == begun:
            time.sleep(LOOK_SECONDS)

    return look


def _write_to(log: Path) -> None:
    """Send this process's output to a file of its own: no pipe that somebody must read."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _show_stacks_when_asked(run: RunDir, rank: int) -> None:
    """Write the stacks of all threads at SIGUSR2, which the supervisor of a stalled run sends to registered ranks."""
    log = os.open(run.stacks(rank), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    faulthandler.register(signal.SIGUSR2, file=log, all_threads=True)


def _register(run: RunDir, rank: int) -> None:
    start_time = start_time_of("self") or 0
    run.ranks.mkdir(exist_ok=True)
    write_atomic(run.ranks / str(rank), msgspec.json.encode(RankId(rank, os.getpid(), start_time)), durable=False)

"""What can be seen of a light run from outside."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from t5panel.contract.checkpoints import checkpoints_of, step_of
from t5panel.contract.layout import RunDir
from t5panel.contract.marker import MARKER
from t5panel.contract.records import Event, Metric, RankId, Start, Status, Step
from t5panel.monitor.proc import is_alive
from t5panel.monitor.runs import read_state
from t5panel.monitor.tail import Tail
from tests.faults.light import STATE_BYTES, link_at
from tests.house.household import eventually

RANKS = 3
START_SECONDS = 120.0
STEPS_TO_SEE = 10

Stage = Literal["start-up", "steps", "saving", "evaluating"]


def ranks_of(run: RunDir) -> list[RankId]:
    """The living ranks as they registered themselves."""
    found = [msgspec.json.decode(path.read_bytes(), type=RankId) for path in run.ranks.glob("[0-9]")]
    return sorted((rank for rank in found if is_alive(rank.pid, rank.start_time)), key=lambda rank: rank.rank)


def lines_of(path: Path) -> list[bytes]:
    """The whole lines of a file; one that a death left torn is none."""
    content = path.read_bytes() if path.exists() else b""
    return content[: content.rfind(b"\n") + 1].splitlines()


def metrics_of(run: RunDir) -> list[Metric]:
    """Every whole record of rank 0; what a death tore and the next start ended is none."""
    return _decoded(lines_of(run.metrics))


def _decoded(lines: list[bytes]) -> list[Metric]:
    decoder, found = msgspec.json.Decoder(Metric), []
    for line in lines:
        with contextlib.suppress(msgspec.DecodeError):
            found.append(decoder.decode(line))
    return found


def starts_of(run: RunDir) -> list[Start]:
    """Where each start began."""
    return [metric for metric in metrics_of(run) if isinstance(metric, Start)]


def events_of(run: RunDir) -> list[Event]:
    """Every event of the run."""
    return [msgspec.json.decode(line, type=Event) for line in lines_of(run.events)]


def is_whole(folder: Path) -> bool:
    """Whether every rank's state of that step is in a checkpoint, and its marker: found without the product's means."""
    link = link_at(step_of(folder))
    states = [folder / f"state-{rank}.bin" for rank in range(RANKS)]
    chains = [folder / f"chain-{rank}" for rank in range(RANKS)]
    return (
        (folder / MARKER).exists()
        and (folder / MARKER).read_bytes().endswith(b"\n}\n")  # torn anywhere it does not
        and all(path.exists() and path.stat().st_size == STATE_BYTES for path in states)
        and all(path.exists() and path.read_bytes() == link for path in chains)
    )


def newest_step(run: RunDir) -> int:
    """The step of the newest whole checkpoint, 0 without one."""
    return max((step_of(folder) for folder in checkpoints_of(run) if is_whole(folder)), default=0)


def await_stage(run: RunDir, stage: Stage, delay: float) -> None:
    """Wait until the run is at a stage; in its start-up that is `delay` seconds after the supervisor's start."""
    if stage == "start-up":
        time.sleep(delay)
    elif stage == "steps":
        await_steps(run, STEPS_TO_SEE)
    else:
        await_records(run, lambda metric: isinstance(metric, Status) and metric.phase == stage)


def await_steps(run: RunDir, count: int, *, seconds: float = START_SECONDS) -> None:
    """Wait until the run has made so many more steps, or has ended."""
    await_records(run, lambda metric: isinstance(metric, Step), count=count, seconds=seconds)


def await_records(
    run: RunDir, wanted: Callable[[Metric], bool], *, count: int = 1, seconds: float = START_SECONDS
) -> None:
    """Wait until so many new records are what is wanted, or the run has ended."""
    tail, left = Tail(run.metrics, from_end=True), count

    def is_there() -> bool:
        nonlocal left
        left -= sum(map(wanted, _decoded(tail.lines())))
        return left <= 0 or not read_state(run).alive

    within(is_there, seconds=seconds)


def await_start(run: RunDir, before: int, expected: int) -> str:
    """Wait until the ranks have started once more than `before`; what is wrong with it, empty when nothing."""
    within(lambda: len(starts_of(run)) > before or not read_state(run).alive, seconds=START_SECONDS)
    begun = [start.step for start in starts_of(run)[before:]]
    if begun == [expected]:
        return ""
    return f"resumed at {begun}, not at the newest complete checkpoint {expected}: {read_state(run).message}"


def within(condition: Callable[[], bool], *, seconds: float) -> float:
    """As eventually, on a machine that may be busy with other things; the seconds it took."""
    return eventually(condition, seconds=seconds * overload())


def overload() -> float:
    """How many times longer than alone everything takes now, by the load of the last minute; at least 1."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def load_words() -> str:
    """`load 3.1 on 2 cores`."""
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"

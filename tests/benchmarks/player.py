"""A run that lives at 1 Hz without any training: `python -m tests.benchmarks.player RUN_DIR` plays its supervisor.

Once a second it adds a step, a reading of three cards and three ranks, and a line of the first rank's log.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen

import msgspec

from t5panel.contract.layout import RunDir, append_line, write_atomic
from t5panel.contract.records import Card, Phase, ProcessId, RankSample, Sample, State, Step, encode_line
from t5panel.monitor.history import History
from t5panel.monitor.proc import boot_id, read_process

MIB, GIB = 2**20, 2**30
READY = b"ready\n"


@contextmanager
def played(run: RunDir) -> Iterator[int]:
    """The run lives inside; the pid of what plays its supervisor."""
    argv = [sys.executable, "-m", "tests.benchmarks.player", str(run.path)]
    with Popen(argv, stdout=PIPE, stdin=DEVNULL) as player:
        try:
            if player.stdout is None or player.stdout.readline() != READY:
                raise RuntimeError("the player did not start")
            yield player.pid
        finally:
            player.terminate()


def play(run: RunDir, first: Step) -> None:
    """Go on from a step until a signal ends this process."""
    chance = random.Random(1)
    _say(run, "running", first.step)
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    for number in range(first.step + 1, 1 << 60):
        begin, now = time.time(), first.time + number - first.step
        loss = max(0.1, (first.loss or 1.0) + chance.gauss(0, 0.3))
        step = msgspec.structs.replace(first, time=now, step=number, samples=24 * number, loss=loss, grad_norm=loss)
        append_line(run.metrics, encode_line(step))
        append_line(run.samples, encode_line(_reading(now, chance)))
        append_line(run.rank_log(0), f"{now:.0f} step {number} loss {loss:.4f}\n".encode())
        _say(run, "running", number)
        time.sleep(begin + 1 - time.time())


def _say(run: RunDir, phase: Phase, step: int) -> None:
    me = read_process(os.getpid())
    if me is None:
        raise RuntimeError("/proc does not know this process")
    self = ProcessId(me.pid, me.start_time)
    state = State(phase, run.run_id, boot_id(), time.time(), self, None, (), message=f"running at step {step}")
    write_atomic(run.state, msgspec.json.encode(state), durable=False)


def _reading(now: float, chance: random.Random) -> Sample:
    cards = tuple(
        Card(
            index, 17 * GIB + chance.randrange(2) * MIB, 20 * GIB, chance.randint(90, 100), chance.uniform(310, 319), 74
        )
        for index in range(3)
    )
    ranks = tuple(RankSample(rank, 4000 + rank, 2 * GIB + chance.randrange(8 * MIB), None) for rank in range(3))
    return Sample(now, cards, ranks, ram_used=8 * GIB + chance.randrange(64 * MIB), ram_limit=12 * GIB)


def main(path: str) -> None:
    """Play the supervisor of the run directory at `path`."""
    run = RunDir(Path(path))
    last = History(run).refresh().last
    if last is None:
        raise RuntimeError(f"{path} has no step to go on from")
    play(run, last)


if __name__ == "__main__":
    main(sys.argv[1])

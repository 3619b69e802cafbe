"""A recorded run, and the same run while it lived and after it was cut off.

`tests/data/recorded-run` is a real rehearsal of the manual preset: 80 steps on three CPU ranks, four evaluations, two
checkpoints. Times, process ids, paths and the RAM limit were replaced by fixed ones.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec

from t5panel.contract.layout import RunDir
from t5panel.contract.records import Card, Event, Phase, ProcessId, RunInfo, Sample, State, Step, encode_line
from t5panel.monitor.proc import boot_id, read_process
from t5panel.plan.machine import GIB

RECORDING = Path(__file__).parent.parent / "data" / "recorded-run"
CREATED = 1767268800.0
NEVER = "00000000-0000-0000-0000-000000000000"


def finished(home: Path, name: str = "20260101-120000-manual") -> RunDir:
    """The run as it was recorded."""
    run = RunDir(home / name)
    shutil.copytree(RECORDING, run.path)
    return run


def living(home: Path, name: str = "20260101-130000-manual", *, cards: int = 0) -> RunDir:
    """The run at step 50, its supervisor played by this very process."""
    run = _cut(finished(home, name), steps=50)
    _write_state(run, "running", "running at step 40", boot=boot_id())
    if cards:
        _give_cards(run, cards)
    return run


def crashed(home: Path, name: str = "20260101-110000-manual") -> RunDir:
    """The run at step 50, its supervisor gone with the machine's last boot."""
    run = _cut(finished(home, name), steps=50)
    _write_state(run, "running", "running at step 40", boot=NEVER)
    return run


def ended(run: RunDir, phase: Phase, message: str) -> RunDir:
    """The same run after its supervisor wrote an end."""
    _write_state(run, phase, message, boot=NEVER)
    return run


def _cut(run: RunDir, *, steps: int) -> RunDir:
    """Forget what came after a step."""
    lines = run.metrics.read_bytes().splitlines(keepends=True)
    end = next(at for at, line in enumerate(lines) if b'"step","time"' in line and f'"step":{steps},'.encode() in line)
    run.metrics.write_bytes(b"".join(lines[: end + 1]))
    run.result.unlink()
    last = msgspec.json.decode(lines[end], type=Step).time
    _keep(run.samples, Sample, last)
    _keep(run.events, Event, last)
    return run


def _keep(path: Path, kind: type[Sample] | type[Event], last: float) -> None:
    """Only the lines up to a time."""
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line for line in lines if msgspec.json.decode(line, type=kind).time <= last))


def _write_state(run: RunDir, phase: Phase, message: str, *, boot: str) -> None:
    own = read_process(os.getpid())
    assert own is not None
    state = State(phase, run.run_id, boot, CREATED, ProcessId(own.pid, own.start_time), None, (), message=message)
    run.state.write_bytes(msgspec.json.encode(state))


def _give_cards(run: RunDir, count: int) -> None:
    """The same run and readings on a machine with cards."""
    info = msgspec.json.decode(run.run_json.read_bytes(), type=RunInfo)
    run.run_json.write_bytes(msgspec.json.encode(msgspec.structs.replace(info, rehearsal=False)))
    samples = [msgspec.json.decode(line, type=Sample) for line in run.samples.read_bytes().splitlines()]
    lines = []
    for at, sample in enumerate(samples):
        used = min(12 * GIB, at * GIB // 2)
        cards = tuple(
            Card(index, used + index * GIB // 4, 20 * GIB, 96 - index, 310.0, 70 + index) for index in range(count)
        )
        lines.append(encode_line(msgspec.structs.replace(sample, cards=cards)))
    run.samples.write_bytes(b"".join(lines))

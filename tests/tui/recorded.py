"""A recorded run, and the same run while it lived and after it was cut off.

`tests/data/recorded-run` is a real rehearsal of the manual preset: 80 steps on three CPU ranks, four evaluations, two
checkpoints. Times, process ids, paths and the RAM limit were replaced by fixed ones.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from t5panel.contract.layout import RunDir
from t5panel.contract.records import (
    Card,
    Diagnosis,
    Event,
    Phase,
    Prepared,
    ProcessId,
    Recovery,
    RunInfo,
    Sample,
    State,
    Step,
    encode_line,
)
from t5panel.contract.shapes import SHAPES
from t5panel.monitor.proc import boot_id, read_process
from t5panel.plan.machine import GIB

RECORDING = Path(__file__).parent.parent / "data" / "recorded-run"
CREATED = 1767268800.0
OPENING = CREATED + 10 * 3600
"""22:00 UTC on the day of the recording."""
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


STALL = Event(CREATED + 95, "stall", "no step for 61 s after step 50, usually one takes 0.8 s", "error")
SPIKE = Event(CREATED + 80, "loss-spike", "the loss jumped from 3.121 to 7.904 at step 50", "warning")
DISK = Event(CREATED + 20, "disk", "the next checkpoint will not fit: 0.4 GiB free, it takes 1.1 GiB", "warning")
OOM = Diagnosis(
    code="cuda-out-of-memory",
    sentence="CUDA out of memory on rank 1 at step 51: 17.9 GiB allocated, 18.6 GiB reserved of 19.6 GiB",
    hint="--set train.per_device_train_batch_size=1 --set train.gradient_accumulation_steps=4 is the nearest that fits",
    rank=1,
    detail="""Traceback (most recent call last):
  File "/home/user/t5panel/trainers/manual.py", line 83, in <module>
    main()
  File "/home/user/t5panel/trainers/manual.py", line 61, in train
    loss.backward()
  File "/home/user/venv/lib/python3.12/site-packages/torch/_tensor.py", line 647, in backward
    torch.autograd.backward(self, gradient, retain_graph, create_graph, inputs=inputs)
  File "/home/user/venv/lib/python3.12/site-packages/torch/autograd/__init__.py", line 354, in backward
    _engine_run_backward(tensors, grad_tensors_, retain_graph, create_graph)
  File "/home/user/venv/lib/python3.12/site-packages/torch/autograd/graph.py", line 829, in _engine_run_backward
    return Variable._execution_engine.run_backward(*args, **kwargs)
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.21 GiB. GPU 1 has a total capacity of 19.60 GiB""",
)


def tell(run: RunDir, *events: Event) -> RunDir:
    """The same run after its supervisor noted more."""
    with run.events.open("ab") as file:
        file.writelines(map(encode_line, events))
    return run


def paused(home: Path, name: str = "20260101-130000-manual") -> RunDir:
    """The run at step 50, paused until its daily window opens; its supervisor played by this very process."""
    run = living(home, name, cards=3)
    _change_info(run, spec={**_info(run).spec, "schedule": "22:00-08:00"})
    _write_state(run, "paused", "paused until 22:00", boot=boot_id(), until=OPENING)
    return run


def queued(home: Path, name: str = "20260101-140000-manual") -> RunDir:
    """The run before its first step, waiting for cards."""
    run = living(home, name, cards=3)
    run.metrics.unlink()
    run.samples.unlink()
    _write_state(run, "paused", "queued: card 0 is used by 20260101-130000-manual", boot=boot_id())
    return run


def diagnosed(home: Path, name: str = "20260101-110000-manual", *, diagnosis: Diagnosis = OOM) -> RunDir:
    """The run at step 50, failed, its cause known, after one recovery."""
    run = _cut(finished(home, name), steps=50)
    _give_cards(run, 3)
    before = {"train.per_device_train_batch_size": 4, "train.gradient_accumulation_steps": 1}
    after = {"train.per_device_train_batch_size": 2, "train.gradient_accumulation_steps": 2}
    reason = "CUDA out of memory on rank 0 at step 23"
    _change_info(run, recoveries=(Recovery(CREATED + 40, 20, reason, before, after),))
    message = "the ranks ended without a result (the launcher ended with 1)"
    _write_state(run, "failed", message, boot=NEVER, diagnosis=diagnosis)
    return tell(run, Event(CREATED + 96, "failed", diagnosis.sentence, "error"))


def on_named_cards(run: RunDir) -> RunDir:
    """The same run as if its cards had names, its rows lengths, and its ranks waited for one another; all made up."""
    plan = {**_info(run).plan, "cards": ["NVIDIA GeForce RTX 3080"] * 3, "shape": asdict(SHAPES["t5-base"])}
    _change_info(run, cards=(0, 1, 2), plan=plan)
    lengths = tuple(range(8, 520, 8))
    prepared = Prepared("", None, 5868, 0, 0, 0, source_tokens=lengths, target_tokens=lengths)
    run.prepared.write_bytes(msgspec.json.encode(prepared))
    lines = run.metrics.read_bytes().replace(b',"vram_allocated"', b',"communication_seconds":0.04,"vram_allocated"')
    run.metrics.write_bytes(lines)
    return run


def _info(run: RunDir) -> RunInfo:
    return msgspec.json.decode(run.run_json.read_bytes(), type=RunInfo)


def _change_info(run: RunDir, **changes: Any) -> None:  # noqa: ANN401
    run.run_json.write_bytes(msgspec.json.encode(msgspec.structs.replace(_info(run), **changes)))


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


def _write_state(
    run: RunDir,
    phase: Phase,
    message: str,
    *,
    boot: str,
    until: float | None = None,
    diagnosis: Diagnosis | None = None,
) -> None:
    own = read_process(os.getpid())
    assert own is not None
    supervisor = ProcessId(own.pid, own.start_time)
    state = State(
        phase, run.run_id, boot, CREATED, supervisor, None, (), message=message, until=until, diagnosis=diagnosis
    )
    run.state.write_bytes(msgspec.json.encode(state))


def _give_cards(run: RunDir, count: int) -> None:
    """The same run and readings on a machine with cards."""
    _change_info(run, rehearsal=False)
    samples = [msgspec.json.decode(line, type=Sample) for line in run.samples.read_bytes().splitlines()]
    lines = []
    for at, sample in enumerate(samples):
        used = min(12 * GIB, at * GIB // 2)
        cards = tuple(
            Card(index, used + index * GIB // 4, 20 * GIB, 96 - index, 310.0, 70 + index) for index in range(count)
        )
        lines.append(encode_line(msgspec.structs.replace(sample, cards=cards)))
    run.samples.write_bytes(b"".join(lines))

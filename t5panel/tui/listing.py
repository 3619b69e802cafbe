"""All runs as rows: what their files say, cheaply, with the phase derived from the processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

import msgspec

from t5panel.contract.layout import RunDir
from t5panel.contract.records import Phase, RunInfo, Start, Step
from t5panel.monitor.runs import read_note, read_state
from t5panel.monitor.tail import last_lines
from t5panel.plan.planning import formula
from t5panel.render.state import headline, note_text, phase_word
from t5panel.session import list_runs
from t5panel.tui.faults import UNREADABLE

R = TypeVar("R")
Order = Literal["started", "loss", "state"]
ORDERS: tuple[Order, ...] = get_args(Order)
ENDINGS: tuple[Phase, ...] = ("failed", "stopped", "finished")
"""In the order in which they need the user."""
UNKNOWN = "—"
LAST_LINES = 40
HEAD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What a run trains on what, as its description says; a dash where it does not."""

    method: str
    launcher: str
    ranks: int
    device: str
    formula: str
    """Rows per card, accumulation, ranks, rows per optimizer step."""
    model: str
    data: str
    lengths: tuple[str, str]
    """Most tokens of a prompt and of a response."""


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run of the list. `created` in unix seconds."""

    run: RunDir
    preset: str
    phase: Phase
    word: str
    """The phase as people call it."""
    note: str
    """Until when it is paused, why it failed; mostly nothing."""
    alive: bool
    rehearsal: bool
    effective_batch: int
    step: int | None
    max_steps: int | None
    loss: float | None
    created: float
    model: str
    data: str
    technique: str
    """Precision, and what saves memory."""
    settings: RunSettings
    message: str
    """How it ended, or what it does."""
    user_note: str = ""


def read_rows(now: float) -> tuple[RunRow, ...]:
    """Every run of this user, newest first; one whose files cannot be read is left out. `now` in unix seconds."""
    return tuple(row for run, info in _runs() if (row := _readable_row(run, info, now)) is not None)


def arranged(rows: Iterable[RunRow], text: str, order: Order) -> tuple[RunRow, ...]:
    """The rows that hold every word of a text, in an order; the newest first where that leaves them equal."""
    words = text.casefold().split()
    chosen = [row for row in rows if all(word in _searched(row) for word in words)]
    keys: dict[Order, Callable[[RunRow], float]] = {
        "started": lambda _: 0,
        "loss": lambda row: math.inf if row.loss is None else row.loss,
        "state": lambda row: -1 if row.alive else ENDINGS.index(row.phase),
    }
    return tuple(sorted(chosen, key=keys[order]))


def next_order(order: Order) -> Order:
    """The order after this one."""
    return ORDERS[(ORDERS.index(order) + 1) % len(ORDERS)]


def with_or_without(marked: Sequence[RunDir], run: RunDir) -> tuple[RunDir, ...]:
    """The marked runs and this one, or without it when it was among them."""
    return tuple(other for other in marked if other != run) if run in marked else (*marked, run)


def _searched(row: RunRow) -> str:
    settings = row.settings
    words = (
        row.run.run_id,
        row.preset,
        row.word,
        row.note,
        row.user_note,
        row.technique,
        settings.model,
        settings.data,
    )
    return " ".join(words).casefold()


def newest() -> RunDir | None:
    """The newest run."""
    return next((run for run, _ in _runs()), None)


def newest_alive() -> RunDir | None:
    """The newest run whose supervisor lives."""
    return next((run for run, _ in _runs() if read_state(run).alive), None)


def _runs() -> list[tuple[RunDir, RunInfo]]:
    try:
        return list_runs()
    except OSError:  # their folder went away
        return []


def _readable_row(run: RunDir, info: RunInfo, now: float) -> RunRow | None:
    try:
        return _row(run, info, now)
    except UNREADABLE:
        return None


def _row(run: RunDir, info: RunInfo, now: float) -> RunRow:
    state, step, start = read_state(run), _last_step(run), _start(run)
    return RunRow(
        run=run,
        preset=info.preset,
        phase=state.phase,
        word=phase_word(state),
        note=" ".join(note_text(info, state, now).split()),
        alive=state.alive,
        rehearsal=info.rehearsal,
        effective_batch=int(info.plan["effective_batch"]),
        step=step.step if step else None,
        max_steps=start.max_steps if start else None,
        loss=step.loss if step else None,
        created=info.created,
        model=_short((info.spec.get("model") or {}).get("name_or_path", "")),
        data=_short((info.spec.get("data") or {}).get("train", "")),
        technique=_technique(info),
        settings=_settings(info.spec),
        message=headline(state),
        user_note=read_note(run),
    )


def _settings(spec: Mapping[str, Any]) -> RunSettings:
    model, data, train = (spec.get(part) or {} for part in ("model", "data", "train"))
    batch, passes = (train.get(f"{name}") for name in ("per_device_train_batch_size", "gradient_accumulation_steps"))
    ranks = int(spec.get("num_gpus") or 1)
    return RunSettings(
        method=str(spec.get("method", UNKNOWN)),
        launcher=str(spec.get("launcher", UNKNOWN)),
        ranks=ranks,
        device=str(spec.get("device", UNKNOWN)),
        formula=formula(int(batch), int(passes), ranks) if batch and passes else UNKNOWN,
        model=str(model.get("name_or_path", UNKNOWN)),
        data=str(data.get("train", UNKNOWN)),
        lengths=(str(data.get("max_source_length", UNKNOWN)), str(data.get("max_target_length", UNKNOWN))),
    )


def _short(name: str) -> str:
    """The end of a path."""
    return name.rstrip("/").rpartition("/")[2]


def _technique(info: RunInfo) -> str:
    """`bf16 ckpt ZeRO-2`."""
    train, deepspeed = info.spec.get("train") or {}, info.spec.get("deepspeed") or {}
    stage = (deepspeed.get("zero_optimization") or {}).get("stage")
    words = (
        "bf16" if train.get("bf16") else "fp32",
        "ckpt" if train.get("gradient_checkpointing") else "",
        f"ZeRO-{stage}" if stage else "",
    )
    return " ".join(word for word in words if word)


def _last_step(run: RunDir) -> Step | None:
    """The newest step near the end of the metrics."""
    lines = (line for line in reversed(last_lines(run.metrics, LAST_LINES)) if line.startswith('{"kind":"step"'))
    return next((step for line in lines if (step := _decoded(line.encode(), Step)) is not None), None)


def _start(run: RunDir) -> Start | None:
    """The first record of the metrics."""
    try:
        with run.metrics.open("rb") as file:
            return _decoded(file.readline(HEAD_BYTES), Start)
    except FileNotFoundError:
        return None


def _decoded(line: bytes, kind: type[R]) -> R | None:
    try:
        return msgspec.json.decode(line, type=kind)
    except msgspec.DecodeError:
        return None

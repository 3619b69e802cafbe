"""The true state of a run: what its files say, checked against the processes that live."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from t5panel.contract.layout import RunDir
from t5panel.contract.records import ENDED, CardUse, Diagnosis, Phase, Prepared, Progress, Result, RunInfo, State
from t5panel.errors import Fault, UsageError
from t5panel.monitor.clues import Evidence, Login
from t5panel.monitor.evidence import kills_at_logout
from t5panel.monitor.proc import boot_id, is_alive

R = TypeVar("R")
NOTE_BYTES = 4096
"""Of the longest note."""


@dataclass(frozen=True, slots=True)
class RunState:
    """A run's phase as it really is, the sentence that belongs to it, and whether its supervisor lives."""

    phase: Phase
    message: str
    alive: bool
    state: State | None
    diagnosis: Diagnosis | None = None
    """Why it ended, when that is known."""


def read_info(run: RunDir) -> RunInfo:
    """run.json of a run.

    Raises: UsageError when it is missing or broken.
    """
    try:
        return msgspec.json.decode(run.run_json.read_bytes(), type=RunInfo)
    except (OSError, msgspec.DecodeError) as error:
        raise UsageError.of(str(run.run_json), f"cannot be read: {error}", "see `t5panel runs`") from error


def read_state(run: RunDir) -> RunState:
    """The state of a run, never taken from a stale file: a supervisor that is not alive has no running run."""
    state = _read(run.state, State)
    if state is None:
        return RunState("failed", "it never started", alive=False, state=None)
    if state.phase in ENDED:
        return RunState(state.phase, state.message, alive=False, state=state, diagnosis=state.diagnosis)
    if boot_id() == state.boot_id and is_alive(state.supervisor.pid, state.supervisor.start_time):
        return RunState(state.phase, state.message, alive=True, state=state)
    return cut_off(run.run_id, state, boot=boot_id(), kill_user_processes=kills_at_logout())


def cut_off(run_id: str, state: State, *, boot: str, kill_user_processes: bool | None = None) -> RunState:
    """What became of a run whose supervisor is gone: a paused one lost nothing, any other was cut off."""
    from t5panel.monitor.diagnose import diagnose  # a megabyte of signatures, for the dead only

    if state.phase == "paused":
        how = "the machine was restarted" if boot != state.boot_id else "its supervisor ended"
        message = f"paused when {how}; resume it with t5panel resume {run_id}"
        return RunState("stopped", message, alive=False, state=state)
    # Messages go on from "the run was": "saving at step 40". One that is a sentence of its own does not.
    doing = state.phase if not state.message or state.message.startswith("the ") else state.message
    known = Evidence(
        run_id=run_id,
        doing=doing,
        boot_then=state.boot_id,
        boot_now=boot,
        supervisor_alive=False,
        login=Login(kill_user_processes),
    )
    found = diagnose(known)
    return RunState("failed", f"{found.sentence}; {found.hint}", alive=False, state=state, diagnosis=found)


def read_result(run: RunDir) -> Result | None:
    """result.json of a run, None before a clean end."""
    return _read(run.result, Result)


def read_card_use(run: RunDir) -> tuple[CardUse, ...]:
    """What NVML said of the cards of an ended run; nothing before its end."""
    state = _read(run.state, State)
    return state.vram if state is not None and state.phase in ENDED else ()


def read_prepared(run: RunDir) -> Prepared | None:
    """prepared.json of a run, None before its data was tokenised."""
    return _read(run.prepared, Prepared)


def read_progress(run: RunDir) -> Progress | None:
    """progress.json of a run, None when nothing is being prepared."""
    return _read(run.progress, Progress)


def read_note(run: RunDir) -> str:
    """The user's note on a run, on one line; empty without one."""
    try:
        with run.note.open("rb") as file:
            text = file.read(NOTE_BYTES).decode(errors="replace")
    except OSError:
        return ""
    return "".join(sign if sign.isprintable() else " " for sign in " ".join(text.split()))


def user_faults(run: RunDir) -> tuple[Fault, ...]:
    """Faults of the user's data or model that the preparation found."""
    return _read(run.faults, tuple[Fault, ...]) or ()


def _read(path: Path, kind: type[R]) -> R | None:
    """A JSON file of a run; None when it is missing or broken, for one bad file must not hide the run or its list."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError):
        return None


def prepared_text(prepared: Prepared) -> str:
    """What became of the rows: `2,996 rows, 2 dropped (empty prompt or response), 14 prompts truncated`."""
    parts = (
        (prepared.dropped, "dropped (empty prompt or response)"),
        (prepared.truncated_sources, "prompts truncated"),
        (prepared.truncated_targets, "responses truncated"),
    )
    return ", ".join((f"{prepared.rows:,} rows", *(f"{count:,} {what}" for count, what in parts if count)))

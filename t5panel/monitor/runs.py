"""The true state of a run: what its files say, checked against the processes that live."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from t5panel.contract.layout import RunDir
from t5panel.contract.records import ENDED, Phase, Prepared, Result, RunInfo, State
from t5panel.errors import UsageError
from t5panel.monitor.proc import boot_id, is_alive

CRASHED = "the supervisor died: the run was cut off (killed, out of memory, or the machine was restarted)"


@dataclass(frozen=True, slots=True)
class RunState:
    """A run's phase as it really is, the sentence that belongs to it, and whether its supervisor lives."""

    phase: Phase
    message: str
    alive: bool
    state: State | None


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
    try:
        state = msgspec.json.decode(run.state.read_bytes(), type=State)
    except (FileNotFoundError, msgspec.DecodeError):
        return RunState("failed", "it never started", alive=False, state=None)
    if state.phase in ENDED:
        return RunState(state.phase, state.message, alive=False, state=state)
    if boot_id() == state.boot_id and is_alive(state.supervisor.pid, state.supervisor.start_time):
        return RunState(state.phase, state.message, alive=True, state=state)
    return RunState("failed", CRASHED, alive=False, state=state)


def read_result(run: RunDir) -> Result | None:
    """result.json of a run, None before a clean end."""
    try:
        return msgspec.json.decode(run.result.read_bytes(), type=Result)
    except FileNotFoundError:
        return None


def read_prepared(run: RunDir) -> Prepared | None:
    """prepared.json of a run, None before its data was tokenised."""
    try:
        return msgspec.json.decode(run.prepared.read_bytes(), type=Prepared)
    except FileNotFoundError:
        return None


def prepared_text(prepared: Prepared) -> str:
    """What became of the rows: `2,996 rows, 2 dropped (empty prompt or response), 14 prompts truncated`."""
    parts = (
        (prepared.dropped, "dropped (empty prompt or response)"),
        (prepared.truncated_sources, "prompts truncated"),
        (prepared.truncated_targets, "responses truncated"),
    )
    return ", ".join((f"{prepared.rows:,} rows", *(f"{count:,} {what}" for count, what in parts if count)))

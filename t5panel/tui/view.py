"""A run as its screen shows it: the snapshot and the end of one log."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from t5panel.contract.layout import RunDir
from t5panel.contract.records import Event, RunInfo
from t5panel.errors import Fault, UsageError
from t5panel.language import tr
from t5panel.monitor.history import History, Snapshot
from t5panel.monitor.runs import user_faults
from t5panel.monitor.tail import last_lines
from t5panel.plan.planning import formula
from t5panel.render.faults import alert_text
from t5panel.render.values import duration, plain_text
from t5panel.tui.faults import REMOVED

LOG_LINES = 60
PATIENCE_SECONDS = 0.5
JOURNAL = "the run"
"""Not a log file: what the supervisor noted of the run."""


@dataclass(frozen=True)
class RunView:
    """Everything the screen of a run shows."""

    snapshot: Snapshot
    formula: str
    """The effective batch."""
    logs: tuple[str, ...]
    log_name: str
    log_lines: tuple[str, ...]
    faults: tuple[Fault, ...]
    """What the preparation found wrong with the user's data or model."""


def log_names(ranks: int) -> tuple[str, ...]:
    """The logs of a run, in the order in which a key walks through them."""
    return (*(f"rank {rank}" for rank in range(ranks)), "launcher", "preparation", "supervisor", JOURNAL)


def look(history: History, log_name: str | None) -> RunView:
    """The run now, or the part of it that is read in a while; without a chosen log the first that says anything.

    Raises: one of UNREADABLE.
    """
    snapshot = history.refresh(patience=PATIENCE_SECONDS)
    if not snapshot.run.path.is_dir():
        raise UsageError.of(snapshot.run.run_id, REMOVED)
    logs = log_names(int(snapshot.info.spec["num_gpus"]))
    names = (*_guilty(snapshot), *logs) if log_name is None else (log_name,)
    ends = ((name, _end_of(snapshot, name)) for name in names)
    name, lines = next((end for end in ends if any(end[1])), (names[0], ()))
    clean = tuple(map(plain_text, lines))
    return RunView(snapshot, formula_of(snapshot.info), logs, name, clean, user_faults(snapshot.run))


def _guilty(snapshot: Snapshot) -> tuple[str, ...]:
    """The log of the rank that failed first."""
    diagnosis = snapshot.diagnosis
    return () if diagnosis is None or diagnosis.rank is None else (f"rank {diagnosis.rank}",)


def formula_of(info: RunInfo) -> str:
    """The effective batch of a run that was started."""
    train = info.spec["train"]
    return formula(
        int(train["per_device_train_batch_size"]),
        int(train["gradient_accumulation_steps"]),
        int(info.spec["num_gpus"]),
    )


def _end_of(snapshot: Snapshot, name: str) -> tuple[str, ...]:
    if name != JOURNAL:
        return last_lines(log_path(snapshot.run, name), LOG_LINES)
    begin, events = snapshot.info.created, snapshot.events[-LOG_LINES:]
    return tuple(journal_line(event, begin) for event in events)


def journal_line(event: Event, begin: float) -> str:
    """When it happened since the run was created, and what."""
    text = f"{event.name}: {tr(event.message)}" if event.severity == "info" else alert_text(event)
    return f"+{duration(max(0.0, event.time - begin))}  {text}"


def log_path(run: RunDir, name: str) -> Path:
    """The file of a log; of the JOURNAL its records."""
    kind, _, number = name.partition(" ")
    match kind:
        case "rank":
            return run.rank_log(int(number))
        case "preparation":
            return run.prepare_log
        case "supervisor":
            return run.supervisor_log
        case "the":
            return run.events
    return run.launcher_log

"""How a run, and each start of its ranks, ended; in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from t5panel.contract.checkpoints import is_whole, newest_checkpoint, step_of
from t5panel.contract.layout import RunDir
from t5panel.contract.records import Diagnosis, Phase, Result

EXIT_STOPPED = 130
EXIT_FAULTS = 4

Ending = Literal["exited", "stopped", "killed", "overdue", "paused", "unbegun"]
"""`unbegun`: asked to stop before the ranks had made a step."""
CUT_SHORT: Mapping[Ending, str] = {
    "unbegun": "stopped before its first step",
    "killed": "killed by the user without a checkpoint",
    "overdue": "did not stop in time and was killed without a checkpoint",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    phase: Phase
    exit_code: int
    message: str
    diagnosis: Diagnosis | None = None


def ended_by_user(message: str) -> Outcome:
    """A run that its user has ended."""
    return Outcome("stopped", EXIT_STOPPED, message)


def stopped_text(run: RunDir, result: Result) -> str:
    """`stopped at step 1,240, checkpoint complete`, which is looked up and not believed."""
    whole = result.checkpoint is not None and is_whole(run.path / result.checkpoint)
    return f"stopped at step {result.step:,}, checkpoint {'complete' if whole else 'missing'}"


def newest_text(run: RunDir) -> str:
    """Which checkpoint a resume would go on from, as the end of a sentence."""
    folder = newest_checkpoint(run)
    return f"; the newest checkpoint is of step {step_of(folder):,}" if folder else "; there is no checkpoint"

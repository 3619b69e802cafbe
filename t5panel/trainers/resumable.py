"""Whether a checkpoint can be resumed with the present settings of a run."""

from __future__ import annotations

from pathlib import Path

from t5panel.contract.layout import RunDir
from t5panel.contract.marker import Identity
from t5panel.contract.resuming import identity_of_spec, reasons_against
from t5panel.contract.spec import RunSpec
from t5panel.trainers.data import Split
from t5panel.trainers.store import prepared_of, store_meta


class ResumeError(RuntimeError):
    """A checkpoint does not belong to this run's settings."""


def identity_of(run: RunDir, spec: RunSpec, split: Split) -> Identity:
    """The present settings of a run; data files may be moved or touched, not changed."""
    return identity_of_spec(spec, data=store_meta(Path(prepared_of(run).train)), held_out=split.held_out)


def check_resumable(saved: Identity, now: Identity, name: str) -> None:
    """Raises: ResumeError with every reason why the rows would be others or the files cannot be loaded."""
    reasons = list(reasons_against(saved, now))
    if reasons:
        raise ResumeError(f"{name} cannot be resumed with these settings: {'; '.join(reasons)}")

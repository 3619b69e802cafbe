"""What went wrong, as faults to show."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from t5panel.contract.layout import RunDir
from t5panel.errors import Fault, T5PanelError
from t5panel.language import later, tr
from t5panel.tui.parts import Part

UNREADABLE = (T5PanelError, OSError, msgspec.DecodeError, KeyError, TypeError, ValueError)
"""What reading a run directory raises when its files are broken, of another version, or gone."""
REMOVED = later("the run directory was removed")


def reading_faults(run: RunDir, error: Exception) -> tuple[Fault, ...]:
    """Why a run cannot be read, from one of UNREADABLE."""
    if not run.path.is_dir():
        return (Fault(run.run_id, REMOVED),)
    if isinstance(error, T5PanelError):
        return error.faults
    return (Fault(run.run_id, f"its files cannot be read: {type(error).__name__}: {error}"),)


def planning_faults(error: T5PanelError | OSError) -> tuple[Fault, ...]:
    """Why nothing could be planned or started."""
    return error.faults if isinstance(error, T5PanelError) else (Fault(later("this machine"), str(error)),)


def is_busy(faults: tuple[Fault, ...]) -> bool:
    """Whether only the cards stand in the way, which others use now."""
    from t5panel.session import can_queue

    return can_queue(fault.where for fault in faults)


def fault_parts(faults: tuple[Fault, ...]) -> Iterator[Part]:
    """Each fault with its place and its hint."""
    for fault in faults:
        yield from (("✗ ", "$error"), (tr(fault.where), "bold"), f"\n  {tr(fault.message)}\n")
        yield (f"  {tr(fault.hint)}\n" if fault.hint else "", "$quiet")

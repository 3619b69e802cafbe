"""Faults, findings and alerts as text, each with its sign and what would help."""

from __future__ import annotations

from collections.abc import Iterator

from t5panel.contract.records import Event
from t5panel.errors import Fault
from t5panel.language import tr

SEVERITY_MARK = {"info": "·", "warning": "!", "error": "✗"}


def fault_lines(faults: tuple[Fault, ...]) -> Iterator[str]:
    """Each fault with where it is and what would help."""
    for fault in faults:
        yield f"{fault.where}: {tr(fault.message)}"
        if fault.hint:
            yield f"    {tr(fault.hint)}"


def fault_json(faults: tuple[Fault, ...]) -> list[dict[str, str]]:
    """Faults as JSON values."""
    return [{"where": fault.where, "message": fault.message, "hint": fault.hint} for fault in faults]


def alert_text(alert: Event) -> str:
    """`✗ stall: no step for 75 s`: sign, name and message on one line."""
    return f"{SEVERITY_MARK[alert.severity]} {alert.name}: {tr(' '.join(alert.message.split()))}"

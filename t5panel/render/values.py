"""Single values as text: bytes, seconds, losses, settings. Prints nothing."""

from __future__ import annotations

import re
from datetime import datetime

from t5panel.language import tr
from t5panel.plan.machine import GIB

_NOT_TEXT = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")
NEARLY_FULL = 0.92
"""Share of a memory from which it is shown in another colour."""


def gib(size: int) -> str:
    """Bytes as `1.23 GiB`."""
    return f"{size / GIB:.2f} GiB"


def mib(size: int) -> str:
    """Bytes as `412 MiB`."""
    return f"{size / 2**20:,.0f} MiB"


def duration(seconds: float) -> str:
    """Seconds as `45 s`, `12 min 30 s`, `3 h 05 min` or `2 d 4 h`."""
    whole = round(seconds)
    if whole < 60:
        return tr("{seconds} s", seconds=whole)
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return tr("{minutes} min {seconds:02d} s", minutes=minutes, seconds=rest)
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return tr("{hours} h {minutes:02d} min", hours=hours, minutes=minutes)
    return tr("{days} d {hours} h", days=hours // 24, hours=hours % 24)


def launch_text(method: str, launcher: str, ranks: int, device: str) -> str:
    """`trainer under torchrun, 3 ranks on cuda`."""
    return tr(
        "{method} under {launcher}, {ranks} ranks on {device}",
        method=method,
        launcher=launcher,
        ranks=ranks,
        device=device,
    )


def value_text(value: object) -> str:
    """A value of a spec as YAML has it; `empty` for none."""
    return tr("empty") if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def moment_text(moment: float) -> str:
    """Unix seconds as `2026-01-31 22:04:09`, by this machine's clock."""
    return datetime.fromtimestamp(moment).strftime("%Y-%m-%d %H:%M:%S")


def plain_text(text: str) -> str:
    """A text from a log without colours and other control characters."""
    return _NOT_TEXT.sub("", text).expandtabs(4)


def loss_text(loss: float | None) -> str:
    """A loss, or that it was not finite."""
    return tr("not finite") if loss is None else f"{loss:.4f}"

"""What a user asks for, before anything is read: the one value that both fronts hand to the session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Wish:
    """What the user asked for: a preset, dotted overrides, where the run shall live, and what to estimate."""

    preset: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    run_dir: Path | None = None
    samples: int | None = None
    """Rows to estimate time and energy for; None: those of the run."""
    price: float | None = None
    """Money per kWh."""

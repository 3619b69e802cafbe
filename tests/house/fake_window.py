"""A fake daily window for a supervisor: open while its file is there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FileWindow:
    """As contract.window.Window, but a file says whether it is open."""

    file: Path

    def is_open(self, _now: float) -> bool:
        """Whether the file is there."""
        return self.file.exists()

    def next_opening(self, now: float) -> float:
        """In an hour."""
        return now + 3600

    def clock(self, _moment: float) -> str:
        """What a clock would show then."""
        return "22:00"

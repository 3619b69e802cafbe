"""One measured value beside its bar."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured value and its bar, in the same unit."""

    what: str
    value: float
    bar: float
    unit: str
    how: str

    @property
    def row(self) -> str:
        """The figure as a line of the table."""
        verdict = "ok" if self.value <= self.bar else "OVER"
        return f"{self.what:24}{self.value:9.2f} ≤ {self.bar:<6g}{self.unit:11}{verdict:6}{self.how}"

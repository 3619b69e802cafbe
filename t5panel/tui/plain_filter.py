"""The last step before the terminal, for terminals that show ASCII only."""

from __future__ import annotations

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from t5panel.plain import plain_cells


class PlainFilter(LineFilter):
    """Turns every cell into ASCII: plots, borders, marks, and whatever a log or a prediction holds."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same segments in ASCII, as wide as before."""
        return [
            segment if segment.text.isascii() else Segment(_as_wide(segment.text), segment.style, segment.control)
            for segment in segments
        ]


def _as_wide(text: str) -> str:
    width = cell_len(text)
    return plain_cells(text)[:width].ljust(width)

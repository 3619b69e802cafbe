"""A chart on the screen: the rows of `chart.draw`, repainting only cells that changed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from t5panel.tui.theme import SERIES
from t5panel.tui.widgets.canvas import Row
from t5panel.tui.widgets.chart import Chart, draw, x_at

NEAR = 8
"""Cells that are cheaper to paint again than to jump over: moving the cursor costs as many bytes."""


class Plot(Widget):
    """Shows `chart`; styles are the component classes `plot--axis`, `plot--faint` and `plot--series-0` to `-6`."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "plot--axis",
        "plot--faint",
        *(f"plot--series-{number}" for number in range(SERIES)),
    }

    # Always: a chart of the same growing arrays equals itself.
    chart: reactive[Chart | None] = reactive(None, always_update=True, repaint=False)

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._rows: tuple[Row, ...] = ()

    def watch_chart(self) -> None:
        """Draw anew, and repaint what is different."""
        before, self._rows = self._rows, self._draw()
        if len(before) != len(self._rows):
            self.refresh()
            return
        changed = [
            Region(begin, y, end - begin, 1)
            for y, (old, new) in enumerate(zip(before, self._rows, strict=True))
            for begin, end in changes(old, new)
        ]
        if changed:
            self.refresh(*changed)

    def on_resize(self) -> None:
        """Fit the new size."""
        self._rows = self._draw()
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One row of the chart."""
        width = self.size.width
        if y >= len(self._rows):
            return Strip.blank(width, self.rich_style)
        segments = [Segment(text, self._style(name)) for text, name in self._rows[y] if text]
        return Strip(segments).adjust_cell_length(width, self.rich_style)

    def x_at(self, cell: int) -> float | None:
        """The x that a cell of the content stands for; None beside the plot."""
        return x_at(self._rows, self.chart, cell) if self.chart else None

    def _draw(self) -> tuple[Row, ...]:
        if self.chart is None or not self.size.area:
            return ()
        return draw(self.chart, self.size.width, self.size.height)

    def _style(self, name: str) -> Style:
        if name in ("axis", "faint"):
            return self.get_component_rich_style(f"plot--{name}")
        if name.isdigit():
            return self.get_component_rich_style(f"plot--series-{int(name) % SERIES}")
        return self.rich_style


def changes(old: Row, new: Row) -> Iterator[tuple[int, int]]:
    """Where two rows of one width differ: first cells and ends; places that are near one another come as one."""
    if old == new:
        return
    before, after = (tuple((cell, name) for text, name in row for cell in text) for row in (old, new))
    begin = end = -NEAR - 1
    for at in (at for at, (one, other) in enumerate(zip_longest(before, after)) if one != other):
        if at - end > NEAR:
            if end > 0:
                yield begin, end
            begin = at
        end = at + 1
    yield begin, end

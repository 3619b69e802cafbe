"""Lines of a log on the screen: folded to its width, words that are searched for marked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, Literal

from rich.cells import cell_len, chop_cells
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from t5panel.monitor.logfile import NO_PART, LogPart
from t5panel.render.values import plain_text

LONGEST_LINE = 20_000
"""Characters of a line that are shown."""
Row = tuple[int, str]
"""Which line of the part it belongs to, and its text."""


class LogView(ScrollView, can_focus=True):
    """Shows `part`; asks for more when the user goes on at its edge."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"log--found", "log--hit"}
    part: reactive[LogPart] = reactive(NO_PART)
    words: reactive[str] = reactive("")
    """What is marked."""
    hit: reactive[int | None] = reactive(None)
    """Where the line begins that a search came to."""

    class Wanted(Message):
        """The user goes on above or below what is here, or to the first or the last line."""

        def __init__(self, where: Literal["above", "below", "first", "last"]) -> None:
            super().__init__()
            self.where = where

    class Left(Message):
        """The user goes up from where the view is."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: tuple[Row, ...] = ()

    def watch_part(self) -> None:
        """Fold the new lines."""
        self._fold()

    def watch_words(self) -> None:
        """Mark them."""
        self.refresh()

    def watch_hit(self) -> None:
        """Mark it."""
        self.refresh()

    def on_resize(self) -> None:
        """Fold to the new width; the line on top stays there."""
        top = self.top
        self._fold()
        if top is not None:
            self.show(top)

    @property
    def top(self) -> int | None:
        """Where the first line that is seen begins; None without lines."""
        at = round(self.scroll_y)
        return self.part.offsets[self._rows[at][0]] if at < len(self._rows) else None

    @property
    def bottom(self) -> int:
        """Just behind the last line that is seen."""
        at = min(len(self._rows), round(self.scroll_y) + self.size.height) - 1
        line = self._rows[at][0] + 1 if self._rows and at >= 0 else 0
        return self.part.offsets[line] if line < len(self.part.offsets) else self.part.end

    @property
    def at_end(self) -> bool:
        """Whether the last line is seen."""
        return self.scroll_y >= self.max_scroll_y

    @property
    def seen(self) -> tuple[str, ...]:
        """The rows on the screen."""
        begin = round(self.scroll_y)
        return tuple(text for _, text in self._rows[begin : begin + self.size.height])

    def show(self, offset: int, *, above: int = 0) -> None:
        """Bring the line of a place to the top, with so many rows above it."""
        row = next((at for at, (line, _) in enumerate(self._rows) if self.part.offsets[line] >= offset), 0)
        self.scroll_to(y=max(0, row - above), animate=False, force=True)

    def action_scroll_up(self) -> None:
        """A row, or what is above."""
        self._go("above", super().action_scroll_up)

    def action_page_up(self) -> None:
        """A page, or what is above."""
        self._go("above", super().action_page_up)

    def action_scroll_down(self) -> None:
        """A row, or what is below."""
        self._go("below", super().action_scroll_down)

    def action_page_down(self) -> None:
        """A page, or what is below."""
        self._go("below", super().action_page_down)

    def action_scroll_home(self) -> None:
        """The first line of the log."""
        self.post_message(self.Wanted("first"))

    def action_scroll_end(self) -> None:
        """The last line of the log."""
        self.post_message(self.Wanted("last"))

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """The wheel."""
        event.stop()
        self.action_scroll_up()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """The wheel."""
        event.stop()
        self.action_scroll_down()

    def _go(self, where: Literal["above", "below"], scroll: Callable[[], None]) -> None:
        if where == "above":
            self.post_message(self.Left())
        if self.at_end if where == "below" else self.scroll_y <= 0:
            self.post_message(self.Wanted(where))
        else:
            scroll()

    def render_line(self, y: int) -> Strip:
        """One row of a line."""
        at, width = round(self.scroll_y) + y, self.size.width
        if at >= len(self._rows):
            return Strip.blank(width, self.rich_style)
        line, text = self._rows[at]
        plain = self.get_component_rich_style("log--hit") if self._is_hit(line) else self.rich_style
        found = plain + self.get_component_rich_style("log--found")
        return Strip(list(_marked(text, self.words, plain, found))).adjust_cell_length(width, plain)

    def _is_hit(self, line: int) -> bool:
        return self.hit is not None and self.part.offsets[line] == self.hit

    def _fold(self) -> None:
        width = self.scrollable_content_region.width or self.size.width
        self._rows = tuple(folded(self.part.lines, max(1, width)))
        self.virtual_size = Size(width, len(self._rows))
        self.refresh()


def folded(lines: Sequence[str], width: int) -> Iterator[Row]:
    """The rows of lines at a width in cells; an empty line has one."""
    for number, line in enumerate(lines):
        text = plain_text(line[:LONGEST_LINE])
        pieces = chop_cells(text, width) if cell_len(text) > width else [text]
        yield from ((number, piece) for piece in pieces)


def _marked(text: str, words: str, plain: Style, found: Style) -> Iterator[Segment]:
    """The text, with the words marked wherever they stand, in any case."""
    at = 0
    for match in re.finditer(re.escape(words), text, re.IGNORECASE) if words else ():
        yield Segment(text[at : match.start()], plain)
        yield Segment(match.group(), found)
        at = match.end()
    yield Segment(text[at:], plain)

"""What is shown every second is painted where it changed, and laid out when it grew: a terminal over SSH is slow."""

from __future__ import annotations

from collections.abc import Iterable

from rich.markup import escape
from textual.content import Content
from textual.geometry import Region
from textual.widget import Widget
from textual.widgets import Static


class SteadyText(Static):
    """A text that is often set to what it says already. Textual itself would lay out and paint all of it each time."""

    _shown = Content()

    def render(self) -> Content:
        """What it says now."""
        return self._shown

    def show(self, content: Content) -> None:
        """Say this from now on."""
        before, size, rules = self._shown, self.size, self.styles.get_rules()
        rows = changed_rows(before, content)
        if rows == []:
            return
        self._shown = content
        # While a layout for what it said before is under way, its size tells nothing.
        if not size.width or {size.height} != {text.get_height(rules, size.width) for text in (before, content)}:
            self.refresh(layout=True)
        elif rows is None or size.height != len(content.split("\n")):
            self.refresh()
        else:
            refresh_rows(self, rows)


def changed_rows(before: Content, now: Content) -> list[int] | None:
    """Which lines of a text differ; None when there are more or fewer than before."""
    old, new = before.split("\n"), now.split("\n")
    if len(old) != len(new):
        return None
    return [row for row, (one, other) in enumerate(zip(old, new, strict=True)) if not one.is_same(other)]


def refresh_rows(widget: Widget, rows: Iterable[int]) -> None:
    """Paint these rows of a widget's content again."""
    widget.refresh(*(Region(0, row, widget.size.width, 1) for row in rows))


def entitle(widget: Widget, title: str) -> None:
    """Name a widget on its border, as plain text."""
    markup = escape(title)
    if widget.border_title != markup:
        widget.border_title = markup

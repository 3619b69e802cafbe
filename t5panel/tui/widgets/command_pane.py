"""The exact command, as it will run."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.reactive import reactive
from textual.widgets import Static

from t5panel.language import tr
from t5panel.launch.commands import Command


class CommandPane(VerticalScroll, can_focus=False):
    """Shows the launch line; what is copied is the t5panel line that leads to it."""

    command: reactive[Command | None] = reactive(None)

    def __init__(self) -> None:
        super().__init__(classes="section")
        self.border_title = tr("Command")
        self._text = Static()

    def compose(self) -> ComposeResult:
        """One text."""
        yield self._text

    def watch_command(self, command: Command | None) -> None:
        """Show it."""
        self._text.update(Content(command.short if command else ""))
        self.border_title = tr("Command · y copies the t5panel line, Y this one") if command else tr("Command")

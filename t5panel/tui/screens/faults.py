"""Why something did not happen: every reason, with what would help."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from t5panel.errors import Fault
from t5panel.tui.faults import fault_parts


class FaultsDialog(ModalScreen[None]):
    """Lists faults until it is closed."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,q", "close", "close")]

    def __init__(self, title: str, faults: tuple[Fault, ...]) -> None:
        super().__init__()
        self._title, self._faults = title, faults

    def compose(self) -> ComposeResult:
        """Title, faults, key."""
        with Vertical(classes="dialog -danger"):
            yield Static(self._title, classes="title")
            with VerticalScroll(classes="body"):
                yield Static(Content.assemble(*fault_parts(self._faults)).rstrip())
            yield Static(Content.assemble((" esc ", "reverse"), " close"))

    def action_close(self) -> None:
        """Close it."""
        self.dismiss(None)

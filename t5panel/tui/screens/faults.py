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
from t5panel.language import tr
from t5panel.tui.faults import fault_parts
from t5panel.tui.parts import Part


class FaultsDialog(ModalScreen[bool]):
    """Lists faults until it is closed; True when the user will wait for the cards, where that helps."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q", "close", "close"),
        Binding("w", "wait", "queue"),
    ]

    def __init__(self, title: str, faults: tuple[Fault, ...], *, can_queue: bool = False) -> None:
        super().__init__()
        self._title, self._faults, self._can_queue = title, faults, can_queue

    def compose(self) -> ComposeResult:
        """Title, faults, key."""
        with Vertical(classes="dialog -danger"):
            yield Static(self._title, classes="title")
            with VerticalScroll(classes="body"):
                yield Static(Content.assemble(*fault_parts(self._faults)).rstrip())
            wait: tuple[Part, ...] = ((" w ", "reverse $accent"), f" {tr('queue it until they are free')}   ")
            yield Static(Content.assemble(*(wait if self._can_queue else ()), (" esc ", "reverse"), f" {tr('close')}"))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Waiting only where it helps."""
        return action != "wait" or self._can_queue

    def action_close(self) -> None:
        """Close it."""
        self.dismiss(False)

    def action_wait(self) -> None:
        """Queue it."""
        self.dismiss(True)

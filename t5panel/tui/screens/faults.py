"""Why something did not happen: every reason, with what would help."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from t5panel.errors import Fault

Part = str | tuple[str, str]


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


def fault_parts(faults: tuple[Fault, ...]) -> Iterator[Part]:
    """Each fault with its place and its hint."""
    for fault in faults:
        yield from (("✗ ", "$error"), (fault.where, "bold"), f"\n  {fault.message}\n")
        yield (f"  {fault.hint}\n" if fault.hint else "", "$quiet")

"""The keys that work here, from the bindings themselves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from t5panel.language import tr

Key = tuple[str, str]


class HelpDialog(ModalScreen[None]):
    """Lists keys and what they do."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,q,question_mark", "close", "close")]

    def __init__(self, keys: Iterable[Key]) -> None:
        super().__init__()
        self._keys = tuple(keys)

    def compose(self) -> ComposeResult:
        """Title, keys, and that they are also in the palette."""
        with Vertical(classes="dialog"):
            yield Static(tr("Keys"), classes="title")
            with VerticalScroll(classes="body"):
                lines = (part for key, text in self._keys for part in ((f"{key:>8}", "$accent"), f"  {text}\n"))
                yield Static(Content.assemble(*lines).rstrip())
            yield Static(Content.assemble((" esc ", "reverse"), f" {tr('close')}"))

    def action_close(self) -> None:
        """Close it."""
        self.dismiss(None)

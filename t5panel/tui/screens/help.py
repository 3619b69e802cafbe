"""The keys that work here, from the bindings themselves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from t5panel.language import tr

Key = tuple[str, str]
KEY_CELLS = 5


def key_table(keys: Iterable[Key]) -> Table:
    """Two columns, so that a long text goes on below its own beginning."""
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", no_wrap=True, style="bold", min_width=KEY_CELLS)
    table.add_column()
    for key, text in keys:
        table.add_row(key, Text(text))
    return table


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
                yield Static(key_table(self._keys))
            yield Static(Content.assemble((" esc ", "reverse"), f" {tr('close')}"))

    def action_close(self) -> None:
        """Close it."""
        self.dismiss(None)

"""What a kilowatt-hour costs."""

from __future__ import annotations

import math
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from t5panel.language import tr


class PriceDialog(ModalScreen[float | None]):
    """Asks for it; gives it once it is a number, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "leave")]

    def compose(self) -> ComposeResult:
        """Title, the price, what it is for, keys."""
        with Vertical(classes="dialog"):
            yield Static(tr("What does a kWh cost?"), classes="title")
            yield Input(placeholder=tr("a number, in your money"), compact=True)
            yield Static(tr("The table then tells what the energy of the samples costs."), classes="body quiet")
            keys = ((" enter ", "reverse $accent"), f" {tr('take it')}   ", (" esc ", "reverse"), f" {tr('leave')}")
            yield Static(Content.assemble(*keys))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take it, unless it is no price."""
        event.stop()
        price = price_of(event.value)
        if price is not None:
            self.dismiss(price)

    def action_leave(self) -> None:
        """Change nothing."""
        self.dismiss(None)


def price_of(text: str) -> float | None:
    """A price that was typed, with a point or a comma; None when it is none."""
    try:
        price = float(text.strip().replace(",", "."))
    except ValueError:
        return None
    return price if math.isfinite(price) and price >= 0 else None

"""The first line of every screen: the three screens, and the machine."""

from __future__ import annotations

from typing import Literal

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Static

from t5panel.language import later, tr

Place = Literal["setup", "run", "runs"]
PLACES: tuple[tuple[Place, str], ...] = (("setup", later("Setup")), ("run", later("Run")), ("runs", later("Runs")))


class HeaderBar(Horizontal):
    """Names the present screen and how to reach the others."""

    def __init__(self, active: Place | None, machine: str) -> None:
        super().__init__()
        self._active, self._machine = active, machine

    def compose(self) -> ComposeResult:
        """Places on the left, the machine on the right."""
        yield Static("t5panel", id="name")
        for number, (place, title) in enumerate(PLACES, 1):
            label = Content.from_markup(
                f"[@click=app.go('{place}')]$number $title[/]", number=str(number), title=tr(title)
            )
            yield Static(label, classes="place -active" if place == self._active else "place")
        yield Static(tr(self._machine), id="machine")

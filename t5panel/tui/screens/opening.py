"""The first frame: painted before anything heavy is loaded."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.screen import Screen
from textual.widgets import Static

from t5panel.language import tr
from t5panel.tui.widgets.header import HeaderBar


class OpeningScreen(Screen[None]):
    """Says what is coming."""

    def compose(self) -> ComposeResult:
        """Header and one line."""
        yield HeaderBar(None, "")
        yield Static(tr("reading the machine, the presets and the runs…"), id="opening")

"""The last line of every screen: the keys that work, in the user's language."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.events import Resize
from textual.widgets import Footer
from textual.widgets._footer import FooterKey

from t5panel.language import tr

ROOMY = 72
"""Columns from which keys have spaces around them, and the palette its place."""


class KeyBar(Footer):
    """Textual's footer, translated; closer together where there is little room."""

    def on_resize(self, event: Resize) -> None:
        """Leave out spaces before keys."""
        self.compact = event.size.width < ROOMY

    def compose(self) -> ComposeResult:
        """Each key with what it does."""
        for key in super().compose():
            if isinstance(key, FooterKey):
                key.description = tr(key.description)
            yield key

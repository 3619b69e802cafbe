"""The last line of every screen: the keys that work, in the user's language."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.widgets import Footer
from textual.widgets._footer import FooterKey

from t5panel.language import tr


class KeyBar(Footer):
    """Textual's footer, translated."""

    def compose(self) -> ComposeResult:
        """Each key with what it does."""
        for key in super().compose():
            if isinstance(key, FooterKey):
                key.description = tr(key.description)
            yield key

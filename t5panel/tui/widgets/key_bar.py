"""The last line of every screen: the keys that work, in the user's language."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.events import Resize
from textual.widgets import Footer
from textual.widgets._footer import FooterKey

from t5panel.cells import width_of
from t5panel.language import tr

CLOSE, PADDING = 2, 3
"""Cells around a key and what it does: at least, and beside the palette's."""


class KeyBar(Footer):
    """Textual's footer, translated; closer together where there is little room, and then without the palette."""

    def compose(self) -> ComposeResult:
        """Each key with what it does."""
        keys = list(super().compose())
        for key in keys:
            if isinstance(key, FooterKey):
                key.description = tr(key.description)
        self._fit([key for key in keys if isinstance(key, FooterKey)])
        yield from keys

    def on_resize(self, event: Resize) -> None:
        """Leave out spaces between keys."""
        self._fit(list(self.query(FooterKey)))

    def _fit(self, keys: list[FooterKey]) -> None:
        cells = {key: width_of(key.key_display) + width_of(key.description) for key in keys}
        close = sum(size + CLOSE for size in cells.values())
        palette = sum(size for key, size in cells.items() if key.has_class("-command-palette"))
        self.compact = close + len(keys) > self.app.size.width
        self.set_class(self.compact and close + PADDING > self.app.size.width and palette > 0, "-crowded")

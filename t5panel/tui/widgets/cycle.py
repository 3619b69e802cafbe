"""A setting with a few values, walked through with the arrow keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Click
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget


class Cycle(Widget, can_focus=True):
    """Shows one of its choices; left, right and space change it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,space", "turn(1)", "change", key_display="←→", tooltip="The next value; ← is the one before"),
        Binding("left", "turn(-1)", "change back", show=False),
    ]

    value: reactive[str] = reactive("")

    class Changed(Message):
        """The user chose another value."""

        def __init__(self, cycle: Cycle, value: str) -> None:
            super().__init__()
            self.cycle, self.value = cycle, value

        @property
        def control(self) -> Cycle:
            """The sender."""
            return self.cycle

    def __init__(self, choices: Sequence[str]) -> None:
        super().__init__()
        self._choices = tuple(choices)

    def render(self) -> Content:
        """The value; with arrows when the keys go here."""
        return (
            Content.assemble(("‹ ", "$accent"), self.value, (" ›", "$accent"))
            if self.has_focus
            else Content(self.value)
        )

    def action_turn(self, by: int) -> None:
        """Take the choice `by` places on."""
        at = self._choices.index(self.value) if self.value in self._choices else -by
        self.value = self._choices[(at + by) % len(self._choices)]
        self.post_message(self.Changed(self, self.value))

    def on_click(self, event: Click) -> None:
        """A click is the next value."""
        event.stop()
        self.action_turn(1)

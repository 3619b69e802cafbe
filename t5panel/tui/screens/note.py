"""The user's note on a run."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from t5panel.contract.layout import RunDir
from t5panel.language import tr


class NoteDialog(ModalScreen[str | None]):
    """Asks for it; gives it, empty to take it away, or None to leave it as it is."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "leave")]

    def __init__(self, run: RunDir, note: str) -> None:
        super().__init__()
        self._run, self._note = run, note

    def compose(self) -> ComposeResult:
        """Title, the note, where it stands, keys."""
        with Vertical(classes="dialog"):
            yield Static(tr("A note on this run"), classes="title")
            yield Static(self._run.run_id, classes="quiet")
            yield Input(
                self._note, placeholder=tr("what you try, or what you saw"), compact=True, select_on_focus=False
            )
            yield Static(tr("It stands in the list of runs, in a comparison and in an export."), classes="body quiet")
            keys = Content.assemble(
                (" enter ", "reverse $accent"), f" {tr('keep it')}   ", (" esc ", "reverse"), f" {tr('leave')}"
            )
            yield Static(keys)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take it."""
        event.stop()
        self.dismiss(event.value)

    def action_leave(self) -> None:
        """Change nothing."""
        self.dismiss(None)

"""The name under which the settings on the screen become a preset of the user's own."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from t5panel.language import tr
from t5panel.presets import name_fault, own_preset_path


class SaveDialog(ModalScreen[str | None]):
    """Asks for a name; gives it once it can be one."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "leave")]

    def compose(self) -> ComposeResult:
        """Title, name, what that means, keys."""
        with Vertical(classes="dialog"):
            yield Static(tr("Save these settings as a preset"), classes="title")
            yield Input(placeholder=tr("a name, for example news-summaries"), compact=True, classes="name")
            yield Static(id="consequence", classes="body")
            save, leave = f" {tr('save')}   ", f" {tr('leave')}"
            yield Static(Content.assemble((" enter ", "reverse $accent"), save, (" esc ", "reverse"), leave))

    def on_mount(self) -> None:
        """Say where it goes."""
        self._say("")

    def on_input_changed(self, event: Input.Changed) -> None:
        """Say what the name means."""
        event.stop()
        self._say(event.value.strip())

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take the name, unless it cannot be one."""
        event.stop()
        name = event.value.strip()
        if name and not name_fault(name):
            self.dismiss(name)

    def action_leave(self) -> None:
        """Save nothing."""
        self.dismiss(None)

    def _say(self, name: str) -> None:
        text = self.query_one("#consequence", Static)
        fault = name_fault(name) if name else ""
        path = own_preset_path(name or "NAME")
        if fault:
            text.update(Content.assemble(("✗ ", "$error"), tr(fault)))
        else:
            says = tr("Replaces {path}", path=path) if path.exists() else tr("Writes {path}", path=path)
            text.update(Content.assemble((says, "$quiet")))

"""The question before a run is taken from the disk."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from t5panel.contract.layout import RunDir
from t5panel.language import tr


class RemovalDialog(ModalScreen[bool]):
    """Says what will be gone; True when the user wants it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "remove", "delete"),
        Binding("escape,enter,n,q", "keep", "keep"),
    ]

    def __init__(self, run: RunDir, *, elsewhere: bool) -> None:
        super().__init__()
        self._run, self._elsewhere = run, elsewhere

    def compose(self) -> ComposeResult:
        """Title, consequence, keys. Enter keeps the run: what is gone stays gone."""
        verb = tr("take it off the list") if self._elsewhere else tr("delete it")
        title = tr("Take this run off the list?") if self._elsewhere else tr("Delete this run?")
        with Vertical(classes="dialog" if self._elsewhere else "dialog -danger"):
            yield Static(title, classes="title")
            yield Static(str(self._run.path), classes="quiet")
            yield Static(removal_text(elsewhere=self._elsewhere), classes="body")
            yield Static(
                Content.assemble((" y ", "reverse $error"), f" {verb}   ", (" esc ", "reverse"), f" {tr('keep it')}")
            )

    def action_remove(self) -> None:
        """Do it."""
        self.dismiss(True)

    def action_keep(self) -> None:
        """Leave the run alone."""
        self.dismiss(False)


def removal_text(*, elsewhere: bool) -> str:
    """What a removal takes away."""
    if elsewhere:
        return tr("Its directory was named with --run-dir and stays where it is, with all its checkpoints.")
    return tr("Its checkpoints, metrics and logs are removed from the disk. Nothing brings them back.")

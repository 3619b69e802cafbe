"""The question before a run is ended."""

from __future__ import annotations

from typing import ClassVar, Literal

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from t5panel.tui.parts import Part

StopWish = Literal["stop", "kill"]


class StopDialog(ModalScreen[StopWish | None]):
    """Says what will happen; gives what the user wants, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,y", "choose", "yes"),
        Binding("K", "kill", "kill now"),
        Binding("escape,n,q", "keep", "keep running"),
    ]

    def __init__(self, run_id: str, *, saved_step: int | None, kill: bool, stopping: bool) -> None:
        super().__init__()
        self._run_id, self._saved, self._kill, self._stopping = run_id, saved_step, kill, stopping

    def compose(self) -> ComposeResult:
        """Title, consequence, keys."""
        with Vertical(classes="dialog -danger" if self._kill else "dialog"):
            yield Static("Kill this run now?" if self._kill else "Stop this run?", classes="title")
            yield Static(self._run_id, classes="quiet")
            yield Static(kill_text(self._saved, stopping=self._stopping) if self._kill else STOP_TEXT, classes="body")
            yield Static(Content.assemble(*self._keys()))

    def action_choose(self) -> None:
        """Do it."""
        self.dismiss("kill" if self._kill else "stop")

    def action_kill(self) -> None:
        """Do it at once."""
        self.dismiss("kill")

    def action_keep(self) -> None:
        """Leave the run alone."""
        self.dismiss(None)

    def _keys(self) -> tuple[Part, ...]:
        if self._kill:
            return ((" enter ", "reverse $error"), " kill now   ", (" esc ", "reverse"), " keep it running")
        stop = ((" enter ", "reverse $accent"), " stop and save   ", (" K ", "reverse $error"), " kill now   ")
        return (*stop, (" esc ", "reverse"), " keep it running")


STOP_TEXT = (
    "The ranks finish the present optimizer step, save a checkpoint and exit. Press r later to go on from there."
)


def kill_text(saved_step: int | None, *, stopping: bool) -> str:
    """What a kill costs."""
    already = "It is already stopping and saving. " if stopping else ""
    lost = f"everything after step {saved_step:,} is lost" if saved_step is not None else "all its work is lost"
    return f"{already}All its processes end at once, without a checkpoint: {lost}."

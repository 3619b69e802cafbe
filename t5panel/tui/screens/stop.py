"""The question before a run is ended."""

from __future__ import annotations

from typing import ClassVar, Literal

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from t5panel.contract.records import Phase
from t5panel.language import tr
from t5panel.monitor.history import Snapshot
from t5panel.render.state import phase_word
from t5panel.tui.parts import Part

StopWish = Literal["stop", "kill"]
IDLE: frozenset[Phase] = frozenset({"starting", "paused"})
"""Phases without anything to save."""


class StopDialog(ModalScreen[StopWish | None]):
    """Says what will happen; gives what the user wants, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,y", "choose", "yes"),
        Binding("K", "kill", "kill now"),
        Binding("escape,n,q", "keep", "keep running"),
    ]

    def __init__(self, snapshot: Snapshot, *, kill: bool) -> None:
        super().__init__()
        self._snapshot, self._kill = snapshot, kill

    def compose(self) -> ComposeResult:
        """Title, consequence, keys."""
        with Vertical(classes="dialog -danger" if self._kill else "dialog"):
            yield Static(tr("Kill this run now?") if self._kill else tr("Stop this run?"), classes="title")
            yield Static(self._snapshot.run.run_id, classes="quiet")
            yield Static((kill_text if self._kill else stop_text)(self._snapshot), classes="body")
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
        phase, word = self._snapshot.state.phase, phase_word(self._snapshot.state)
        saves = tr("stop") if phase in IDLE else tr("stop and save")
        keep = tr("leave it {state}", state=tr(word)) if phase == "paused" else tr("keep it running")
        now = f" {tr('kill now')}   "
        stop = ((" enter ", "reverse $accent"), f" {saves}   ", (" K ", "reverse $error"), now)
        kill = ((" enter ", "reverse $error"), now)
        return (*(kill if self._kill else stop), (" esc ", "reverse"), f" {keep}")


def stop_text(snapshot: Snapshot) -> str:
    """What a stop does now."""
    state, saved = snapshot.state, snapshot.checkpoint
    after = tr("Press r later to start it again.")
    if saved is not None:
        after = tr("The checkpoint of step {step:,} stays: press r later to go on from there.", step=saved.step)
    match state.phase:
        case "paused" if phase_word(state) == "queued":
            return f"{tr('It leaves the queue; nothing of it runs yet.')} {after}"
        case "paused":
            return f"{tr('Nothing of it runs now, and it will not go on by itself any more.')} {after}"
        case "starting":
            return f"{tr('It has made no step since its start, so there is nothing to save.')} {after}"
    return tr(
        "The ranks finish the present optimizer step, save a checkpoint and exit. Press r later to go on from there."
    )


def kill_text(snapshot: Snapshot) -> str:
    """What a kill costs."""
    already = tr("It is already stopping and saving.") + " " if snapshot.state.phase == "stopping" else ""
    saved = snapshot.checkpoint
    if snapshot.state.phase == "paused" and (saved is not None or snapshot.last is None):
        return tr("Nothing of it runs now, so nothing is lost; it will not go on by itself.")
    if saved is None:
        return already + tr("All its processes end at once, without a checkpoint: all its work is lost.")
    lost = tr(
        "All its processes end at once, without a checkpoint: everything after step {step:,} is lost.", step=saved.step
    )
    return already + lost

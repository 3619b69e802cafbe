"""Run: one run from its directory, live or ended."""

from __future__ import annotations

from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.reactive import reactive
from textual.screen import Screen

from t5panel.contract.layout import RunDir
from t5panel.errors import Fault
from t5panel.language import tr
from t5panel.launch.notes import write_note
from t5panel.monitor.history import History
from t5panel.session import request_stop
from t5panel.tui.faults import UNREADABLE, reading_faults
from t5panel.tui.messages import Refused, ResumeRequested, StopAsked, Watched
from t5panel.tui.screens.answers import AnswersDialog
from t5panel.tui.screens.details import DetailsDialog, has_details
from t5panel.tui.screens.figures import FiguresDialog
from t5panel.tui.screens.log import LogScreen
from t5panel.tui.screens.note import NoteDialog
from t5panel.tui.screens.stop import StopDialog, StopWish
from t5panel.tui.view import RunView, look
from t5panel.tui.widgets.banner import AlertBanner
from t5panel.tui.widgets.curves import RamPlot, VramPlot
from t5panel.tui.widgets.header import HeaderBar
from t5panel.tui.widgets.key_bar import KeyBar
from t5panel.tui.widgets.memory import MemoryPane
from t5panel.tui.widgets.status import StatusPane
from t5panel.tui.widgets.step_plot import ZOOM_FACTOR, StepPlot
from t5panel.tui.widgets.texts import EndingPane, LogPane, PredictionPane

PERIOD_SECONDS = 1.0


class RunScreen(Screen[None]):
    """Shows a run; everything but stopping and resuming only looks."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "stop", "stop", tooltip="Stop with a checkpoint; asks first"),
        Binding("K", "kill", "kill", show=False, tooltip="End all processes at once, without a checkpoint; asks first"),
        Binding("r", "resume", "resume", tooltip="Go on from the newest complete checkpoint"),
        Binding("d", "details", "details", show=False, tooltip="Alerts, recoveries, a failed run's traceback and log"),
        Binding("i", "figures", "figures", show=False, tooltip="Speed, MFU, energy, where the time goes; their basis"),
        Binding("p", "answers", "answers", show=False, tooltip="Predictions of each evaluation, whole"),
        Binding("l", "scale", "scale", tooltip="Logarithmic or linear axis of the plot"),
        Binding("m", "quantity", "plot", tooltip="Plot loss, learning rate, gradient norm, samples/s"),
        Binding(
            "plus,equals_sign",
            "zoom_in",
            "zoom in",
            show=False,
            key_display="+",
            tooltip="Zoom in",
        ),
        Binding("minus", "zoom_out", "zoom out", show=False, key_display="-", tooltip="Zoom out, as the wheel does"),
        Binding("left", "move(-1)", "earlier", show=False, key_display="←", tooltip="Cursor or zoomed plot: left"),
        Binding("right", "move(1)", "later", show=False, key_display="→", tooltip="Cursor or zoomed plot: right"),
        Binding("0,home", "show_all", "whole run", show=False, key_display="0", tooltip="Plot the whole run"),
        Binding("x", "cursor", "cursor", show=False, tooltip="Cursor with the values of a step, as a click"),
        Binding("escape", "leave_plot", "back", show=False, tooltip="Leave the cursor, then the zoom"),
        Binding("v", "log", "log", tooltip="The log on the whole screen: follow, pause, search"),
        Binding("o", "other_log", "other log", show=False, tooltip="Walk through the logs of ranks and launcher"),
        Binding("t", "note", "note", show=False, tooltip="Write a note on this run"),
        Binding("n", "app.go('setup')", "new", tooltip="Set up another run; this one is left alone"),
    ]

    view: reactive[RunView | None] = reactive(None, repaint=False)
    faults: reactive[tuple[Fault, ...]] = reactive((), bindings=True, repaint=False)
    log_scale: reactive[bool] = reactive(default=False, repaint=False)

    def __init__(self, run: RunDir, history: History, machine: str) -> None:
        super().__init__()
        self.run = run
        self._machine = machine
        self._history = history
        self._log_name: str | None = None
        self._looking = False

    def compose(self) -> ComposeResult:
        """Plots and log on the left, memory and texts on the right; below one another when narrow."""
        yield HeaderBar("run", self._machine)
        yield AlertBanner().data_bind(RunScreen.view)
        yield StatusPane().data_bind(RunScreen.view, RunScreen.faults)
        with Container(id="run"):
            with Vertical(id="main"):
                yield StepPlot(id="loss").data_bind(RunScreen.view, RunScreen.log_scale)
                yield LogPane(id="log").data_bind(RunScreen.view)
            with Vertical(id="side"):
                yield EndingPane(id="ending").data_bind(RunScreen.view)
                yield MemoryPane(id="memory").data_bind(RunScreen.view)
                yield VramPlot(id="vram").data_bind(RunScreen.view)
                yield RamPlot(id="ram").data_bind(RunScreen.view)
                yield PredictionPane(id="predictions").data_bind(RunScreen.view)
        yield KeyBar()

    def on_mount(self) -> None:
        """Look now and every second."""
        self.refresh_view()
        self.set_interval(PERIOD_SECONDS, self.refresh_view)

    def refresh_view(self) -> None:
        """Read what is new, unless the last reading still goes on."""
        if not self._looking:
            self._looking = True
            self._look()

    @work(thread=True, group="watch")
    def _look(self) -> None:
        try:
            self.post_message(Watched(look(self._history, self._log_name)))
        except UNREADABLE as error:
            self.post_message(Watched(None, reading_faults(self.run, error)))

    def on_watched(self, event: Watched) -> None:
        """Hand the newest view down; what was seen last stays while the run cannot be read."""
        self._looking = False
        self.faults = event.faults
        if event.view is None:
            return
        before, now = self.view, event.view
        if now.snapshot.unread:
            self.refresh_view()
        self.set_class(not now.snapshot.state.alive, "-ended")
        self.view = now
        if before is None or _offers(before) != _offers(now):
            self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what makes sense now: a living run can be stopped, an ended one resumed."""
        state = self.view.snapshot.state if self.view and not self.faults else None
        if action in ("stop", "kill"):
            return state is not None and state.alive
        if action == "resume":
            return state is not None and not state.alive and state.phase != "finished"
        if action == "details":
            return self.view is not None and has_details(self.view.snapshot)
        return True

    def action_stop(self) -> None:
        """Ask, then stop with a checkpoint."""
        self._ask(kill=False)

    def action_kill(self) -> None:
        """Ask, then kill."""
        self._ask(kill=True)

    def action_resume(self) -> None:
        """Ask the app for it."""
        self.post_message(ResumeRequested(self.run))

    def action_details(self) -> None:
        """All that is known of what went wrong."""
        if self.view is not None:
            self.app.push_screen(DetailsDialog(self.view.snapshot))

    def action_figures(self) -> None:
        """What was measured, and on what it rests."""
        if self.view is not None:
            self.app.push_screen(FiguresDialog(self.view.snapshot))

    def action_answers(self) -> None:
        """What the model answers."""
        if self.view is not None:
            self.app.push_screen(AnswersDialog(self.view.snapshot))

    def action_note(self) -> None:
        """Ask for the user's own words."""
        if self.view is not None:
            self.app.push_screen(NoteDialog(self.run, self.view.snapshot.note), self._keep_note)

    def _keep_note(self, text: str | None) -> None:
        if text is not None:
            self._write_note(text)

    @work(thread=True, group="note")
    def _write_note(self, text: str) -> None:
        """It waits for the disk."""
        try:
            write_note(self.run, text)
        except UNREADABLE as error:
            self.post_message(Refused("This note cannot be kept", reading_faults(self.run, error)))

    def action_scale(self) -> None:
        """The other scale."""
        self.log_scale = not self.log_scale

    def action_quantity(self) -> None:
        """Plot something else."""
        self._plot.next_quantity()

    def action_zoom_in(self) -> None:
        """Fewer steps."""
        self._plot.zoom_by(ZOOM_FACTOR)

    def action_zoom_out(self) -> None:
        """More steps."""
        self._plot.zoom_by(1 / ZOOM_FACTOR)

    def action_move(self, direction: int) -> None:
        """Cursor or view to the side."""
        self._plot.move(direction)

    def action_show_all(self) -> None:
        """The whole run."""
        self._plot.show_all()

    def action_cursor(self) -> None:
        """Cursor or none."""
        self._plot.toggle_cursor()

    def action_leave_plot(self) -> None:
        """Back to the plot as it was."""
        self._plot.leave()

    @property
    def _plot(self) -> StepPlot:
        return self.query_one(StepPlot)

    def action_log(self) -> None:
        """Read it in peace; the log that was read last stays on this screen."""
        if self.view is not None:
            created = self.view.snapshot.info.created
            self.app.push_screen(LogScreen(self.run, self.view.logs, self.view.log_name, created), self._take_log)

    def _take_log(self, name: str | None) -> None:
        self._log_name = name
        self.refresh_view()

    def action_other_log(self) -> None:
        """The next log."""
        if self.view is None:
            return
        names = self.view.logs
        self._log_name = names[(names.index(self.view.log_name) + 1) % len(names)]
        self.refresh_view()

    def _ask(self, *, kill: bool) -> None:
        if self.view is None:
            return
        snapshot = self.view.snapshot
        self.app.push_screen(StopDialog(snapshot, kill=kill or snapshot.state.phase == "stopping"), self._end)

    def _end(self, wish: StopWish | None) -> None:
        if wish is not None:
            self._request(wish)

    @work(thread=True, group="stop")
    def _request(self, wish: StopWish) -> None:
        """It waits for the disk."""
        try:
            self.post_message(StopAsked(heard=request_stop(self.run, now=wish == "kill")))
        except UNREADABLE as error:
            self.post_message(Refused(tr("This run cannot be stopped"), reading_faults(self.run, error)))

    def on_stop_asked(self, event: StopAsked) -> None:
        """Look what became of it."""
        if not event.heard:
            self.notify(tr("the run has ended already"), severity="warning")
        self.refresh_view()


def _offers(view: RunView) -> tuple[bool, bool]:
    """What decides which keys the footer shows."""
    return view.snapshot.state.alive, has_details(view.snapshot)

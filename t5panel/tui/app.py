"""The panel: picks screens, starts and resumes runs, tells what went wrong."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from rich.console import Console
from textual import work
from textual.app import App, SystemCommand
from textual.binding import ActiveBinding, Binding, BindingType
from textual.command import CommandPalette
from textual.events import Event, Key, Paste
from textual.filter import LineFilter
from textual.screen import Screen
from textual.theme import ThemeProvider
from textual.worker import get_current_worker

from t5panel.language import tr
from t5panel.tui.messages import Doubted, Opened, Refused, ResumeRequested, RunChosen, RunRead, StartRequested, Told
from t5panel.tui.plain_filter import PlainFilter
from t5panel.tui.screens.opening import OpeningScreen
from t5panel.tui.services import Services
from t5panel.tui.taste import remember_theme, remembered_theme
from t5panel.tui.terminal import POLL_SECONDS, end_on_signals, leave_if_dead
from t5panel.tui.theme import ANSI, DARK, THEMES, own_variables
from t5panel.tui.typed_ahead import TypedAhead
from t5panel.wish import Wish

if TYPE_CHECKING:
    from t5panel.contract.layout import RunDir
    from t5panel.errors import Fault
    from t5panel.plan.machine import Machine

ENTER = "⏎"
OURS = ("Keys", "Quit")
"""Commands of Textual for which the panel has better ones: help, and leave."""
PATIENCE_SECONDS = 90.0
"""A word on what takes long stays until that is over, at most so long."""


class PanelApp(App[None]):
    """Opens on the newest living run, else on the setup."""

    TITLE = "t5panel"
    CSS_PATH = "panel.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-slim"), (72, "-narrow"), (100, "-wide")]  # noqa: RUF012 - as Textual declares it
    VERTICAL_BREAKPOINTS = [(0, "-short"), (20, "-medium"), (45, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "go('setup')", "setup", show=False, tooltip="The setup of a new run"),
        Binding("2", "go('run')", "Run", show=False, tooltip="The run watched last, or the newest"),
        Binding("3", "go('runs')", "runs", key_display="3", tooltip="All runs"),
        Binding("question_mark", "keys", "help", key_display="?", tooltip="These keys"),
        Binding(
            "ctrl+z", "suspend_process", "suspend", show=False, tooltip="Back to the shell; fg shows the panel again"
        ),
        Binding("T", "theme", "theme", show=False, tooltip="Dark, light or the terminal's own colours; remembered"),
        Binding("q", "leave", "leave", tooltip="Leave the panel; runs go on"),
    ]

    def __init__(
        self,
        wish: Wish,
        services: Services = Services(),  # noqa: B008 - a frozen value
        *,
        plain: bool = False,
        theme: str | None = None,
    ) -> None:
        super().__init__()
        self._plain = PlainFilter(enabled=plain)
        self._wish, self._services = wish, services
        self._machine: Machine | None = None
        self._watched: RunDir | None = None
        self._busy = False
        self._typed = TypedAhead(self, super().on_event)
        for each in THEMES:
            self.register_theme(each)
        self.theme = theme if theme in self.available_themes else DARK.name

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Our own colours under any theme."""
        return own_variables(self.current_theme)

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Textual's, and ASCII where the terminal has nothing else."""
        return [*super().get_line_filters(), *([self._plain] if self._plain.enabled else [])]

    def get_key_display(self, binding: Binding) -> str:
        """Textual's, without the sign of the enter key where it cannot be drawn."""
        shown = super().get_key_display(binding)
        return "enter" if self._plain.enabled and shown == ENTER else shown

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """Every key that works on the screen is in the palette too, before what Textual puts there."""
        others = [command for command in super().get_system_commands(screen) if command.title not in OURS]
        for active in told_once(screen.active_bindings.values()):
            binding, act = active.binding, partial(self.run_action, active.binding.action, active.node)
            name = tr(binding.description)
            title = f"{name[:1].upper()}{name[1:]}"
            yield SystemCommand(title, f"{tr(active.tooltip)} · {self.get_key_display(binding)}", act)
        for command in others:
            yield SystemCommand(tr(command.title), tr(command.help), command.callback, command.discover)

    async def on_event(self, event: Event) -> None:
        """A key waits for what the one before it did: that may have moved the focus."""
        if isinstance(event, (Key, Paste)) and not event.is_forwarded:
            await self._typed.take(event)
        else:
            await super().on_event(event)

    def get_default_screen(self) -> Screen[None]:
        """The first frame."""
        return OpeningScreen()

    def on_mount(self) -> None:
        """Bind the panel's life to its terminal and load what is heavy after the first frame."""
        if not self.is_headless:
            end_on_signals(asyncio.get_running_loop(), self.exit)
            self.set_interval(POLL_SECONDS, leave_if_dead)
        self.call_after_refresh(self._open)

    @work(thread=True, group="open")
    def _open(self) -> None:
        """Read the machine, find a living run, and load its screen or else the setup's."""
        from t5panel.tui.listing import newest_alive

        live = newest_alive()
        if live is None:
            from t5panel.tui.screens import setup  # noqa: F401 - loaded here, used later
        else:
            from t5panel.tui.screens import run  # noqa: F401
        self.post_message(Opened(self._services.machine(), live))

    def on_opened(self, event: Opened) -> None:
        """Show the living run, else the setup."""
        self._machine = event.machine
        if event.live is not None:
            self._watch(event.live)
        else:
            self._show_setup()
        self.call_after_refresh(_collect_garbage_again)

    def on_start_requested(self, event: StartRequested) -> None:
        """Start it, once."""
        if not self._busy:
            self._begin(event, sure=False)

    def _begin(self, request: StartRequested, *, sure: bool) -> None:
        self._busy = True
        self.notify(tr("starting…"), timeout=2)
        self._start(request, sure=sure)

    def on_resume_requested(self, event: ResumeRequested) -> None:
        """Resume it, once."""
        if not self._busy:
            self._busy = True
            self._resume(event)

    def on_told(self, event: Told) -> None:
        """Show it until it is over."""
        self.notify(tr(event.text), timeout=PATIENCE_SECONDS)

    @work(thread=True, group="start")
    def _start(self, request: StartRequested, *, sure: bool) -> None:
        """Judge it on the machine as it is now, then start it, unless the user has to be asked first."""
        from t5panel.errors import T5PanelError
        from t5panel.tui.faults import is_busy, planning_faults

        wish = request.wish
        try:
            prospect = self._services.prospect(wish, self._services.machine())
            stopped_by = prospect.plan.errors if not request.queue else ()
            if prospect.plan.verdict == "tight" and not stopped_by and not sure:
                self.post_message(Doubted(request, prospect.plan))
                return
            run = self._services.start(prospect, request.queue, self._say)
        except (T5PanelError, OSError) as error:
            faults = planning_faults(error)
            queued = StartRequested(wish, queue=True) if is_busy(faults) else None
            self.post_message(Refused(tr("This run cannot start"), faults, queued=queued))
            return
        self.post_message(_read(run, self._services.clock, started=True))

    def _say(self, text: str) -> None:
        self.post_message(Told(text))

    @work(thread=True, group="start")
    def _resume(self, request: ResumeRequested) -> None:
        from t5panel.session import resume
        from t5panel.tui.faults import UNREADABLE, is_busy, reading_faults

        run = request.run
        try:
            resume(run, queue=request.queue)
        except UNREADABLE as error:
            faults = reading_faults(run, error)
            queued = ResumeRequested(run, queue=True) if is_busy(faults) else None
            self.post_message(Refused(tr("This run cannot go on"), faults, queued=queued))
            return
        self.post_message(_read(run, self._services.clock, started=True))

    def on_doubted(self, event: Doubted) -> None:
        """Ask before a start that leaves little memory."""
        from t5panel.tui.screens.tight import TightDialog

        def answer(sure: bool | None) -> None:
            if sure:
                self._begin(event.request, sure=True)

        self._busy = False
        self.push_screen(TightDialog(event.plan), answer)

    def on_run_read(self, event: RunRead) -> None:
        """Watch it, or say why not and forget it."""
        from t5panel.tui.screens.run import RunScreen

        if event.started:
            self._busy = False
            self.clear_notifications()
        self._watched = event.run if event.history else None
        if event.run is not None and event.history is not None:
            self._show(RunScreen(event.run, event.history, self._summary()))
            return
        if isinstance(self.screen, OpeningScreen):
            self._show_setup()
        if event.faults:
            self._tell(tr("This run cannot be shown"), event.faults)
        else:
            self.notify(tr("no runs yet: enter on the setup starts one"), severity="warning")

    def on_refused(self, event: Refused) -> None:
        """Say why, all of it."""
        from t5panel.tui.screens.faults import FaultsDialog

        def answer(queue: bool | None) -> None:
            if queue and event.queued is not None:
                self.post_message(event.queued)

        self._busy = False
        self.clear_notifications()
        self.push_screen(FaultsDialog(event.what, event.faults, can_queue=event.queued is not None), answer)

    def on_run_chosen(self, event: RunChosen) -> None:
        """Watch it."""
        self._watch(event.run)

    def action_go(self, place: str) -> None:
        """To another screen, once they are loaded and no question is open."""
        if self._machine is None or self.screen.is_modal:
            return
        if place == "setup":
            self._show_setup()
        elif place == "runs":
            self._list_runs()
        else:
            self._watch(self._watched)

    def action_keys(self) -> None:
        """The keys of the present screen."""
        from t5panel.tui.screens.help import HelpDialog

        if not self.screen.is_modal:
            self.push_screen(HelpDialog(self._keys()))

    def action_command_palette(self) -> None:
        """Textual's palette, in the user's language."""
        if not isinstance(self.screen, CommandPalette):
            self.push_screen(CommandPalette(placeholder=tr("Search for commands…"), id="--command-palette"))

    def search_themes(self) -> None:
        """All themes, to choose from."""
        self.push_screen(CommandPalette(providers=[ThemeProvider], placeholder=tr("Search for themes…")))

    def action_theme(self) -> None:
        """The next of our own themes."""
        names = [theme.name for theme in THEMES]
        at = names.index(self.theme) if self.theme in names else -1
        self.theme = names[(at + 1) % len(names)]
        self.notify(self.theme.removeprefix("t5panel-"), title=tr("theme"), timeout=2)

    def watch_theme(self, name: str) -> None:
        """Remember it for the next panel, from wherever it was chosen."""
        if self.is_running and self._machine is not None:
            self._remember(name)

    @work(thread=True, group="taste", exclusive=True)
    def _remember(self, name: str) -> None:
        try:
            remember_theme(name)
        except OSError as error:
            self.post_message(Told(str(error)))

    def action_leave(self) -> None:
        """Leave; a living run goes on, and says how to come back to it."""
        from t5panel.monitor.runs import read_state

        run = self._watched
        goes_on = run is not None and read_state(run).alive
        self.exit(message=tr("{run} goes on: t5panel attach {run}", run=run.run_id) if run and goes_on else None)

    def _keys(self) -> Iterator[tuple[str, str]]:
        """Keys that work now and say what they do, each action once."""
        for active in told_once(self.screen.active_bindings.values()):
            yield self.get_key_display(active.binding), tr(active.tooltip)

    @work(thread=True, group="watch", exclusive=True)
    def _watch(self, run: RunDir | None) -> None:
        """Read this run, or without one the newest, to show it; unless the user goes elsewhere first."""
        from t5panel.tui.listing import newest

        found = run or newest()
        message = _read(found, self._services.clock) if found else RunRead(None)
        if not get_current_worker().is_cancelled:
            self.post_message(message)

    def _list_runs(self) -> None:
        from t5panel.tui.screens.runs import RunsScreen

        self._show(RunsScreen(self._summary(), self._services.clock))

    def _show_setup(self) -> None:
        """The one setup, made when it is first seen: pydantic and YAML, 13 MiB, come with it."""
        from t5panel.tui.screens.setup import SetupScreen

        if not self.is_screen_installed("setup") and self._machine is not None:
            self.install_screen(SetupScreen(self._wish, self._machine, self._services), "setup")
        self._show("setup")

    def _show(self, screen: Screen[None] | str) -> None:
        """In place of the present screen and all above it; the opening one stays below, for it was never pushed."""
        self.workers.cancel_group(self, "watch")
        while len(self.screen_stack) > 2:
            self.pop_screen()
        if isinstance(self.screen, OpeningScreen):
            self.push_screen(screen)
        else:
            self.switch_screen(screen)

    def _tell(self, title: str, faults: tuple[Fault, ...]) -> None:
        from t5panel.tui.screens.faults import FaultsDialog

        self.push_screen(FaultsDialog(title, faults))

    def _summary(self) -> str:
        return self._machine.summary if self._machine else ""


def told_once(bindings: Iterable[ActiveBinding]) -> Iterator[ActiveBinding]:
    """Bindings that work now and say what they do, each action once; of two ways out the one that says what stays."""
    seen = set[str]()
    for active in bindings:
        if active.enabled and active.tooltip and active.binding.action not in {*seen, "quit"}:
            seen.add(active.binding.action)
            yield active


def run_panel(wish: Wish, *, plain: bool) -> None:
    """Show the panel until the user leaves it, `plain` in ASCII; runs go on."""
    few = Console().color_system not in ("256", "truecolor")
    theme = os.environ.get("TEXTUAL_THEME") or remembered_theme() or (ANSI.name if few else DARK.name)
    PanelApp(wish, plain=plain, theme=theme).run()


def _read(run: RunDir, clock: Callable[[], float], *, started: bool = False) -> RunRead:
    from t5panel.monitor.history import History
    from t5panel.tui.faults import UNREADABLE, reading_faults

    try:
        return RunRead(run, History(run, clock), started=started)
    except UNREADABLE as error:
        return RunRead(run, faults=reading_faults(run, error), started=started)


def _collect_garbage_again() -> None:
    """The caller may have switched it off for the start; what was loaded by now and is no garbage stays anyway."""
    gc.collect()
    gc.freeze()
    gc.enable()

"""Runs: all runs of this user, newest first."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Footer, OptionList, Static
from textual.widgets.option_list import Option

from t5panel.render import duration, loss_text
from t5panel.tui.listing import RunRow, read_rows
from t5panel.tui.messages import Listed, RunChosen
from t5panel.tui.widgets.header import HeaderBar
from t5panel.tui.widgets.status import PHASES

PERIOD_SECONDS = 2.0
WIDTHS = (11, 29, 6, 13, 8, 10)
TITLES = ("state", "run", "batch", "step", "loss", "started")


class RunList(OptionList):
    """One line per run."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "select", "open", tooltip="Show this run")]


class RunsScreen(Screen[None]):
    """A table; enter opens a run."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "app.go('setup')", "new run", tooltip="Set up another run"),
    ]

    def __init__(self, machine: str, clock: Callable[[], float]) -> None:
        super().__init__()
        self._machine, self._clock = machine, clock
        self._rows: tuple[RunRow, ...] = ()
        self._looking = False

    def compose(self) -> ComposeResult:
        """The table, or that there is nothing yet."""
        yield HeaderBar("runs", self._machine)
        with Vertical(classes="section") as section:
            section.border_title = "Runs"
            yield Static("".join(map(_padded, TITLES, WIDTHS)), id="titles")
            yield RunList()
            yield Static("no runs yet: n sets one up", id="none")
        yield Footer()

    def on_mount(self) -> None:
        """Look now and every two seconds."""
        self.refresh_rows()
        self.set_interval(PERIOD_SECONDS, self.refresh_rows)

    def refresh_rows(self) -> None:
        """Read the runs, unless the last reading still goes on."""
        if not self._looking:
            self._looking = True
            self._look()

    @work(thread=True, group="list")
    def _look(self) -> None:
        self.post_message(Listed(read_rows(self._clock())))

    def on_listed(self, event: Listed) -> None:
        """Show them, the cursor where it was."""
        self._looking = False
        table, now = self.query_one(RunList), self._clock()
        before = self._rows[table.highlighted].run if self._rows and table.highlighted is not None else None
        self._rows = event.rows
        table.set_options([Option(line(row, now)) for row in event.rows])
        runs = [row.run for row in event.rows]
        table.highlighted = runs.index(before) if before in runs else 0 if runs else None
        self.set_class(not runs, "-empty")

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Enter or a click."""
        event.stop()
        self.post_message(RunChosen(self._rows[event.option_index].run))


def line(row: RunRow, now: float) -> Content:
    """One run as a line of the table, and below it what else is to be said of it; `now` in unix seconds."""
    sign, style = PHASES[row.phase]
    step = "—" if row.step is None else f"{row.step:,}/{row.max_steps:,}" if row.max_steps else f"{row.step:,}"
    age = " ".join(duration(max(0.0, now - row.created)).split()[:2]) + " ago"
    words = (row.run.run_id, str(row.effective_batch), step, "—" if row.step is None else loss_text(row.loss), age)
    cells = Content.assemble((_padded(f"{sign} {row.word}", WIDTHS[0]), style), *map(_padded, words, WIDTHS[1:]))
    if not row.note:
        return cells
    return Content.assemble(cells, "\n", ("  ╰ ", "$quiet"), (row.note, style))


def _padded(text: str, width: int) -> str:
    return f"{text:<{width}}"

"""Runs: all runs of this user; marked ones are compared, ended ones deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from t5panel.contract.layout import RunDir, runs_home
from t5panel.language import later, tr
from t5panel.launch.notes import write_note
from t5panel.launch.removal import lives_in, remove_run
from t5panel.preflight.calibration import remember
from t5panel.tui.faults import UNREADABLE, reading_faults
from t5panel.tui.listing import Order, RunRow, arranged, next_order, read_rows, with_or_without
from t5panel.tui.messages import Listed, Refused, RunChosen
from t5panel.tui.parts import Part
from t5panel.tui.screens.note import NoteDialog
from t5panel.tui.screens.removal import RemovalDialog
from t5panel.tui.widgets.header import HeaderBar
from t5panel.tui.widgets.key_bar import KeyBar
from t5panel.tui.widgets.run_columns import Column, fitting, padded
from t5panel.tui.widgets.run_facts import RunFacts
from t5panel.tui.widgets.status import PHASES

PERIOD_SECONDS = 2.0
MARK_CELLS, STATE_CELLS = 2, 11
BESIDE_CELLS = MARK_CELLS + STATE_CELLS + 3
"""Of the other columns: mark, state, the edges and the scroll bar."""
MARK = "◆"
ORDER_WORDS: dict[Order, str] = {"started": "", "loss": later("lowest loss first"), "state": later("by state")}
"""As a title says them; the newest first needs no word."""


class RunList(OptionList):
    """One line per run."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "select", "open", tooltip="Show this run")]


class RunsScreen(Screen[None]):
    """A table; enter opens a run."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "mark", key_display="space", tooltip="Mark this run, to compare it with others"),
        Binding("c", "compare", "compare", tooltip="Compare the marked runs, or look at this one's figures"),
        Binding("slash", "filter", "filter", key_display="/", tooltip="Only runs that hold these words"),
        Binding("o", "order", "order", show=False, tooltip="Order by start, loss or state"),
        Binding("t", "note", "note", show=False, tooltip="Write a note on this run"),
        Binding("D", "delete", "delete", show=False, tooltip="Delete this ended run; asks first"),
        Binding("n", "app.go('setup')", "new run", show=False, tooltip="Set up another run"),
    ]

    def __init__(self, machine: str, clock: Callable[[], float]) -> None:
        super().__init__()
        self._machine, self._clock = machine, clock
        self._all: tuple[RunRow, ...] = ()
        self._rows: tuple[RunRow, ...] = ()
        self._marked: tuple[RunDir, ...] = ()
        self._order: Order = "started"
        self._looking = False

    def compose(self) -> ComposeResult:
        """The table, or that there is nothing yet; where there is room, more of the run under the cursor."""
        yield HeaderBar("runs", self._machine)
        with Vertical(classes="section") as section:
            section.border_title = tr("Runs")
            yield Input(placeholder=tr("words of an id, a preset, a state, a model, a note"), id="filter", compact=True)
            yield Static(id="titles")
            yield RunList()
            yield Static("", id="none")
        yield RunFacts(classes="section")
        yield KeyBar()

    def on_mount(self) -> None:
        """Look now and every two seconds."""
        self.query_one(RunList).focus()
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

    def on_resize(self) -> None:
        """As many columns as there is room for."""
        self._show()

    def on_listed(self, event: Listed) -> None:
        """Show them."""
        self._looking = False
        self._all = event.rows
        here = {row.run for row in event.rows}
        self._marked = tuple(run for run in self._marked if run in here)
        self._show()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show what holds the words."""
        event.stop()
        self._show()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Back to the table; the words stay."""
        event.stop()
        self.query_one(RunList).focus()

    def key_escape(self) -> None:
        """Forget the words."""
        self.query_one(Input).clear()
        self.remove_class("-filtering")
        self.query_one(RunList).focus()

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Tell of the run under the cursor."""
        event.stop()
        self.query_one(RunFacts).row = self._row

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Enter or a click."""
        event.stop()
        self.post_message(RunChosen(self._rows[event.option_index].run))

    def action_mark(self) -> None:
        """Mark this run or take its mark away, and go on to the next."""
        row = self._row
        if row is not None:
            self._marked = with_or_without(self._marked, row.run)
            self._show()
            self.query_one(RunList).action_cursor_down()

    def action_compare(self) -> None:
        """The marked runs, else this one, in the order in which they were marked."""
        row = self._row
        runs = self._marked or ((row.run,) if row is not None else ())
        if runs:
            from t5panel.tui.screens.compare import CompareScreen

            self.app.push_screen(CompareScreen(runs))

    def action_filter(self) -> None:
        """Ask for words."""
        self.add_class("-filtering")
        self.set_focus(self.query_one(Input))  # at once: words may be typed already

    def action_order(self) -> None:
        """The next order."""
        self._order = next_order(self._order)
        self._show()

    def action_note(self) -> None:
        """Ask for the user's own words."""
        row = self._row
        if row is None:
            return

        def keep(text: str | None) -> None:
            if text is not None:
                self._keep_note(row.run, text)

        self.app.push_screen(NoteDialog(row.run, row.user_note), keep)

    @work(thread=True, group="note")
    def _keep_note(self, run: RunDir, text: str) -> None:
        """It waits for the disk."""
        try:
            write_note(run, text)
        except UNREADABLE as error:
            self.post_message(Refused("This note cannot be kept", reading_faults(run, error)))
        self.post_message(Listed(read_rows(self._clock())))

    def action_delete(self) -> None:
        """Ask, then delete; a living run has to be stopped first."""
        row = self._row
        if row is None:
            return
        if row.alive:
            self.notify(tr("this run lives: stop it first"), severity="warning")
            return

        def answer(sure: bool | None) -> None:
            if sure:
                self._remove(row.run)

        self.app.push_screen(RemovalDialog(row.run, elsewhere=not lives_in(row.run, runs_home())), answer)

    @work(thread=True, group="remove")
    def _remove(self, run: RunDir) -> None:
        """It waits for the disk; what the run has shown of this machine is kept."""
        try:
            remember()
            remove_run(run, runs_home())
        except UNREADABLE as error:
            self.post_message(Refused(tr("This run cannot be deleted"), reading_faults(run, error)))
        self.post_message(Listed(read_rows(self._clock())))

    @property
    def _row(self) -> RunRow | None:
        at = self.query_one(RunList).highlighted
        return self._rows[at] if at is not None and at < len(self._rows) else None

    def _show(self) -> None:
        """The rows in their order, the cursor where it was."""
        table, now, text = self.query_one(RunList), self._clock(), self.query_one(Input).value
        before = self._row
        self._rows = arranged(self._all, text, self._order)
        columns = fitting(self.size.width - BESIDE_CELLS, self._all)
        titles = (
            padded("", MARK_CELLS),
            padded(tr("state"), STATE_CELLS),
            *(padded(tr(c.title), c.width) for c in columns),
        )
        self.query_one("#titles", Static).update("".join(titles))
        table.set_options([Option(line(row, now, columns, marked=row.run in self._marked)) for row in self._rows])
        runs = [row.run for row in self._rows]
        table.highlighted = runs.index(before.run) if before and before.run in runs else 0 if runs else None
        self.set_class(not runs, "-empty")
        self.query_one(RunFacts).row = self._row
        none = tr("no run holds these words: esc shows all") if self._all else tr("no runs yet: n sets one up")
        self.query_one("#none", Static).update(none)
        self.query_one(".section").border_title = self._title()

    def _title(self) -> str:
        shown = (
            tr("{shown} of {all}", shown=len(self._rows), all=len(self._all))
            if len(self._rows) < len(self._all)
            else ""
        )
        marked = tr("{count} marked: c compares", count=len(self._marked)) if self._marked else ""
        return " · ".join(word for word in (tr("Runs"), tr(ORDER_WORDS[self._order]), shown, marked) if word)


def line(row: RunRow, now: float, columns: Iterable[Column], *, marked: bool = False) -> Content:
    """One run as a line of the table, and below it what else is to be said of it; `now` in unix seconds."""
    sign, style = PHASES[row.phase]
    cells = Content.assemble(
        (padded(MARK if marked else "", MARK_CELLS), "bold $accent"),
        (padded(f"{sign} {tr(row.word)}", STATE_CELLS), style),
        *(column.cell(row, now) for column in columns),
    )
    below: list[Part] = [("\n    ╰ ", "$quiet"), (row.note, style)] if row.note else []
    if row.user_note:
        below += [("\n    ✎ ", "$accent"), row.user_note]
    return Content.assemble(cells, *below)

"""Log: one log of a run on the whole screen, followed or paused, searched, with the others beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

import msgspec
from rich.markup import escape
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.screen import Screen
from textual.widgets import Input

from t5panel.contract.layout import RunDir
from t5panel.contract.records import Event
from t5panel.language import later, tr
from t5panel.monitor.logfile import NO_PART, LogPart, found_after, found_before, log_around, log_end, log_size
from t5panel.tui.parts import Part
from t5panel.tui.view import JOURNAL, journal_line, log_path
from t5panel.tui.widgets.key_bar import KeyBar
from t5panel.tui.widgets.log_view import LogView
from t5panel.tui.widgets.steady import SteadyText, entitle

PERIOD_SECONDS = 0.5
ROWS_ABOVE = 3
"""Of context above a line that was found."""
NOT_FOUND = {"above": later("no line above holds {words!r}"), "below": later("no line below holds {words!r}")}
Anchor = int | Literal["end"]
"""What to bring into view: the line at a place, or the last one."""


class LogRead(Message):
    """A part of a log, what of it is to be seen, and whether a search came to it."""

    def __init__(self, name: str, part: LogPart, anchor: Anchor, hit: int | None = None) -> None:
        super().__init__()
        self.log_name, self.part, self.anchor, self.hit = name, part, anchor, hit


class NotFound(Message):
    """No line holds the words."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where


class LogScreen(Screen[str]):
    """Reads only what is seen; gives the name of the log that was shown last."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "follow", "pause", key_display="space", tooltip="Pause, or follow the end again"),
        Binding("slash", "search", "search", key_display="/", tooltip="Search upwards for words, in any case"),
        Binding("n", "older", "older", tooltip="The next line with them above"),
        Binding("N", "newer", "newer", show=False, tooltip="The next line with them below"),
        Binding("tab,o", "turn(1)", "next log", key_display="tab", tooltip="The next log: ranks, launcher, the run"),
        Binding("shift+tab", "turn(-1)", "log before", show=False, tooltip="The log before"),
        Binding("home,g", "first", "first line", show=False, key_display="home", tooltip="The first lines"),
        Binding("end,G", "last", "last line", show=False, key_display="end", tooltip="The last lines, and follow them"),
        Binding("y", "copy", "copy", show=False, tooltip="Copy the lines on the screen"),
        Binding("escape,q,v", "close", "back", key_display="esc", tooltip="Back to the run"),
    ]

    log_name: reactive[str] = reactive("")
    following: reactive[bool] = reactive(default=True)

    def __init__(self, run: RunDir, names: tuple[str, ...], name: str, created: float) -> None:
        super().__init__()
        self._run, self._names, self._created = run, names, created
        self.set_reactive(LogScreen.log_name, name)
        self._looking = False
        self._next: Anchor | None = None
        """What to look at when the present reading is done."""

    def compose(self) -> ComposeResult:
        """The names of the logs, the lines, the words to search for."""
        yield SteadyText(id="logs")
        with Vertical(classes="section"):
            yield LogView()
        yield Input(placeholder=tr("words to search for, in any case"), id="words", compact=True)
        yield KeyBar()

    def on_mount(self) -> None:
        """Look now and twice a second."""
        self._view.focus()
        self._title()
        self._read("end")
        self.set_interval(PERIOD_SECONDS, self._tick)

    @property
    def _view(self) -> LogView:
        return self.query_one(LogView)

    @property
    def _path(self) -> Path:
        return log_path(self._run, self.log_name)

    def watch_log_name(self) -> None:
        """Show another log from its end."""
        if self.is_mounted:
            self._view.part, self._view.hit = NO_PART, None
            self.following = True
            self._read("end")

    def watch_following(self) -> None:
        """Say it."""
        if self.is_mounted:
            self._title()

    def _tick(self) -> None:
        """What was added, while it is followed; a log that did not change is left alone."""
        if self.following and not self._looking and log_size(self._path) != self._view.part.size:
            self._read("end")

    def _read(self, anchor: Anchor) -> None:
        if self._looking:
            self._next = anchor
            return
        self._looking, self._next = True, None
        self._look(self.log_name, anchor)

    @work(thread=True, group="log")
    def _look(self, name: str, anchor: Anchor) -> None:
        path = log_path(self._run, name)
        part = log_end(path) if anchor == "end" else log_around(path, anchor)
        self.post_message(LogRead(name, self._written(name, part), anchor))

    def _written(self, name: str, part: LogPart) -> LogPart:
        """The supervisor's journal in words."""
        if name != JOURNAL:
            return part
        return replace(part, lines=tuple(_journal_text(line, self._created) for line in part.lines))

    def on_log_read(self, event: LogRead) -> None:
        """Show it, unless the user has gone on to another log."""
        self._looking = self._looking and event.hit is not None
        if event.log_name != self.log_name:
            self._read("end")
            return
        view = self._view
        if event.part != view.part:
            view.part = event.part
        if event.hit is not None:
            view.hit = event.hit
        if event.anchor == "end":
            view.scroll_end(animate=False, force=True)
        else:
            view.show(event.anchor, above=ROWS_ABOVE if event.hit is not None else 0)
        self._title()
        if self._next is not None and not self._looking:
            self._read(self._next)

    def on_log_view_left(self) -> None:
        """Who scrolls up wants to read in peace."""
        self.following = False

    def on_log_view_wanted(self, event: LogView.Wanted) -> None:
        """What is not here."""
        if event.where in ("first", "last"):
            self.action_first() if event.where == "first" else self.action_last()
            return
        part, top = self._view.part, self._view.top
        if top is None or (event.where == "above" and part.begin == 0):
            return
        if event.where == "below" and part.end >= log_size(self._path):
            return
        self.following = False
        self._read(top)

    def action_follow(self) -> None:
        """Pause or follow."""
        self.following = not self.following
        if self.following:
            self._read("end")

    def action_first(self) -> None:
        """The first lines."""
        self.following = False
        self._read(0)

    def action_last(self) -> None:
        """The last lines."""
        self.following = True
        self._read("end")

    def action_turn(self, by: int) -> None:
        """Another log."""
        self.log_name = self._names[(self._names.index(self.log_name) + by) % len(self._names)]

    def action_search(self) -> None:
        """Ask for words."""
        self.add_class("-searching")
        self.set_focus(self.query_one(Input))  # at once: words may be typed already

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Search upwards from what is seen."""
        event.stop()
        self._leave_search()
        self._view.words, self._view.hit = event.value.strip(), None
        if self._view.words:
            self._search(found_before, self._view.bottom, "above")

    def action_older(self) -> None:
        """Upwards from where the last search came to."""
        if self._view.words:
            self._search(found_before, self._view.hit if self._view.hit is not None else self._view.bottom, "above")
        else:
            self.action_search()

    def action_newer(self) -> None:
        """Downwards."""
        here = self._view.hit if self._view.hit is not None else self._view.top
        if self._view.words and here is not None:
            self._search(found_after, here, "below")

    def _search(self, find: Callable[..., int | None], here: int, where: str) -> None:
        self.following = False
        self._find(find, self.log_name, self._view.words, here, where)

    @work(thread=True, group="find", exclusive=True)
    def _find(self, find: Callable[..., int | None], name: str, words: str, here: int, where: str) -> None:
        path = log_path(self._run, name)
        hit = find(path, words, here)
        if hit is None:
            self.post_message(NotFound(where))
        else:
            self.post_message(LogRead(name, self._written(name, log_around(path, hit)), hit, hit))

    def on_not_found(self, event: NotFound) -> None:
        """Say it."""
        text = NOT_FOUND[event.where]
        self.notify(tr(text, words=self._view.words), severity="warning", timeout=3, markup=False)

    def action_copy(self) -> None:
        """To the clipboard of the terminal."""
        self.app.copy_to_clipboard("\n".join(self._view.seen))
        self.notify(tr("copied {count} lines", count=len(self._view.seen)), timeout=2)

    def action_close(self) -> None:
        """Out of the search, else back to the run."""
        if self.has_class("-searching"):
            self._leave_search()
        else:
            self.dismiss(self.log_name)

    def _leave_search(self) -> None:
        self.remove_class("-searching")
        self.set_focus(self._view)

    def _title(self) -> None:
        parts: list[Part] = [" "]
        for name in self._names:
            parts += [(f" {tr(name)} ", "bold reverse $primary" if name == self.log_name else "$quiet"), " "]
        self.query_one(SteadyText).show(Content.assemble(*parts))
        part = self._view.part
        state = tr("follows the end") if self.following else tr("paused, space follows again")
        words = [str(self._path.relative_to(self._run.path)), _size_text(part.size), state]
        section = self.query_one(".section")
        entitle(section, " · ".join(words))
        section.border_subtitle = escape(f"/{self._view.words}") if self._view.words else ""


def _size_text(size: int) -> str:
    """Bytes of a file."""
    return f"{size / 2**20:,.1f} MiB" if size >= 2**20 else f"{size / 1024:,.1f} KiB"


def _journal_text(line: str, begin: float) -> str:
    try:
        return journal_line(msgspec.json.decode(line, type=Event), begin)
    except msgspec.DecodeError:  # torn by a dying writer
        return line

"""Choose what to train on: browse folders, and see columns, rows and lengths before anything starts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import msgspec
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen
from textual.timer import Timer
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from t5panel.contract.data_look import DataLook
from t5panel.contract.spec import RunSpec
from t5panel.language import tr
from t5panel.preflight.peek import Peek
from t5panel.tui.browse import Entry, data_entries
from t5panel.tui.look_text import look_parts
from t5panel.tui.services import Services
from t5panel.tui.widgets.key_bar import KeyBar

PAUSE_SECONDS = 0.15
"""From the last key to a look, which starts an interpreter."""


@dataclass(frozen=True)
class DataChoice:
    """What was chosen: a path or a built-in name, columns only where another than the usual one, and the look at it."""

    path: str
    prompt: str | None = None
    response: str | None = None
    look: DataLook | None = None


class FolderRead(Message):
    """What a folder holds, or why it cannot be read."""

    def __init__(self, folder: Path, entries: tuple[Entry, ...], problem: str = "") -> None:
        super().__init__()
        self.folder, self.entries, self.problem = folder, entries, problem


class Looked(Message):
    """What is known by now of the entry with this number; an older one is out of date."""

    def __init__(self, number: int, look: DataLook) -> None:
        super().__init__()
        self.number, self.look = number, look


class EntryList(OptionList):
    """Enter belongs to the picker and is among its keys."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "screen.choose", "choose", tooltip="Take this, or open the folder"),
    ]


class DataPicker(ModalScreen[DataChoice | None]):
    """Lists a folder on the left and tells of what is highlighted on the right; gives the choice."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right", "open", "open", show=False, tooltip="Open the folder"),
        Binding("left,backspace", "up", "folder up", key_display="←", tooltip="The folder above"),
        Binding("p", "turn('prompt')", "prompt column", tooltip="Take the next column for the prompts"),
        Binding("r", "turn('response')", "response column", tooltip="Take the next column for the responses"),
        Binding("escape", "leave", "back", key_display="esc", tooltip="Back to the setup; nothing is chosen"),
    ]

    def __init__(self, spec: RunSpec, folder: Path, services: Services) -> None:
        super().__init__()
        self._spec, self._folder, self._services = spec, folder, services
        self._entries: tuple[Entry, ...] = ()
        self._came_from = ""
        self._columns: dict[str, str] = {}
        self._look: DataLook | None = None
        self._number = 0
        self._peek: Peek | None = None
        self._timer: Timer | None = None

    def compose(self) -> ComposeResult:
        """Folder, list, facts, keys."""
        yield Static(id="folder")
        with Horizontal(id="picker"):
            yield EntryList(id="entries")
            with VerticalScroll(id="facts", can_focus=False):
                yield Static(id="look")
        yield KeyBar()

    def on_mount(self) -> None:
        """Begin where the present data is."""
        self._list(self._folder)

    def on_unmount(self) -> None:
        """Nobody waits for the look any more."""
        self._give_up()

    def on_folder_read(self, event: FolderRead) -> None:
        """Show a folder, what can be trained on first."""
        if event.problem:
            self.notify(event.problem, severity="warning", markup=False)
            return
        self._folder, self._entries = event.folder, event.entries
        self.query_one("#folder", Static).update(Content(folder_text(event.folder)))
        options = self.query_one(OptionList)
        options.set_options(map(_option, event.entries))
        places = [place for place, entry in enumerate(event.entries) if entry.value == self._came_from]
        data = [place for place, entry in enumerate(event.entries) if entry.kind == "file"]
        options.highlighted = next(iter([*places, *data]), 0)
        options.focus()

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Another entry: give up the look at the last one, and look at this a moment later."""
        event.stop()
        self._columns = {}
        self._begin(PAUSE_SECONDS)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Entered or clicked."""
        event.stop()
        self.action_choose()

    def on_looked(self, event: Looked) -> None:
        """Show it."""
        if event.number == self._number:
            self._look = event.look
            self._show()

    def on_resize(self) -> None:
        """A histogram as wide as there is room."""
        self.call_after_refresh(self._show)

    def action_choose(self) -> None:
        """Take a file, enter a folder."""
        entry = self._entry
        if entry is None:
            return
        if not entry.is_data:
            self.action_open()
        else:
            look = self._look if self._look is not None and not self._look.faults else None
            self.dismiss(DataChoice(entry.value, self._columns.get("prompt"), self._columns.get("response"), look))

    def action_open(self) -> None:
        """Into a folder."""
        if self._entry is not None and not self._entry.is_data:
            self._came_from = str(self._folder)
            self._list(Path(self._entry.value))

    def action_up(self) -> None:
        """To the folder above."""
        self._came_from = str(self._folder)
        self._list(self._folder.parent)

    def action_turn(self, side: str) -> None:
        """The next text column for one side."""
        if self._look is None:
            return
        names = [name for name, kind in self._look.columns.items() if kind == "text"]
        present = {"prompt": self._look.prompt, "response": self._look.response}
        if not names:
            return
        other = "response" if side == "prompt" else "prompt"
        if present[side] is None:  # none yet: not the one that the other side has
            names = [name for name in names if name != present[other]] or names
        at = names.index(present[side] or "") if present[side] in names else -1
        turned = names[(at + 1) % len(names)]
        chosen = {**present, side: turned}
        if present[other] == turned:  # two columns: they change places
            chosen[other] = present[side]
        self._columns = {each: name for each, name in chosen.items() if name is not None}
        self._begin(0.01, msgspec.structs.replace(self._look, **chosen, source=(), target=(), faults=()))

    def action_leave(self) -> None:
        """Choose nothing."""
        self.dismiss(None)

    @property
    def _entry(self) -> Entry | None:
        place = self.query_one(OptionList).highlighted
        return self._entries[place] if place is not None and place < len(self._entries) else None

    def _begin(self, pause: float, known: DataLook | None = None) -> None:
        self._give_up()
        self._number += 1
        self._look = known
        self._show()
        if self._entry is not None and self._entry.is_data:
            self._timer = self.set_timer(pause, self._look_at)

    def _give_up(self) -> None:
        if self._timer is not None:
            self._timer.stop()
        if self._peek is not None:
            self._peek.give_up()
            self._peek = None

    def _look_at(self) -> None:
        if self._entry is None:
            return
        columns = {f"{side}_column": name for side, name in self._columns.items()}
        data = self._spec.data.model_copy(update={"train": self._entry.value, **columns})
        self._peek = self._services.peek(self._spec.model_copy(update={"data": data}))
        self._read(self._number, self._peek)

    @work(thread=True, group="peek")
    def _read(self, number: int, peek: Peek) -> None:
        for look in peek.looks():
            self.post_message(Looked(number, look))

    @work(thread=True, group="list", exclusive=True)
    def _list(self, folder: Path) -> None:
        try:
            self.post_message(FolderRead(folder, data_entries(folder)))
        except OSError as error:
            self.post_message(FolderRead(folder, (), f"{folder}: {error.strerror}"))

    def _show(self) -> None:
        text, entry = self.query_one("#look", Static), self._entry
        if entry is None or not entry.is_data:
            text.update(Content(tr("enter opens this folder")).stylize("$quiet"))
            return
        size = self.query_one("#facts").content_size
        limits = (self._spec.data.max_source_length, self._spec.data.max_target_length)
        height = 2 if size.height < 24 else 4
        text.update(Content.assemble(*look_parts(self._look, limits, size.width - 1, height=height)))


def _option(entry: Entry) -> Option:
    style = "" if entry.is_data else "$primary"
    return Option(Content.assemble((tr(entry.name), style), (f"  {tr(entry.note)}" if entry.note else "", "$quiet")))


def folder_text(folder: Path) -> str:
    """A folder as its list is titled."""
    return str(folder)


def folder_of(paths: Iterable[str | None]) -> Path:
    """The first folder that one of these files lies in; else the present one."""
    for text in paths:
        if text and Path(text).expanduser().parent.is_dir() and "/" in text:
            return Path(text).expanduser().parent.absolute()
    return Path.cwd()

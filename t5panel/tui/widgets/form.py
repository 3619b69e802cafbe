"""The settings of a run as a form made from RunSpec's fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical, VerticalScroll
from textual.content import Content
from textual.events import DescendantFocus
from textual.geometry import Size
from textual.message import Message
from textual.reactive import Reactive, reactive
from textual.widgets import Input, Label, Static

from t5panel.cells import width_of
from t5panel.language import later, tr
from t5panel.tui.fields import FormField
from t5panel.tui.widgets.cycle import Cycle

PICKED = ("data.train", "data.validation", "model.name_or_path")
RESTING_HELP = later("e edits · a shows every setting")

WALK = (
    Binding("up", "screen.walk(-1)", "previous", show=False),
    Binding(
        "down,enter",
        "screen.walk(1)",
        "next field",
        key_display="↑↓",
        tooltip="Move between the settings; so does enter",
    ),
)
"""On the editors themselves: an Input has scrolling on these keys."""


@dataclass(frozen=True)
class FormState:
    """What the form shows: a text per key, the keys edited here, faults by key, keys without effect now."""

    texts: Mapping[str, str] = field(default_factory=dict)
    edited: frozenset[str] = frozenset()
    faults: Mapping[str, str] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()
    notes: Mapping[str, str] = field(default_factory=dict)
    """What is known of a setting here, beside its help."""
    replace_all: bool = False
    """Whether texts that were being typed are given up: another preset was chosen."""

    def of(self, key: str) -> tuple[object, ...]:
        """All that a row shows."""
        return self.texts.get(key), key in self.edited, self.faults.get(key), key in self.hidden


class ValueInput(Input):
    """A text that lets enter and the arrow keys walk on."""

    BINDINGS: ClassVar[list[BindingType]] = [*WALK]

    virtual_size: Reactive[Size] = Reactive(Size(0, 0), layout=False)
    """As wide as its row whatever is typed: an Input would have the screen laid out again at every keystroke."""


class FieldRow(Container):
    """One setting: its name, its value, and what is wrong with it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *WALK,
        Binding("ctrl+o", "pick", "choose", tooltip="Choose from what there is on this machine"),
    ]

    class Edited(Message):
        """The user typed or chose a value."""

        def __init__(self, field: FormField, text: str) -> None:
            super().__init__()
            self.field, self.text = field, text

    def __init__(self, field: FormField) -> None:
        super().__init__()
        self.field = field
        self.fault = ""
        placeholder = "—" if field.optional else ""
        self.editor = Cycle(field.choices) if field.choices else ValueInput(compact=True, placeholder=placeholder)

    def compose(self) -> ComposeResult:
        """The editor; name and fault are the row's own text, for a form has many rows."""
        yield self.editor

    def render(self) -> Content:
        """The name, and below it what is wrong."""
        return Content.assemble(self.field.label, (f"\n✗ {tr(self.fault)}" if self.fault else "", "$error"))

    def show(self, state: FormState) -> None:
        """Take over value and fault; a text being typed stays."""
        key, fault = self.field.key, state.faults.get(self.field.key, "")
        self.display = key not in state.hidden
        self.set_class(key in state.edited, "-edited")
        if fault != self.fault:  # a row that stays as it is costs a keystroke nothing
            self.fault = fault
            self.set_class(bool(fault), "-faulty")
            self._fit()
        if state.replace_all or not (self.screen.focused is self.editor or self.fault):
            self._set_text(state.texts.get(key, ""))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only some settings have something to choose from."""
        return action != "pick" or self.field.key in PICKED

    async def action_pick(self) -> None:
        """Have the screen offer it."""
        await self.run_action(f"screen.pick('{self.field.key}')")

    def on_resize(self) -> None:
        """A fault takes as many lines as it needs."""
        self._fit()

    def _fit(self) -> None:
        self.styles.height = 1 + -(-width_of(f"✗ {tr(self.fault)}") // max(20, self.size.width)) if self.fault else 1
        self.refresh()

    def on_mount(self) -> None:
        """Take over what was known before this row was there."""
        self.show(self.query_ancestor(FormPane).state)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Typed."""
        event.stop()
        self.post_message(self.Edited(self.field, event.value))

    def on_descendant_blur(self) -> None:
        """Nothing is being typed any more: show what holds, from its beginning."""
        self.show(self.query_ancestor(FormPane).state)
        if isinstance(self.editor, Input):
            self.editor.cursor_position = 0

    def on_cycle_changed(self, event: Cycle.Changed) -> None:
        """Chosen."""
        event.stop()
        self.post_message(self.Edited(self.field, event.value))

    def _set_text(self, text: str) -> None:
        if isinstance(self.editor, Cycle):
            self.editor.value = text
        elif self.editor.value != text:
            with self.prevent(Input.Changed):
                self.editor.value = text
            self.editor.cursor_position = 0


class FormPane(Vertical):
    """Edits a draft: main settings first, all of them on demand, help for the focused one below."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "escape",
            "screen.leave_form",
            "methods",
            key_display="esc",
            tooltip="Back to the methods; enter there starts",
        ),
    ]

    state: reactive[FormState] = reactive(FormState(), repaint=False)
    """The rows draw it; a new picture of the whole form would cost every keystroke milliseconds."""

    resting: reactive[Content] = reactive(Content(), init=False)
    """What the chosen method is, where the list has no room to say it."""

    def __init__(self, fields: tuple[FormField, ...]) -> None:
        super().__init__(classes="section")
        self._main = tuple(field for field in fields if field.is_main)
        self._rest = tuple(field for field in fields if not field.is_main)
        self.border_title = tr("Settings")

    def compose(self) -> ComposeResult:
        """Main settings; the rest is mounted when asked for."""
        with VerticalScroll(can_focus=False):
            for field in self._main:
                yield FieldRow(field)
        yield Static(id="method")
        yield Static(tr(RESTING_HELP), id="help")

    def watch_state(self, old: FormState, state: FormState) -> None:
        """Show it in every row that it changes."""
        for row in self._rows():
            if state.replace_all or old.of(row.field.key) != state.of(row.field.key):
                row.show(state)

    def watch_resting(self, resting: Content) -> None:
        """Say it."""
        self.query_one("#method", Static).update(resting)

    def focus_first(self) -> None:
        """Begin editing."""
        self._editors()[0].focus()

    def walk(self, by: int) -> None:
        """To the editor `by` places on, never out of the form."""
        editors = self._editors()
        at = next((at for at, editor in enumerate(editors) if editor.has_focus), 0)
        editors[min(max(at + by, 0), len(editors) - 1)].focus()

    def rest(self) -> None:
        """Nothing is edited."""
        self.query_one("#help", Static).update(tr(RESTING_HELP))

    async def toggle_all(self, *, scroll: bool = True) -> bool:
        """Show all settings, or the main ones; True when all are shown. `scroll`: to the first of the others."""
        rest = self.query(".rest")
        if rest:
            await rest.remove()
            return False
        rows = [FieldRow(field) for field in self._rest]
        await self.query_one(VerticalScroll).mount_all(
            [Label(tr("all other settings"), classes="rest heading"), *(_marked(row) for row in rows)]
        )
        if scroll:
            rows[0].scroll_visible(top=True)
        return True

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """Explain the focused setting."""
        row = next((node for node in event.widget.ancestors if isinstance(node, FieldRow)), None)
        if row is not None:
            note = self.state.notes.get(row.field.key, "")
            parts = ((row.field.key, "$accent"), f"  {tr(row.field.help)}", (f" {note}" if note else "", "$foreground"))
            self.query_one("#help", Static).update(Content.assemble(*parts))

    def _editors(self) -> list[Cycle | ValueInput]:
        return [row.editor for row in self._rows() if row.display]

    def _rows(self) -> Iterator[FieldRow]:
        return iter(self.query(FieldRow).results(FieldRow))


def _marked(row: FieldRow) -> FieldRow:
    row.add_class("rest")
    return row

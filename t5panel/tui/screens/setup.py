"""Setup: choose a method, edit settings, see what would run, start it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content
from textual.events import DescendantBlur
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Static

from t5panel.contract.data_look import DataLook
from t5panel.contract.layout import PRIVATE, command_file, write_atomic
from t5panel.contract.spec import ModelSpec, RunSpec
from t5panel.contract.words import Method
from t5panel.errors import T5PanelError
from t5panel.language import tr
from t5panel.plan.machine import Machine
from t5panel.plan.planning import Plan, batch_formula
from t5panel.plan.solve import Suggestion
from t5panel.render.plan import rehearsal_headline
from t5panel.session import Prospect, can_queue, glance_at, save_as
from t5panel.tui.draft import Checked, Draft, check, command_line, found_by_key, methods, script
from t5panel.tui.faults import planning_faults
from t5panel.tui.fields import PRICE, SAMPLES, ZERO_STAGE, form_fields, read, text_of, value_at
from t5panel.tui.look_text import lengths_line
from t5panel.tui.messages import LookedAhead, StartRequested
from t5panel.tui.screens.save import SaveDialog
from t5panel.tui.screens.whole_plan import Copied, WholePlanDialog
from t5panel.tui.services import Services
from t5panel.tui.widgets.command_pane import CommandPane
from t5panel.tui.widgets.form import FieldRow, FormPane, FormState
from t5panel.tui.widgets.header import HeaderBar
from t5panel.tui.widgets.key_bar import KeyBar
from t5panel.tui.widgets.methods import MethodList, MethodPane
from t5panel.tui.widgets.plan_pane import PlanPane, PlanState
from t5panel.wish import Wish

if TYPE_CHECKING:
    from t5panel.tui.screens.data_picker import DataChoice

PAUSE_SECONDS = 0.15
"""From the last key to the look ahead, which may start an interpreter."""
SETTLE_SECONDS = 0.5
"""From the form to a start: enter is pressed twice easily, and a start is three ranks."""
MACHINE_SECONDS = 2.0
"""A reading of the machine holds this long."""
TALL = 45
"""Rows of a terminal that shows every setting from the beginning."""
SHARDED = ("deepspeed", "llamafactory")


class SetupScreen(Screen[None]):
    """Turns keys into a draft, and a draft into a plan, a command and a start."""

    AUTO_FOCUS = "MethodList"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("m", "pick('model.name_or_path')", "model", tooltip="Choose the model: built in, downloaded, a folder"),
        Binding("d", "pick('data.train')", "data", tooltip="Choose the data: columns, rows, lengths in tokens"),
        Binding("f", "suggestion", "improve", tooltip="Set what the plan suggests: what fits, or is faster"),
        Binding("w", "queue", "queue", tooltip="Queue the run: it starts when its cards are free"),
        Binding("v", "plan", "plan", show=False, tooltip="All of the plan, its basis, and the exact commands"),
        Binding("a", "all_settings", "all settings", show=False, tooltip="Show every setting, or the main ones"),
        Binding("y", "copy('line')", "copy", tooltip="Copy the t5panel line that starts this without the panel"),
        Binding(
            "Y", "copy('launch')", "copy launch line", show=False, tooltip="Copy the launcher's line as it will run"
        ),
        Binding("p", "save", "save preset", show=False, tooltip="Save these settings as a preset of your own"),
    ]

    def __init__(self, wish: Wish, machine: Machine, services: Services) -> None:
        super().__init__()
        self._machine, self._services = machine, services
        self._machine_read = services.clock()
        self._form_left = 0.0
        self._fields = form_fields(sharded=True)
        self._keys = tuple(field.key for field in self._fields)
        self._draft = Draft(wish, wish.preset)
        self._checked = Checked(None, {})
        self._number = 0
        self._looking = False
        self._timer: Timer | None = None
        self._can_queue = False
        self._suggestion: Suggestion | None = None
        self._prospect: Prospect | None = None
        self._texts: dict[str, tuple[Any, str]] = {}
        self._found: Mapping[str, str] = {}
        self._data_look: DataLook | None = None
        self._looked_at: tuple[str, ModelSpec] | None = None

    def compose(self) -> ComposeResult:
        """Methods, settings and plan; the command below."""
        yield HeaderBar("setup", self._machine.summary)
        yield Static(id="banner")
        with Container(id="setup"):
            yield MethodPane(methods(self._draft.given), self._draft.preset)
            yield FormPane(self._fields)
            yield PlanPane()
        yield CommandPane()
        yield KeyBar()

    async def on_mount(self) -> None:
        """All settings where there is room for them."""
        if self.app.size.height >= TALL:
            await self.query_one(FormPane).toggle_all(scroll=False)

    def on_screen_resume(self) -> None:
        """Look again: what runs by now takes memory."""
        self._look_ahead()

    def on_descendant_blur(self, event: DescendantBlur) -> None:
        """Remember when the form was left."""
        if not isinstance(event.widget, MethodList):
            self._form_left = time.monotonic()

    def on_method_pane_chosen(self, event: MethodPane.Chosen) -> None:
        """Another preset."""
        self.query_one(FormPane).resting = event.summary
        self._take(self._draft.of_preset(event.name), replace_all=True)

    def on_field_row_edited(self, event: FieldRow.Edited) -> None:
        """Another value; an empty text takes the edit back unless empty means something."""
        key, text = event.field.key, event.text.strip()
        if not text and not event.field.optional:
            self._take(self._draft.without(key))
            return
        try:
            self._take(self._draft.with_value(key, read(event.field, text)))
        except T5PanelError as error:
            self._take(self._draft.with_unread(key, error.faults[0]))

    def on_looked_ahead(self, event: LookedAhead) -> None:
        """Show the plan, unless a newer draft is already waiting for its own."""
        self._looking = False
        self._machine = event.machine
        self.query_one("#machine", Static).update(tr(event.machine.summary))
        if event.number != self._number:
            self._look_ahead()
            return
        self._prospect = event.prospect
        plan = event.prospect.plan if event.prospect else None
        pane = self.query_one(PlanPane)
        pane.state = PlanState(pane.state.formula, plan, event.faults)
        self.query_one(CommandPane).command = event.prospect.command if event.prospect else None
        self._found = found_by_key(plan, self._keys) if plan else {}
        self.query_one(FormPane).state = self._form_state(replace_all=False)
        self._show_banner(plan)
        self._offer(plan)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Queueing only while busy cards alone keep the run from starting; a suggestion only while there is one."""
        return {"queue": self._can_queue, "suggestion": self._suggestion is not None}.get(action, True)

    def action_start(self) -> None:
        """Ask for the start of what is on the screen."""
        self._ask_for_start(queue=False)

    def action_queue(self) -> None:
        """Ask for the same, once the cards are free."""
        self._ask_for_start(queue=True)

    def _ask_for_start(self, *, queue: bool) -> None:
        if time.monotonic() - self._form_left < SETTLE_SECONDS:
            self.notify(tr("enter once more starts the run"), timeout=2)
            return
        if self._checked.preset is None:
            for key, fault in self._checked.faults.items():
                self.notify(tr(fault.message), title=key or tr("settings"), severity="error", markup=False)
            return
        self.post_message(StartRequested(self._draft.wish, queue=queue))

    def action_edit(self) -> None:
        """Into the form."""
        self.add_class("-editing")
        focus = self.query_one(FormPane).focus_first
        if self.has_class("-slim"):
            self.call_after_refresh(focus)  # it is shown only now
        else:
            focus()

    def action_pick(self, key: str) -> None:
        """Choose the value of a setting from what there is."""
        from t5panel.tui.screens.data_picker import DataPicker, folder_of  # a MiB that most panels never need
        from t5panel.tui.screens.model_picker import ModelPicker

        spec = self._shown_spec()
        if spec is None:
            self.notify(tr("set right what is red first"), severity="warning")
            return

        def take_data(choice: DataChoice | None) -> None:
            if choice is not None:
                self._take_data(key, choice)

        def take_model(name: str | None) -> None:
            if name is not None:
                self._take(self._draft.with_value(key, name))

        folder = folder_of((value_at(spec, key), spec.data.train))
        if key.startswith("model."):
            picker = ModelPicker(value_at(spec, key) or "", folder, decoders=spec.method == "llamafactory")
            self.app.push_screen(picker, take_model)
        else:
            self.app.push_screen(DataPicker(spec, folder, self._services), take_data)

    def _take_data(self, key: str, choice: DataChoice) -> None:
        draft = self._draft.with_value(key, choice.path)
        columns = {"data.prompt_column": choice.prompt, "data.response_column": choice.response}
        for column, name in columns.items():
            if name is not None:
                draft = draft.with_value(column, name)
        self._take(draft)
        spec = self._shown_spec()
        if key == "data.train" and spec is not None:
            self._data_look, self._looked_at = choice.look, (spec.data.train, spec.model)
            self.query_one(FormPane).state = self._form_state(replace_all=False)

    def action_walk(self, by: int) -> None:
        """Along the form."""
        self.query_one(FormPane).walk(by)

    def action_leave_form(self) -> None:
        """Back to the methods, where enter starts."""
        self.remove_class("-editing")
        self.query_one(MethodList).focus()
        form = self.query_one(FormPane)
        form.rest()
        form.state = self._form_state(replace_all=False)

    async def action_all_settings(self) -> None:
        """More or fewer settings."""
        await self.query_one(FormPane).toggle_all()

    def action_suggestion(self) -> None:
        """Set what the plan suggests, unless it is the plan of an older draft."""
        if self._suggestion is None or self.query_one(PlanPane).state.pending:
            return
        draft = self._draft
        for key, value in self._suggestion.settings.items():
            draft = draft.with_value(key, value)
        self._take(draft)

    def action_save(self) -> None:
        """Ask for a name and save the draft under it."""
        if self._checked.preset is None:
            self.notify(tr("set right what is red first"), severity="warning")
            return
        self.app.push_screen(SaveDialog(), self._save)

    def _save(self, name: str | None) -> None:
        if name is None:
            return
        wish = self._draft.wish
        try:
            path = save_as(name, wish)
        except (T5PanelError, OSError) as error:
            self.notify(tr(str(error)), title=tr("not saved"), severity="error", markup=False)
            return
        text = tr("t5panel --preset {name} --no-ui starts it too", name=name)
        self.notify(text, title=tr("saved {path}", path=path), markup=False)
        self.query_one(MethodPane).show(methods(self._draft.given), name)

    def action_copy(self, what: Copied) -> None:
        """The t5panel line of this draft, or what that will run: to the terminal's clipboard, and both to a file."""
        preset, prospect = self._checked.preset, self._prospect
        if preset is None or prospect is None or self.query_one(PlanPane).state.pending:
            self.notify(tr("there is no command yet"), severity="warning")
            return
        line = command_line(self._draft.wish, preset.spec)
        self.app.copy_to_clipboard(line if what == "line" else prospect.command.line)
        file = command_file()
        try:
            file.parent.mkdir(parents=True, exist_ok=True, mode=PRIVATE)
            write_atomic(file, script(line, prospect).encode(), durable=False)
        except OSError as error:
            self.notify(str(error), title=tr("copied, but not to a file"), severity="warning", markup=False)
            return
        title = tr("copied the t5panel line") if what == "line" else tr("copied the launcher's line")
        self.notify(tr("both lines are in {file}", file=file), title=title, markup=False)

    def action_plan(self) -> None:
        """All of the plan, and the commands."""
        preset, prospect = self._checked.preset, self._prospect
        if preset is None or prospect is None:
            self.notify(tr("there is no plan yet"), severity="warning")
            return

        def answer(what: Copied | None) -> None:
            if what is not None:
                self.action_copy(what)

        self.app.push_screen(WholePlanDialog(prospect, command_line(self._draft.wish, preset.spec)), answer)

    def _take(self, draft: Draft, *, replace_all: bool = False) -> None:
        """Check a draft at once and look ahead a moment later."""
        before, after = self._draft.own_edits, draft.own_edits
        kept = {} if replace_all else self._found
        self._found = {key: text for key, text in kept.items() if before.get(key) == after.get(key)}
        self._draft, self._number = draft, self._number + 1
        self._checked = check(draft, self._machine, self._keys)
        self.query_one(FormPane).state = self._form_state(replace_all=replace_all)
        self.query_one(PlanPane).state = self._plan_at_once()
        if self._timer is not None:
            self._timer.stop()
        if self._checked.preset is None:
            self.query_one(CommandPane).command = None
        else:
            self._timer = self.set_timer(PAUSE_SECONDS, self._look_ahead)

    def _plan_at_once(self) -> PlanState:
        """What a keystroke changes, in closed form where the last look ahead was at the same model."""
        preset = self._checked.preset
        if preset is None:
            return PlanState(faults=tuple(self._checked.faults.values()))
        plan = glance_at(self._prospect, preset, self._draft.wish) if self._prospect is not None else None
        return PlanState(batch_formula(preset.spec), plan, pending=True)

    def _form_state(self, *, replace_all: bool) -> FormState:
        spec = self._shown_spec()
        # A whole mapping stays shown as typed until one of its parts is edited after it.
        edits = self._draft.own_edits
        whole = {key: value for key, value in edits.items() if not any(k.startswith(f"{key}.") for k in edits)}
        given = {PRICE: self._draft.given.price, SAMPLES: self._draft.given.samples}
        values = {key: value_at(spec, key) for key in self._keys if key not in given} | given if spec else {}
        return FormState(
            texts={key: self._text_of(key, value) for key, value in {**values, **whole}.items()},
            edited=frozenset(edits),
            faults={**self._found, **{key: fault.message for key, fault in self._checked.faults.items()}},
            hidden=frozenset() if spec is None else _not_of(spec.method),
            notes=self._notes(spec),
            replace_all=replace_all,
        )

    def _notes(self, spec: RunSpec | None) -> dict[str, str]:
        """What the look at the chosen data says to the settings that it concerns."""
        if spec is None or self._data_look is None or self._looked_at != (spec.data.train, spec.model):
            return {}
        line = lengths_line(self._data_look, (spec.data.max_source_length, spec.data.max_target_length))
        return dict.fromkeys(("data.train", "data.max_source_length", "data.max_target_length"), line)

    def _text_of(self, key: str, value: Any) -> str:  # noqa: ANN401
        """As `text_of`, which takes a millisecond for a mapping; most stay as they are from key to key."""
        known, text = self._texts.get(key, (None, ""))
        if known != value or type(known) is not type(value):
            text = text_of(value)
            self._texts[key] = (value, text)
        return text

    def _shown_spec(self) -> RunSpec | None:
        """The draft's spec; while it has faults, the preset's without the edits made here."""
        checked = self._checked
        if checked.preset is None:
            checked = check(replace(self._draft, edits={}, unread={}), self._machine, self._keys)
        return checked.preset.spec if checked.preset else None

    def _look_ahead(self) -> None:
        """One look at a time: for a user's own model it starts an interpreter."""
        if not self._looking and self._checked.preset is not None:
            self._looking = True
            self._look(self._number, self._draft.wish)

    @work(thread=True, group="look", exit_on_error=True)
    def _look(self, number: int, wish: Wish) -> None:
        machine, now = self._machine, self._services.clock()
        if abs(now - self._machine_read) >= MACHINE_SECONDS:
            machine, self._machine_read = self._services.machine(), now
        try:
            self.post_message(LookedAhead(number, machine, self._services.prospect(wish, machine)))
        except (T5PanelError, OSError) as error:
            self.post_message(LookedAhead(number, machine, faults=planning_faults(error)))

    def _offer(self, plan: Plan | None) -> None:
        """The keys that have an effect on this plan."""
        can_wait = plan is not None and can_queue(finding.code for finding in plan.errors)
        suggestion = next(iter(plan.suggestions), None) if plan is not None else None
        if (can_wait, suggestion) != (self._can_queue, self._suggestion):
            self._can_queue, self._suggestion = can_wait, suggestion
            self.refresh_bindings()

    def _show_banner(self, plan: Plan | None) -> None:
        banner = self.query_one("#banner", Static)
        banner.display = plan is not None and plan.rehearsal
        if plan is not None and plan.rehearsal:
            banner.update(Content.assemble((tr("REHEARSAL") + " ", "bold"), rehearsal_headline(plan)))


def _not_of(method: Method) -> frozenset[str]:
    """Settings that mean nothing to a method."""
    engine = () if method in SHARDED else (ZERO_STAGE, "deepspeed")
    return frozenset((*engine, *(() if method == "llamafactory" else ("llamafactory",))))

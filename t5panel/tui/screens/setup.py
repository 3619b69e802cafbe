"""Setup: choose a method, edit settings, see what would run, start it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content
from textual.events import DescendantBlur
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Static

from t5panel.contract.spec import RunSpec
from t5panel.errors import T5PanelError
from t5panel.language import tr
from t5panel.plan.machine import Machine
from t5panel.plan.planning import Plan, batch_formula
from t5panel.plan.solve import Suggestion
from t5panel.render import rehearsal_headline
from t5panel.session import can_queue, save_as
from t5panel.tui.draft import Checked, Draft, check, command_line, methods
from t5panel.tui.faults import planning_faults
from t5panel.tui.fields import ZERO_STAGE, form_fields, read, text_of, value_at
from t5panel.tui.messages import LookedAhead, StartRequested
from t5panel.tui.screens.save import SaveDialog
from t5panel.tui.services import Services
from t5panel.tui.widgets.command_pane import CommandPane
from t5panel.tui.widgets.form import FieldRow, FormPane, FormState
from t5panel.tui.widgets.header import HeaderBar
from t5panel.tui.widgets.key_bar import KeyBar
from t5panel.tui.widgets.methods import MethodList, MethodPane
from t5panel.tui.widgets.plan_pane import PlanPane
from t5panel.wish import Wish

PAUSE_SECONDS = 0.15
"""From the last key to the look ahead, which may start an interpreter."""
SETTLE_SECONDS = 0.5
"""From the form to a start: enter is pressed twice easily, and a start is three ranks."""
MACHINE_SECONDS = 2.0
"""A reading of the machine holds this long."""
SHARDED = ("deepspeed", "llamafactory")


class SetupScreen(Screen[None]):
    """Turns keys into a draft, and a draft into a plan, a command and a start."""

    AUTO_FOCUS = "MethodList"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "all_settings", "all settings", tooltip="Show every setting of a run, or the main ones"),
        Binding("f", "suggestion", "use suggestion", tooltip="Set what the plan suggests: what fits, or is faster"),
        Binding("p", "save", "save preset", show=False, tooltip="Save these settings as a preset of your own"),
        Binding("w", "queue", "queue", tooltip="Queue the run: it starts when its cards are free"),
        Binding("y", "copy", "copy", tooltip="Copy the t5panel line that starts this without the panel"),
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

    def on_screen_resume(self) -> None:
        """Look again: what runs by now takes memory."""
        self._look_ahead()

    def on_descendant_blur(self, event: DescendantBlur) -> None:
        """Remember when the form was left."""
        if not isinstance(event.widget, MethodList):
            self._form_left = time.monotonic()

    def on_method_pane_chosen(self, event: MethodPane.Chosen) -> None:
        """Another preset."""
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
        pane = self.query_one(PlanPane)
        pane.pending, pane.faults = False, event.faults
        pane.plan = event.prospect.plan if event.prospect else None
        self.query_one(CommandPane).command = event.prospect.command if event.prospect else None
        self._show_banner(pane.plan)
        self._offer(pane.plan)

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
            return
        if self._checked.preset is None:
            for key, fault in self._checked.faults.items():
                self.notify(tr(fault.message), title=key or tr("settings"), severity="error", markup=False)
            return
        self.post_message(StartRequested(self._draft.wish, queue=queue))

    def action_edit(self) -> None:
        """Into the form."""
        self.query_one(FormPane).focus_first()

    def action_walk(self, by: int) -> None:
        """Along the form."""
        self.query_one(FormPane).walk(by)

    def action_leave_form(self) -> None:
        """Back to the methods, where enter starts."""
        self.query_one(MethodList).focus()
        form = self.query_one(FormPane)
        form.rest()
        form.state = self._form_state(replace_all=False)

    async def action_all_settings(self) -> None:
        """More or fewer settings."""
        await self.query_one(FormPane).toggle_all()

    def action_suggestion(self) -> None:
        """Set what the plan suggests, unless it is the plan of an older draft."""
        if self._suggestion is None or self.query_one(PlanPane).pending:
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

    def action_copy(self) -> None:
        """The t5panel command of this draft, to the terminal's clipboard."""
        if self._checked.preset is None:
            self.notify(tr("there is no command yet"), severity="warning")
            return
        self.app.copy_to_clipboard(command_line(self._draft.wish, self._checked.preset.spec))
        self.notify(tr("copied the t5panel line"))

    def _take(self, draft: Draft, *, replace_all: bool = False) -> None:
        """Check a draft at once and look ahead a moment later."""
        self._draft, self._number = draft, self._number + 1
        self._checked = check(draft, self._machine, self._keys)
        self.query_one(FormPane).state = self._form_state(replace_all=replace_all)
        pane = self.query_one(PlanPane)
        pane.faults = tuple(self._checked.faults.values())
        pane.formula = batch_formula(self._checked.preset.spec) if self._checked.preset else ""
        if replace_all:
            pane.plan = None
        if self._timer is not None:
            self._timer.stop()
        if self._checked.preset is None:
            self.query_one(CommandPane).command = None
        else:
            pane.pending = True
            self._timer = self.set_timer(PAUSE_SECONDS, self._look_ahead)

    def _form_state(self, *, replace_all: bool) -> FormState:
        spec = self._shown_spec()
        # A whole mapping stays shown as typed until one of its parts is edited after it.
        edits = self._draft.own_edits
        whole = {key: value for key, value in edits.items() if not any(k.startswith(f"{key}.") for k in edits)}
        values = {key: value_at(spec, key) for key in self._keys} if spec else {}
        return FormState(
            texts={key: text_of(value) for key, value in {**values, **whole}.items()},
            edited=frozenset(edits),
            faults={key: fault.message for key, fault in self._checked.faults.items()},
            hidden=frozenset() if spec is None or spec.method in SHARDED else frozenset({ZERO_STAGE, "deepspeed"}),
            replace_all=replace_all,
        )

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

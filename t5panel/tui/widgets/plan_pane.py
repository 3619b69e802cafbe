"""The plan beside the form: effective batch, verdict, memory by part, speed, findings."""

from __future__ import annotations

from dataclasses import dataclass

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from t5panel.errors import Fault
from t5panel.language import tr
from t5panel.plan.planning import Plan
from t5panel.tui.plan_text import ROOMY, plan_parts

HIGH = 12
"""Rows from which there is room for words that explain a figure."""


@dataclass(frozen=True)
class PlanState:
    """What the pane shows; `pending`: the plan is a glance, and the exact one is being made."""

    formula: str = ""
    plan: Plan | None = None
    faults: tuple[Fault, ...] = ()
    pending: bool = False


class PlanPane(Widget):
    """Shows what would happen; with faults, what must be set right first.

    It draws as much as there is room for: a scrolling text would cost every keystroke a layout of the screen. And it
    is drawn a frame later than the field that was typed into: Textual draws anew all that lies between two changes.
    """

    state: reactive[PlanState] = reactive(PlanState(), repaint=False)

    def __init__(self) -> None:
        super().__init__(classes="section")
        self.border_title = tr("Plan")

    def watch_state(self) -> None:
        """Draw it, after what is drawn already."""
        self.call_after_refresh(self._draw)

    def _draw(self) -> None:
        """While a new plan is made, say that the figures are a glance."""
        state = self.state
        if state.pending:
            self.border_title = tr("Plan · ≈ in closed form…") if state.plan else tr("Plan · checking…")
        else:
            self.border_title = tr("Plan · v shows all") if state.plan else tr("Plan")
        self.refresh()

    def render(self) -> Content:
        """As much of it as there is room for."""
        state, (width, height) = self.state, self.content_size
        brief = width < ROOMY or height < HIGH
        return Content.assemble(*plan_parts(state.formula, state.plan, state.faults, width=width, brief=brief))

"""All that is known of a run before it starts: the plan, its basis, and the exact commands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.events import Resize
from textual.screen import ModalScreen
from textual.widgets import Static

from t5panel.language import tr
from t5panel.plan.planning import batch_formula
from t5panel.session import Prospect
from t5panel.tui.parts import Part
from t5panel.tui.plan_text import plan_parts

Copied = Literal["line", "launch"]
"""The t5panel line, or what the supervisor will run."""

FRAME = 6
"""Cells of the dialog beside its text."""


class WholePlanDialog(ModalScreen[Copied | None]):
    """Shows what the setup has no room for; scrolls. Gives the command that is to be copied."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q,v", "close", "close"),
        Binding("y", "copy('line')", "copy"),
        Binding("Y", "copy('launch')", "copy the launch line"),
    ]

    def __init__(self, prospect: Prospect, line: str) -> None:
        super().__init__()
        self._prospect, self._line = prospect, line

    def compose(self) -> ComposeResult:
        """Title, all of it, keys."""
        with Vertical(classes="dialog -large"):
            yield Static(tr("The plan and its commands"), classes="title")
            with VerticalScroll(classes="body"):
                yield Static(id="whole")
            keys = (
                ("↑ ↓", tr("scroll")),
                ("y", tr("copy t5panel's line")),
                ("Y", tr("the launcher's")),
                ("esc", tr("close")),
            )
            yield Static(
                Content.assemble(*(part for key, text in keys for part in ((f" {key} ", "reverse"), f" {text}  ")))
            )

    def on_resize(self, event: Resize) -> None:
        """Bars as wide as there is room."""
        width = max(30, min(event.size.width * 96 // 100, 118) - FRAME)
        plan = self._prospect.plan
        parts = plan_parts(batch_formula(plan.spec), plan, (), width=width)
        commands = command_parts(self._prospect, self._line)
        self.query_one("#whole", Static).update(Content.assemble(*parts, "\n", *commands).rstrip())

    def action_close(self) -> None:
        """Close it."""
        self.dismiss()

    def action_copy(self, what: Copied) -> None:
        """Close it, and have one of the commands copied."""
        self.dismiss(what)


def command_parts(prospect: Prospect, line: str) -> Iterator[Part]:
    """Each command by what it is for, as it can be pasted."""
    yield from ((tr("starts this run without the panel") + "\n", "$quiet"), f"{line}\n\n")
    yield from ((tr("the supervisor runs first, once") + "\n", "$quiet"), f"{prospect.prepare.line}\n\n")
    yield from ((tr("and then") + "\n", "$quiet"), f"{prospect.command.line}\n")
    for path, text in prospect.command.files.items():
        yield from ((f"\n{path}\n", "$quiet"), text)

"""The question before a start that leaves little memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from t5panel.cells import left
from t5panel.language import tr
from t5panel.plan.machine import GIB
from t5panel.plan.planning import Plan
from t5panel.tui.parts import Part


class TightDialog(ModalScreen[bool]):
    """Says what is tight; True when the run shall start all the same."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "start", "start"),
        Binding("escape,q", "back", "back"),
    ]

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self._plan = plan

    def compose(self) -> ComposeResult:
        """Title, figures, keys."""
        with Vertical(classes="dialog"):
            yield Static(tr("Memory is tight. Start all the same?"), classes="title")
            yield Static(Content.assemble(*tight_parts(self._plan)).rstrip(), classes="body")
            start, back = f" {tr('start')}   ", f" {tr('back')}"
            yield Static(Content.assemble((" enter ", "reverse $accent"), start, (" esc ", "reverse"), back))

    def action_start(self) -> None:
        """Start."""
        self.dismiss(True)

    def action_back(self) -> None:
        """Not like this."""
        self.dismiss(False)


def tight_parts(plan: Plan) -> Iterator[Part]:
    """Every card that is tight, and the host when it is; what runs out first may end the run."""
    for card in plan.cards:
        if card.verdict == "tight":
            yield _line(tr("card {index}", index=card.index), card.expected, card.capacity)
    if plan.ram is not None and plan.ram.verdict == "tight":
        yield _line(tr("host RAM"), plan.ram.total, plan.ram.capacity)
    yield (tr("An estimate: a run that needs more is ended when the memory runs out."), "$quiet")


def _line(name: str, need: int, capacity: int) -> str:
    return left(name, 9) + tr("{need:.1f} of {capacity:.1f} GiB", need=need / GIB, capacity=capacity / GIB) + "\n"

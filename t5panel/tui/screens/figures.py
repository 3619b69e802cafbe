"""The figures of a run, each with what it rests on; where the time goes, as a bar."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from t5panel.cells import left, wrapped
from t5panel.contract.records import Card
from t5panel.language import tr
from t5panel.monitor.history import Snapshot
from t5panel.monitor.pace import TimeShares
from t5panel.plan.machine import GIB
from t5panel.render.figures import figures, time_basis
from t5panel.tui.parts import Part

NAME_CELLS = 16
SCROLLBAR_CELLS = 2


class FiguresDialog(ModalScreen[None]):
    """Shows them as they were when it was opened; scrolls."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,q,i", "close", "close")]

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self._snapshot = snapshot

    def compose(self) -> ComposeResult:
        """Title, all of it, keys."""
        with Vertical(classes="dialog -large"):
            yield Static(tr("Figures of this run"), classes="title")
            with VerticalScroll(classes="body"):
                yield Static(id="figures")
            keys = ((" ↑ ↓ ", "reverse"), f" {tr('scroll')}   ", (" esc ", "reverse"), f" {tr('close')}")
            yield Static(Content.assemble(*keys))

    def on_mount(self) -> None:
        """Tell them once the width is known."""
        self.call_after_refresh(self._tell)

    def on_resize(self) -> None:
        """Fold them to the new width."""
        self.call_after_refresh(self._tell)

    def _tell(self) -> None:
        text = self.query_one("#figures", Static)
        width = self.query_one(VerticalScroll).size.width - SCROLLBAR_CELLS
        text.update(Content.assemble(*figure_parts(self._snapshot, width)).rstrip())

    def action_close(self) -> None:
        """Close it."""
        self.dismiss(None)


def figure_parts(snapshot: Snapshot, width: int) -> Iterator[Part]:
    """Each figure and below it its basis, in `width` cells; where the time goes as a bar; a line for each card."""
    told = list(figures(snapshot))
    if not told:
        yield (f"{tr('no step yet')}\n", "$quiet")
    for name, value, basis in told:
        yield from ((left(name, NAME_CELLS), "$quiet"), (f"{value}\n", "bold"))
        yield from _indented(basis, width)
    shares = snapshot.time_shares
    if shares is not None:
        yield from ((left(tr("time goes to"), NAME_CELLS), "$quiet"), *time_bar(shares, max(10, width - NAME_CELLS)))
        yield from _indented(time_basis(shares), width)
    for card in snapshot.sample.cards if snapshot.sample is not None else ():
        yield from ((left(tr("card {index}", index=card.index), NAME_CELLS), "$quiet"), f"{card_text(card)}\n")


def _indented(text: str, width: int) -> Iterator[Part]:
    lines = wrapped(text, max(20, width - NAME_CELLS))
    yield from ((f"{'':<{NAME_CELLS}}{line}\n", "$quiet") for line in lines)


def time_bar(shares: TimeShares, width: int) -> Iterator[Part]:
    """A step's seconds side by side, each with a sign of its own, and below what each of them is."""
    told = ((tr("compute"), shares.rest, "█", "$primary"), (tr("data wait"), shares.data, "▒", "$accent"))
    waits = (
        ((tr("communication"), shares.communication, "░", "$secondary"),) if shares.communication is not None else ()
    )
    parts, end, drawn = (*told, *waits), 0.0, 0
    for _, share, sign, style in parts:
        end += share
        cells = round(end * width) - drawn
        drawn += cells
        yield (sign * cells, style)
    yield f"\n{'':<{NAME_CELLS}}"
    for name, share, sign, style in parts:
        yield from ((f"{sign} ", style), f"{name} {share:.1%}   ")
    yield "\n"


def card_text(card: Card) -> str:
    """`12.0 of 20.0 GiB, 96 %, 310 W, 70 °C, slowed by heat`; what NVML does not say is left out."""
    words = [f"{card.used / GIB:.1f} of {card.total / GIB:.1f} GiB"]
    readings = ((card.utilization, "%"), (card.power, "W"), (card.temperature, "°C"))
    words += [f"{value:.0f} {unit}" for value, unit in readings if value is not None]
    return ", ".join([*words, *card.throttle])

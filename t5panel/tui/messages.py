"""What screens and workers tell each other. Values go down by reactives, these go up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.message import Message

if TYPE_CHECKING:
    from t5panel.contract.layout import RunDir
    from t5panel.errors import Fault
    from t5panel.plan.machine import Machine
    from t5panel.session import Prospect
    from t5panel.tui.listing import RunRow
    from t5panel.tui.view import RunView
    from t5panel.wish import Wish


class Opened(Message):
    """The machine was read and the runs were looked at; `live` is the newest run that is alive."""

    def __init__(self, machine: Machine, live: RunDir | None) -> None:
        super().__init__()
        self.machine, self.live = machine, live


class LookedAhead(Message):
    """What the wish with this number would start, or why it cannot; an older number is out of date."""

    def __init__(self, number: int, prospect: Prospect | None, faults: tuple[Fault, ...]) -> None:
        super().__init__()
        self.number, self.prospect, self.faults = number, prospect, faults


class StartRequested(Message):
    """The user wants this to run now."""

    def __init__(self, wish: Wish) -> None:
        super().__init__()
        self.wish = wish


class ResumeRequested(Message):
    """The user wants an ended run to go on."""

    def __init__(self, run: RunDir) -> None:
        super().__init__()
        self.run = run


class Started(Message):
    """A run was started or resumed."""

    def __init__(self, run: RunDir) -> None:
        super().__init__()
        self.run = run


class Refused(Message):
    """What was asked for did not happen; every reason is in `faults`."""

    def __init__(self, what: str, faults: tuple[Fault, ...]) -> None:
        super().__init__()
        self.what, self.faults = what, faults


class RunChosen(Message):
    """The user wants to see this run."""

    def __init__(self, run: RunDir) -> None:
        super().__init__()
        self.run = run


class Watched(Message):
    """A run as it is now."""

    def __init__(self, view: RunView) -> None:
        super().__init__()
        self.view = view


class Listed(Message):
    """All runs as they are now."""

    def __init__(self, rows: tuple[RunRow, ...]) -> None:
        super().__init__()
        self.rows = rows

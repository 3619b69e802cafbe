"""What screens and workers tell each other. Values go down by reactives, these go up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.message import Message

if TYPE_CHECKING:
    from t5panel.contract.layout import RunDir
    from t5panel.errors import Fault
    from t5panel.monitor.history import History
    from t5panel.plan.machine import Machine
    from t5panel.plan.planning import Plan
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

    def __init__(
        self, number: int, machine: Machine, prospect: Prospect | None = None, faults: tuple[Fault, ...] = ()
    ) -> None:
        super().__init__()
        self.number, self.machine, self.prospect, self.faults = number, machine, prospect, faults


class StartRequested(Message):
    """The user wants this to run: now, or as soon as its cards are free."""

    def __init__(self, wish: Wish, *, queue: bool = False) -> None:
        super().__init__()
        self.wish, self.queue = wish, queue


class ResumeRequested(Message):
    """The user wants an ended run to go on: now, or as soon as its cards are free."""

    def __init__(self, run: RunDir, *, queue: bool = False) -> None:
        super().__init__()
        self.run, self.queue = run, queue


class Told(Message):
    """What takes some seconds from now on."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


class Doubted(Message):
    """What was asked for fits so tightly that the user is asked again."""

    def __init__(self, request: StartRequested, plan: Plan) -> None:
        super().__init__()
        self.request, self.plan = request, plan


class RunRead(Message):
    """A run to be shown, or why it cannot be; neither when there is no run. `started`: just now, from here."""

    def __init__(
        self,
        run: RunDir | None,
        history: History | None = None,
        faults: tuple[Fault, ...] = (),
        *,
        started: bool = False,
    ) -> None:
        super().__init__()
        self.run, self.history, self.faults, self.started = run, history, faults, started


class Refused(Message):
    """What was asked for did not happen; every reason is in `faults`. `queued`: the same, once the cards are free."""

    def __init__(
        self, what: str, faults: tuple[Fault, ...], *, queued: StartRequested | ResumeRequested | None = None
    ) -> None:
        super().__init__()
        self.what, self.faults, self.queued = what, faults, queued


class RunChosen(Message):
    """The user wants to see this run."""

    def __init__(self, run: RunDir) -> None:
        super().__init__()
        self.run = run


class Watched(Message):
    """A run as it is now, or why it cannot be read."""

    def __init__(self, view: RunView | None, faults: tuple[Fault, ...] = ()) -> None:
        super().__init__()
        self.view, self.faults = view, faults


class StopAsked(Message):
    """A run was asked to end; not `heard` when it had ended already."""

    def __init__(self, *, heard: bool) -> None:
        super().__init__()
        self.heard = heard


class Listed(Message):
    """All runs as they are now."""

    def __init__(self, rows: tuple[RunRow, ...]) -> None:
        super().__init__()
        self.rows = rows

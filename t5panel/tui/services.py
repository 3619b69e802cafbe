"""What the panel asks of the world, as values that a test can replace."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from t5panel.contract.layout import RunDir
    from t5panel.contract.spec import RunSpec
    from t5panel.plan.machine import Machine
    from t5panel.preflight.peek import Peek
    from t5panel.session import Prospect
    from t5panel.wish import Wish


def machine_here() -> Machine:
    """This machine."""
    from t5panel.preflight.machine import read_machine

    return read_machine()


def prospect_here(wish: Wish, machine: Machine) -> Prospect:
    """What a wish would start here.

    Raises: T5PanelError with every fault.
    """
    from t5panel.session import prospect

    return prospect(wish, machine=machine)


def start_here(prospect: Prospect, queue: bool, tell: Callable[[str], None]) -> RunDir:
    """Start it, or let it wait for its cards; `tell` hears of what takes seconds.

    Raises: T5PanelError with everything that blocks the start.
    """
    from t5panel.session import start

    return start(prospect, queue=queue, tell=tell)


def peek_here(spec: RunSpec) -> Peek:
    """A look at the training data of a spec, in a process of its own."""
    from t5panel.preflight.peek import Peek

    return Peek(spec)


@dataclass(frozen=True)
class Services:
    """Machine, planning, start, clock (unix seconds), and looks at data."""

    machine: Callable[[], Machine] = machine_here
    prospect: Callable[[Wish, Machine], Prospect] = prospect_here
    start: Callable[[Prospect, bool, Callable[[str], None]], RunDir] = start_here
    clock: Callable[[], float] = time.time
    peek: Callable[[RunSpec], Peek] = peek_here

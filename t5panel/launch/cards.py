"""Which run holds which card: one lock per card, held as long as the supervisor lives, and a line of those who wait."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from t5panel.contract.layout import PRIVATE, RunDir, write_atomic
from t5panel.launch.locks import take_lock
from t5panel.monitor.proc import is_alive, read_process


class Ticket(msgspec.Struct, frozen=True):
    """A place in the line: who waits, and for which cards."""

    run: str
    cards: tuple[int, ...]
    pid: int
    start_time: int


@dataclass(frozen=True, slots=True)
class Taken:
    """A card that cannot be had, and the run that has it or comes first."""

    card: int
    run_id: str

    def __str__(self) -> str:
        return f"card {self.card} is used by run {self.run_id}"


class Cards:
    """The cards of one run, as its supervisor holds them. The locks vanish with the process, however it dies."""

    def __init__(self, home: Path, run: RunDir, created: float, cards: Sequence[int]) -> None:
        self._home, self._run, self._cards = home, run, tuple(sorted(cards))
        self._line = home / "waiting"
        self._ticket = self._line / f"{created:017.6f}-{run.run_id}"
        self._held: list[int] = []

    def take(self) -> Taken | None:
        """Hold all cards from now on, or none; what stands in the way."""
        if self._held or not self._cards:
            return None
        self._home.mkdir(parents=True, exist_ok=True, mode=PRIVATE)
        for card in self._cards:
            path = self._home / f"{card}.lock"
            descriptor = take_lock(path)
            if descriptor is None:
                holder = path.read_text(encoding="utf-8", errors="replace")
                self.release()
                return Taken(card, holder or "of another start")
            self._held.append(descriptor)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, self._run.run_id.encode(), 0)
        self.leave_line()
        return None

    def take_in_turn(self) -> Taken | None:
        """As `take`, after all who have waited longer for one of these cards."""
        taken = next(self._before_us(), None) or self.take()
        if taken is not None and not self._ticket.exists():
            self._line.mkdir(parents=True, exist_ok=True, mode=PRIVATE)
            me = read_process(os.getpid())
            ticket = Ticket(self._run.run_id, self._cards, os.getpid(), me.start_time if me else 0)
            write_atomic(self._ticket, msgspec.json.encode(ticket), durable=False)
        return taken

    def release(self) -> None:
        """Let the cards go."""
        for descriptor in self._held:
            os.close(descriptor)
        self._held = []

    def leave_line(self) -> None:
        """Wait no more."""
        self._ticket.unlink(missing_ok=True)

    def _before_us(self) -> Iterator[Taken]:
        tickets = sorted(self._line.iterdir()) if self._line.is_dir() else []
        for path in (path for path in tickets if path < self._ticket and not path.name.startswith(".")):
            with contextlib.suppress(OSError, msgspec.DecodeError):
                ticket = msgspec.json.decode(path.read_bytes(), type=Ticket)
                if not is_alive(ticket.pid, ticket.start_time):
                    path.unlink(missing_ok=True)
                elif common := sorted(set(ticket.cards) & set(self._cards)):
                    yield Taken(common[0], ticket.run)

"""What the end of the ranks must give back: their processes, the memory of their cards, the ports they listened on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass
from typing import TypeVar

from t5panel.launch.processes import Stopped
from t5panel.monitor.proc import describe
from t5panel.monitor.sockets import Listener, holders_of, listeners
from t5panel.monitor.watchdogs import Alert

VRAM_SECONDS = 10.0
"""After its last process a card's memory must be back where it was."""
PORT_SECONDS = 2.0
"""After its last process its sockets are closed, unless another one holds them."""
RELEASE_TOLERANCE = 64 * 2**20
_POLL_SECONDS = 0.1

Memory = Mapping[int, int]
"""Bytes in use by card."""
S = TypeVar("S", bound=Sized)


@dataclass(frozen=True, slots=True)
class Release:
    """`3 ranks gone in 4.1 s, VRAM released`: what was proven, and whatever is still held."""

    text: str
    held: tuple[Alert, ...]


def prove_release(
    stopped: Stopped,
    *,
    ranks: int,
    seconds: float,
    vram_before: Memory,
    vram: Callable[[], Memory],
    ports: frozenset[Listener],
) -> Release:
    """Look until everything is given back, or its time is over. Bytes by card."""
    alive = _alive(stopped)
    memory = _vram_held(vram_before, vram) if vram_before else None
    held = tuple(found for found in (alive, memory, _ports_held(ports)) if found is not None)
    words = [] if alive else [f"{ranks} rank{'s' if ranks != 1 else ''} gone in {seconds:.1f} s"]
    words += ["VRAM released"] if vram_before and not memory else []
    return Release(", ".join((*words, *(found.message for found in held))), held)


def _alive(stopped: Stopped) -> Alert | None:
    names = ", ".join(map(describe, stopped.survivors))
    return Alert("survivors", "error", f"{names} cannot be killed; a reboot may be needed") if names else None


def _vram_held(before: Memory, now: Callable[[], Memory]) -> Alert | None:
    def more() -> dict[int, int]:
        grown = {card: used - before.get(card, used) for card, used in now().items()}
        return {card: size for card, size in grown.items() if size > RELEASE_TOLERANCE}

    held = _until_nothing(more, VRAM_SECONDS)
    words = ", ".join(f"card {card} {size / 2**20:,.0f} MiB" for card, size in held.items())
    return Alert("vram-held", "warning", f"VRAM not released: {words} more in use than before") if words else None


def _ports_held(ports: frozenset[Listener]) -> Alert | None:
    """A socket that a process of the run has handed to another one keeps its port from the next run."""
    left = _until_nothing(lambda: listeners() & ports, PORT_SECONDS) if ports else frozenset[Listener]()
    words = ", ".join(_port_text(listener) for listener in sorted(left, key=lambda listener: listener.port))
    return Alert("port-held", "warning", words) if words else None


def _port_text(listener: Listener) -> str:
    names = ", ".join(map(describe, holders_of(listener))) or "a process that cannot be seen from here"
    return f"port {listener.port} is not free: {names} holds it"


def _until_nothing(look: Callable[[], S], seconds: float) -> S:
    """What is still there after some seconds, or nothing as soon as nothing is."""
    deadline = time.monotonic() + seconds
    while (left := look()) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return left

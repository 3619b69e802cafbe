"""The machine a plan is made for: read from the hardware, or described by the user."""

from __future__ import annotations

import re
from dataclasses import dataclass

from t5panel.errors import UsageError

GIB = 2**30
UNNAMED = "card"
"""The name of a described card that was given none."""


@dataclass(frozen=True, slots=True)
class CardFacts:
    """One card: PCI index, name, VRAM in bytes."""

    index: int
    name: str
    total: int
    used: int = 0
    driver: str = ""
    """Version of the NVIDIA driver; empty for a described card, and when NVML does not say."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Cards and host memory in bytes. `ram_limit` is what this process may use at most (cgroup-aware)."""

    cards: tuple[CardFacts, ...]
    ram_limit: int
    cores: int
    ours: bool = True
    """False for a described machine: nothing is known of its disk."""

    @property
    def summary(self) -> str:
        """`3 x RTX 3080 20 GiB · 12 GiB RAM`, or that there is no card."""
        ram = f"{self.ram_limit / GIB:.0f} GiB RAM"
        if not self.cards:
            return f"no NVIDIA card · {ram}"
        return f"{len(self.cards)} × {self.cards[0].name} {self.cards[0].total / GIB:.0f} GiB · {ram}"


def parse_machine(text: str, *, cores: int) -> Machine:
    """`3x20GiB,12GiB` as three cards of 20 GiB and 12 GiB of host RAM; `3xRTX 3080 20GiB,12GiB` names them too.

    Raises: UsageError for any other form.
    """
    match = re.fullmatch(r"(\d+) *x *(?:(\S.*?) +)?(\d+(?:\.\d+)?) *GiB *, *(\d+(?:\.\d+)?) *GiB", text.strip())
    if not match:
        raise UsageError.of(
            "--machine", f"{text!r} is not a machine", "for example 3x20GiB,12GiB: cards, then host RAM"
        )
    count, vram, ram = int(match[1]), int(float(match[3]) * GIB), int(float(match[4]) * GIB)
    cards = tuple(CardFacts(index, match[2] or UNNAMED, vram) for index in range(count))
    return Machine(cards, ram_limit=ram, cores=cores, ours=False)

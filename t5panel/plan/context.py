"""What stands on a card beside torch's allocator: the CUDA context with its modules, and NCCL's communicator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from t5panel.contract.memory_table import minor
from t5panel.plan.allocator import MIB
from t5panel.plan.machine import CardFacts

if TYPE_CHECKING:
    from t5panel.contract.spec import RunSpec

CONTEXT = 639 * MIB
"""CUDA context and loaded modules. Source: measured on one H100 with torch 2.11; differs by card."""
COMMUNICATOR = 566 * MIB
"""NCCL communicator on top of the context. Same measurement, a world of one."""
LARGE_CONTEXT = 1327 * MIB
"""The same on an H200 under our trainers with torch 2.11 for CUDA 13, the most that was seen on any card."""
LARGE_COMMUNICATOR = 766 * MIB
"""On top of it with two of them and ZeRO; 385 MiB with DeepSpeed on one."""
ASSUMED_BASIS = "context as measured on one H100, at most as on an H200"
NEWEST = 5
"""Measurements that count, so that a new driver setting is soon believed and one odd run never."""


class Site(msgspec.Struct, frozen=True):
    """What the size of a context depends on."""

    card: str
    driver: str
    torch: str
    """Major and minor version."""
    distributed: bool
    """With a communicator: of more than one rank, or DeepSpeed's of one."""


class MeasuredContext(msgspec.Struct, frozen=True):
    """What one run took of its cards beside torch's allocator, in bytes; of several like cards, the most."""

    run_id: str
    time: float
    site: Site
    size: int


def has_communicator(method: object, ranks: int) -> bool:
    """Whether NCCL is set up: DeepSpeed does so for a rank alone too, which took 395 MiB more on one H200."""
    return ranks > 1 or method == "deepspeed"


@dataclass(frozen=True, slots=True)
class Context:
    """Bytes, the most that they may be, and how they are known."""

    size: int
    most: int
    basis: str


def context_of(
    spec: RunSpec, card: CardFacts, versions: Mapping[str, str], measured: tuple[MeasuredContext, ...]
) -> Context:
    """What the driver and NCCL take of a card: the median of the newest runs there, else what it was on other cards.

    Of two in the middle the larger: what is planned too low ends a run.
    """
    site = Site(card.name, card.driver, minor(versions.get("torch", "")), has_communicator(spec.method, spec.num_gpus))
    here = sorted((each for each in measured if each.site == site), key=lambda each: each.time)[-NEWEST:]
    if not here:
        small, large = (COMMUNICATOR, LARGE_COMMUNICATOR) if site.distributed else (0, 0)
        return Context(CONTEXT + small, LARGE_CONTEXT + large, ASSUMED_BASIS)
    runs = f"{len(here)} run{'s' if len(here) > 1 else ''}"
    middle = sorted(each.size for each in here)[len(here) // 2]
    return Context(middle, middle, f"context calibrated on this machine ({runs})")

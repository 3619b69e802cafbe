"""What torch says when a card's memory runs out, and the nearest batch that needs less."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_SIZE = r"([\d.]+) (bytes|KiB|MiB|GiB|TiB)"
_SIZES = {
    "requested": rf"Tried to allocate {_SIZE}",
    "total": rf"total capac(?:i?ty) of {_SIZE}|{_SIZE} total capacity",
    "free": rf"of which {_SIZE} is free|{_SIZE} free;",
    "allocated": rf"{_SIZE} is allocated by PyTorch|{_SIZE} already allocated",
    "unallocated": rf"{_SIZE} is reserved by PyTorch but unallocated",
    "reserved": rf"{_SIZE} reserved in total by PyTorch|{_SIZE} cached",
    "others": rf"Process \d+ has {_SIZE} memory in use",
}
_CARD = re.compile(r"\bGPU (\d+)\b")


@dataclass(frozen=True, slots=True)
class Shortage:
    """One CUDA out-of-memory; bytes, None where the message does not say."""

    card: int | None = None
    """As torch counts the cards that the rank sees."""
    requested: int | None = None
    total: int | None = None
    free: int | None = None
    allocated: int | None = None
    reserved: int | None = None
    """Allocated and what torch's allocator keeps beside it."""
    others: int | None = None
    """Used on the card by another process."""

    @property
    def fragmented(self) -> bool:
        """True when the allocator keeps more than was asked for, in pieces too small for it."""
        if self.reserved is None or self.allocated is None or not self.requested:
            return False
        return self.reserved - self.allocated >= self.requested


@dataclass(frozen=True, slots=True)
class Batch:
    """What decides the memory of a step."""

    per_device_train_batch_size: int
    gradient_accumulation_steps: int
    gradient_checkpointing: bool
    num_gpus: int

    @property
    def effective(self) -> int:
        """Rows per optimizer step, all cards together."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps * self.num_gpus


def read_shortage(text: str, *, allocated: int | None = None, reserved: int | None = None) -> Shortage:
    """The figures of torch's message, in the wordings of torch 1.0 to 2.13; the allocator's own where it has none."""
    sizes = {name: _size(pattern, text) for name, pattern in _SIZES.items()}
    unallocated = sizes.pop("unallocated")
    if sizes["allocated"] is None:
        sizes |= {"allocated": allocated, "reserved": reserved}
    elif sizes["reserved"] is None and unallocated is not None:
        sizes["reserved"] = sizes["allocated"] + unallocated
    card = _CARD.search(text)
    return Shortage(card=int(card[1]) if card else None, **sizes)


def _size(pattern: str, text: str) -> int | None:
    found = re.search(pattern, text)
    if not found:
        return None
    number, unit = (part for part in found.groups() if part is not None)
    return int(float(number) * _UNITS[unit]) if number.count(".") <= 1 and number != "." else None


def smaller(batch: Batch) -> Batch | None:
    """The next setting that needs less memory for the same rows per step; None when there is none.

    The batch goes down to the half of it, or to the next number below that divides the rows; at 1 the activations are
    recomputed instead of kept.
    """
    size, rows = (
        batch.per_device_train_batch_size,
        batch.per_device_train_batch_size * batch.gradient_accumulation_steps,
    )
    for less in range(size // 2, 0, -1):
        if rows % less == 0:
            return replace(batch, per_device_train_batch_size=less, gradient_accumulation_steps=rows // less)
    return None if batch.gradient_checkpointing else replace(batch, gradient_checkpointing=True)


def as_flags(now: Batch, then: Batch) -> str:
    """The difference of two settings as `--set …` words."""
    names = ("per_device_train_batch_size", "gradient_accumulation_steps", "gradient_checkpointing")
    changed = [name for name in names if getattr(now, name) != getattr(then, name)]
    return " ".join(f"--set train.{name}={str(getattr(then, name)).lower()}" for name in changed)


def gib(size: float) -> str:
    """Bytes as people read them: `14.9 GiB`, `812 MiB`."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"

"""What torch says when a card's memory runs out, and the nearest batch that needs less."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace

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
    size = batch.per_device_train_batch_size
    found = same_rows(size * batch.gradient_accumulation_steps, ranks=1, largest=size // 2)
    if found is not None:
        return replace(batch, per_device_train_batch_size=found[0], gradient_accumulation_steps=found[1])
    return None if batch.gradient_checkpointing else replace(batch, gradient_checkpointing=True)


def same_rows(rows: int, *, ranks: int, largest: int) -> tuple[int, int] | None:
    """The largest batch up to `largest` whose accumulation gives `rows` per optimizer step; None without one."""
    sizes = (size for size in range(largest, 0, -1) if rows % (ranks * size) == 0)
    return next(((size, rows // (ranks * size)) for size in sizes), None)


def changed_keys(now: Batch, then: Batch) -> dict[str, int | bool]:
    """Dotted keys of a spec with the values in which `then` differs."""
    after = asdict(then)
    return {f"train.{name}": after[name] for name, value in asdict(now).items() if value != after[name]}


def as_flags(now: Batch, then: Batch) -> str:
    """The difference of two settings as `--set …` words."""
    return " ".join(f"--set {key}={str(value).lower()}" for key, value in changed_keys(now, then).items())


def gib(size: float) -> str:
    """Bytes as people read them: `14.9 GiB`, `812 MiB`."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"

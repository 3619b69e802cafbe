"""torch's CUDA caching allocator on paper: how many bytes its blocks and segments take for a given order of requests.

Source: c10/cuda/CUDACachingAllocator.cpp of torch 2.11, default settings (no maximum split size, one stream). Segments
are never given back here: on a card that happens only when a request would fail.
"""

from __future__ import annotations

from bisect import bisect_left, insort

MIB = 2**20
ROUNDING = 512
SMALL_REQUEST, SMALL_SEGMENT = MIB, 2 * MIB
LARGE_SEGMENT, OWN_SEGMENT_FROM = 20 * MIB, 10 * MIB
SEGMENT_ROUNDING = 2 * MIB
LARGE_REMAINDER = MIB
"""A large block is split only when more than this would be left."""


class Block:
    """A piece of a segment; `before` and `after` are its neighbours there."""

    __slots__ = ("address", "after", "before", "free", "size", "small")

    def __init__(self, address: int, size: int, *, small: bool) -> None:
        self.address, self.size, self.small = address, size, small
        self.free = False
        self.before: Block | None = None
        self.after: Block | None = None

    def __lt__(self, other: Block) -> bool:
        return (self.size, self.address) < (other.size, other.address)


class Allocator:
    """Blocks handed out and segments taken, in bytes. Addresses are made up: they only order blocks of one size."""

    def __init__(self) -> None:
        self.allocated = 0
        self.reserved = 0
        self.peak = 0
        """Highest `allocated` since the last `reset_peak`."""
        self._large: list[Block] = []
        self._small: list[Block] = []
        self._next_address = 1 << 40
        self._wanted = Block(0, 0, small=False)

    def malloc(self, request: int) -> Block:
        """Hand out a block for so many bytes."""
        size = -(-request // ROUNDING) * ROUNDING
        small = size <= SMALL_REQUEST
        pool = self._small if small else self._large
        self._wanted.size = size
        place = bisect_left(pool, self._wanted)
        block = pool.pop(place) if place < len(pool) else self._new_segment(size, small=small)
        left = block.size - size
        if left >= ROUNDING if small else left > LARGE_REMAINDER:
            rest = Block(block.address + size, left, small=small)
            rest.free = True
            rest.before, rest.after = block, block.after
            if block.after is not None:
                block.after.before = rest
            block.after, block.size = rest, size
            insort(pool, rest)
        block.free = False
        self.allocated += block.size
        self.peak = max(self.peak, self.allocated)
        return block

    def free(self, block: Block) -> None:
        """Take a block back and join it with its free neighbours."""
        self.allocated -= block.size
        pool = self._small if block.small else self._large
        if block.before is not None and block.before.free:
            before = block.before
            del pool[bisect_left(pool, before)]
            block = _joined(before, block)
        if block.after is not None and block.after.free:
            del pool[bisect_left(pool, block.after)]
            block = _joined(block, block.after)
        block.free = True
        insort(pool, block)

    def reset_peak(self) -> None:
        """Look for the highest `allocated` from now on."""
        self.peak = self.allocated

    def _new_segment(self, size: int, *, small: bool) -> Block:
        if small:
            taken = SMALL_SEGMENT
        elif size < OWN_SEGMENT_FROM:
            taken = LARGE_SEGMENT
        else:
            taken = -(-size // SEGMENT_ROUNDING) * SEGMENT_ROUNDING
        self.reserved += taken
        block = Block(self._next_address, taken, small=small)
        self._next_address += taken + (1 << 30)  # never a neighbour
        return block


def _joined(first: Block, second: Block) -> Block:
    first.size += second.size
    first.after = second.after
    if second.after is not None:
        second.after.before = first
    return first

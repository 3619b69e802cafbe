"""The events on one card: storages are born and die, each on a stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Literal, NamedTuple

BF16, FP32, FP64 = 2, 4, 8
"""Bytes of an element."""
COMPUTE, GATHER, REDUCE = 0, 1, 2
"""Streams. The caching allocator keeps a pool of segments for each."""
EMPTY_CACHE = "empty_cache"
Part = Literal["weights", "gradients", "optimizer", "buckets"]
"""What a storage of the engine is for."""


class Event(NamedTuple):
    """A birth (+1), a death (-1), or a mark (0): `empty_cache`, `init`, or the phase of a step, as in `forward 0`."""

    kind: int
    key: object
    size: int = 0
    stream: int = COMPUTE


@dataclass
class Card:
    """The events of one card so far."""

    events: list[Event] = field(default_factory=list)
    _stream_of: dict[object, int] = field(default_factory=dict)
    _serial: Iterator[int] = field(default_factory=count)

    def born(self, size: int, stream: int = COMPUTE, *, part: Part = "gradients", key: object = None) -> object:
        """A new storage of `size` bytes; returns its key, by default one of the engine's that tells its part."""
        key = ("engine", part, next(self._serial)) if key is None else key
        self._stream_of[key] = stream
        self.events.append(Event(1, key, size, stream))
        return key

    def dies(self, *keys: object) -> None:
        """Free storages; None and keys already free are skipped."""
        for key in keys:
            if key in self._stream_of:
                self.events.append(Event(-1, key, 0, self._stream_of.pop(key)))

    def blip(self, size: int, stream: int = COMPUTE) -> None:
        """A temporary: born and freed at once."""
        self.dies(self.born(size, stream))

    def lives(self, key: object) -> bool:
        """Whether a storage with this key is allocated."""
        return key in self._stream_of

    def mark(self, name: str) -> None:
        """Note a place in the order of events."""
        self.events.append(Event(0, name))

    def empty_cache(self) -> None:
        """Segments without a living block go back to the driver."""
        self.mark(EMPTY_CACHE)

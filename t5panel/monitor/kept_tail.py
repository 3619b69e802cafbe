"""A file of a run that is read once: from where the last reader came to, and what was made of it kept for the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from t5panel.monitor.bookmark import WORTH_KEEPING, Mark, Place, keep_bookmark, read_bookmark
from t5panel.monitor.tail import Tail

if TYPE_CHECKING:
    from array import array

    Keeping = Callable[[Place], tuple[Mark, tuple[array[Any], ...]]]
    """What was made of all lines before a place: the mark, and its arrays."""

M = TypeVar("M", bound=Mark)


class KeptTail:
    """New whole lines of a file, a block at a time, with a bookmark beside the run."""

    def __init__(self, source: Path, bookmark: Path) -> None:
        self._tail = Tail(source)
        self._bookmark = bookmark
        self._kept = 0
        """Bytes that a bookmark holds, or that none can be written of."""

    def found(self, kind: type[M]) -> tuple[M, list[array[Any]]] | None:
        """What another reader made of this very file."""
        return read_bookmark(self._bookmark, self._tail.path, kind)

    def go_on(self, place: Place) -> None:
        """Read from there on: what was made of all before is known."""
        self._tail = Tail(self._tail.path, inode=place.inode, offset=place.offset)
        self._kept = place.offset

    def blocks(self, add: Callable[[bytes, int], None], keeping: Keeping) -> Iterator[None]:
        """Give `add` all that is new, a block and its place at each step; keep what was made where it is worth it."""
        while block := self._tail.read():
            add(block, self._tail.offset - len(block))
            yield
            self._keep(max(WORTH_KEEPING, self._kept), keeping)
        self._keep(WORTH_KEEPING, keeping)

    @property
    def unread(self) -> float:
        """The share of the file that is still to be read."""
        return self._tail.unread

    def _keep(self, worth: int, keeping: Keeping) -> None:
        if self._tail.offset - self._kept >= worth:
            self._kept = self._tail.offset
            keep_bookmark(self._bookmark, self._tail, keeping)

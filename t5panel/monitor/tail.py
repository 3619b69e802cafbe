"""Follow files that others append to: whole lines only, at most a block at a time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

BLOCK = 1 << 20


class Tail:
    """A file's new whole lines since the last call. A torn last line waits for its end; a replaced file starts anew."""

    def __init__(self, path: Path, *, from_end: bool = False, inode: int | None = None, offset: int = 0) -> None:
        """Follow a file from its start, from its present end, or, when it has this inode, from a line's first byte."""
        self.path = path
        self._offset = offset
        self._inode = inode
        if from_end and path.exists():
            stat = path.stat()
            self._offset, self._inode = stat.st_size, stat.st_ino

    @property
    def inode(self) -> int | None:
        """Of the file that was read; None while there was none."""
        return self._inode

    @property
    def offset(self) -> int:
        """Where the next byte to read stands in the file."""
        return self._offset

    @property
    def unread(self) -> float:
        """The share of the file that stands after the last line read; none while that is less than a block."""
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            return 0.0
        return 1 - self._offset / size if size - self._offset > BLOCK else 0.0

    def read(self) -> bytes:
        """The next bytes up to the last newline, at most one block (more only for a longer line); empty when none."""
        try:
            with self.path.open("rb") as file:
                return self._read_from(file)
        except FileNotFoundError:
            return b""

    def lines(self) -> list[bytes]:
        """All new whole lines."""
        found: list[bytes] = []
        while block := self.read():
            found += block.splitlines()
        return found

    def _read_from(self, file: BinaryIO) -> bytes:
        stat = os.fstat(file.fileno())
        if stat.st_ino != self._inode or stat.st_size < self._offset:
            self._inode, self._offset = stat.st_ino, 0
        if stat.st_size == self._offset:
            return b""
        file.seek(self._offset)
        size, block = BLOCK, file.read(BLOCK)
        while b"\n" not in block and len(block) == size:
            size += BLOCK
            block += file.read(BLOCK)
        whole = block[: block.rfind(b"\n") + 1]
        self._offset += len(whole)
        return whole


def last_lines(path: Path, count: int, *, limit: int = 64 * 1024) -> tuple[str, ...]:
    """The last lines of a text file, reading at most `limit` bytes; each as a terminal would leave it after `\\r`."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - limit))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ()
    lines = text.split("\n")[:-1] if text.endswith("\n") else text.split("\n")
    return tuple(line.rstrip("\r").rsplit("\r", 1)[-1] for line in lines[-count:])

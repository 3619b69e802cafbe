"""A log in parts of whole lines, from its end or from anywhere in it. However long it is, it is never read whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

PART = 128 * 1024
"""Bytes on each side of the place that is looked at."""
BLOCK = 1 << 20
"""Bytes searched at once."""


@dataclass(frozen=True, slots=True)
class LogPart:
    """Lines after one another, as a terminal would leave them after `\\r`. Offsets in bytes of the file."""

    lines: tuple[str, ...]
    offsets: tuple[int, ...]
    """Where each line begins."""
    begin: int
    end: int
    """Just behind the last line."""
    size: int
    """Of the file when it was read."""


NO_PART = LogPart((), (), 0, 0, 0)


def log_end(path: Path) -> LogPart:
    """The last lines; the one that is still being written too."""
    return _part(path, None, None)


def log_size(path: Path) -> int:
    """Bytes of a log; none when it is missing."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def log_around(path: Path, offset: int) -> LogPart:
    """Lines before and after a place where one begins."""
    return _part(path, offset, offset)


def found_before(path: Path, words: str, offset: int) -> int | None:
    """Where the last line begins that holds these words, in any case, and stands before a place; None without any."""
    needle = words.casefold()
    try:
        with path.open("rb") as file:
            for at, block in _blocks_before(file, offset):
                if needle in block.decode(errors="replace").casefold():
                    hits = [begin for begin, line in _lines(at, block) if needle in line.casefold()]
                    if hits:
                        return hits[-1]
    except FileNotFoundError:
        return None
    return None


def found_after(path: Path, words: str, offset: int) -> int | None:
    """Where the first line begins that holds these words and stands after the one at a place; None without any."""
    needle = words.casefold()
    try:
        with path.open("rb") as file:
            file.seek(offset)
            file.readline()
            while lines := file.readlines(BLOCK):
                at, block = file.tell() - sum(map(len, lines)), b"".join(lines)
                if needle in block.decode(errors="replace").casefold():
                    for begin, line in _lines(at, block):
                        if needle in line.casefold():
                            return begin
    except FileNotFoundError:
        return None
    return None


def _part(path: Path, before: int | None, after: int | None) -> LogPart:
    """Lines up to one place, and on from the other; None: the end of the file, and nothing."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            end = size if before is None else min(before, size)
            begin, block = _ending_at(file, end, PART)
            if after is not None and end < size:
                file.seek(end)
                more = file.read(PART)
                cut = more.rfind(b"\n") + 1
                block += more[: cut or None] if end + len(more) < size else more
    except FileNotFoundError:
        return NO_PART
    found = list(_lines(begin, block))
    return LogPart(tuple(line for _, line in found), tuple(at for at, _ in found), begin, begin + len(block), size)


def _ending_at(file: BinaryIO, end: int, limit: int) -> tuple[int, bytes]:
    """Whole lines that end at a place, so many bytes at most: of a longer one its end."""
    begin = max(0, end - limit)
    file.seek(begin)
    block = file.read(end - begin)
    cut = block.find(b"\n") + 1
    return (begin + cut, block[cut:]) if begin and 0 < cut < len(block) else (begin, block)


def _blocks_before(file: BinaryIO, end: int) -> Iterator[tuple[int, bytes]]:
    """Blocks of whole lines, the last one first, each with its place."""
    while end > 0:
        begin, block = _ending_at(file, end, BLOCK)
        yield begin, block
        end = begin


def _lines(begin: int, block: bytes) -> Iterator[tuple[int, str]]:
    """Each line of a block and where it begins."""
    for raw in _kept(block):
        yield begin, raw.rstrip(b"\r\n").rsplit(b"\r", 1)[-1].decode(errors="replace")
        begin += len(raw)


def _kept(block: bytes) -> Iterator[bytes]:
    """Lines by `\\n` alone, each with it: what a progress bar writes over and over is one line."""
    at = 0
    while at < len(block):
        end = block.find(b"\n", at) + 1 or len(block)
        yield block[at:end]
        at = end

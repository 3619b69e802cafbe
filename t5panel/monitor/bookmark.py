"""How far a file of a run was read and what was made of it, kept beside the run for the next reader.

A derived file: whoever reads a long run may replace it, anyone may delete it. It is used only for the very file it was
made of, and only whole: its checksum stands last.
"""

from __future__ import annotations

import os
import sys
import zlib
from array import array
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

import msgspec

from t5panel.monitor.tail import Tail

MAGIC = b"t5panel bookmark 4 " + sys.byteorder.encode() + b"\n"
"""Another version, or another byte order, is another file."""
WORTH_KEEPING = 1 << 25
"""Bytes read since the bookmark that are worth a new one. Measured: reading them takes 0.25 s, writing one 0.03 s."""
WORD = 4
LONGEST_HEAD = 1 << 24
PROOF = 4096
"""Bytes at the start of a file, and before the place, that have to be as they were."""


M = TypeVar("M", bound="Mark")


class Place(msgspec.Struct, frozen=True):
    """A byte in a file that grows, and what tells that file from any other."""

    inode: int
    offset: int
    size: int
    changed: int
    """In nanoseconds; while the file has this size it has this time."""
    proof: int


class Mark(Protocol):
    """What was made of all lines before a place."""

    @property
    def place(self) -> Place:
        """Where the next reader goes on."""


class _Head(msgspec.Struct, frozen=True):
    mark: msgspec.Raw
    codes: str
    lengths: tuple[int, ...]


def place_in(path: Path, inode: int | None, offset: int) -> Place | None:
    """The place of a byte in a file; None when it is not the file with this inode any more.

    Raises: OSError when it cannot be read.
    """
    with path.open("rb") as file:
        stat = os.fstat(file.fileno())
        if stat.st_ino != inode or stat.st_size < offset:
            return None
        return Place(stat.st_ino, offset, stat.st_size, stat.st_mtime_ns, _proof(file, offset))


def stands(path: Path, place: Place) -> bool:
    """Whether a file is the one of a place, and no byte before the place is known to be another.

    Raises: OSError when it cannot be read.
    """
    now = place_in(path, place.inode, place.offset)
    if now is None or now.proof != place.proof:
        return False
    return now.size > place.size or (now.size, now.changed) == (place.size, place.changed)


def keep_bookmark(path: Path, tail: Tail, keeping: Callable[[Place], tuple[Mark, Sequence[array[Any]]]]) -> None:
    """Keep what was made of a file up to where its tail came; where nothing can be written the next reader starts anew.

    The draft is not synced: after a power cut the checksum tells.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        place = place_in(tail.path, tail.inode, tail.offset)
        if place is None:
            return
        path.parent.mkdir(exist_ok=True)
        with draft.open("wb") as file:
            _write(file, *keeping(place))
        draft.replace(path)
    except OSError:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def read_bookmark(path: Path, source: Path, kind: type[M]) -> tuple[M, list[array[Any]]] | None:
    """What was kept of `source`; None when it is missing, torn, broken, of another version or of another file."""
    try:
        with path.open("rb") as file:
            found = _read(file, kind)
        return found if found is not None and stands(source, found[0].place) else None
    except (OSError, EOFError, msgspec.DecodeError):
        return None


def _write(file: BinaryIO, mark: Mark, arrays: Sequence[array[Any]]) -> None:
    codes, lengths = "".join(values.typecode for values in arrays), tuple(map(len, arrays))
    head = msgspec.msgpack.encode(_Head(msgspec.Raw(msgspec.msgpack.encode(mark)), codes, lengths))
    parts: list[bytes | memoryview] = [MAGIC, len(head).to_bytes(WORD, "little"), head]
    parts += [memoryview(values) for values in arrays]
    check = 0
    for part in parts:
        check = zlib.crc32(part, check)
        file.write(part)
    file.write(check.to_bytes(WORD, "little"))


def _read(file: BinaryIO, kind: type[M]) -> tuple[M, list[array[Any]]] | None:
    front = file.read(len(MAGIC) + WORD)
    length = int.from_bytes(front[len(MAGIC) :], "little")
    if not front.startswith(MAGIC) or length > LONGEST_HEAD:
        return None
    packed = file.read(length)
    head = msgspec.msgpack.decode(packed, type=_Head)
    if not set(head.codes) <= set("qfd") or len(head.codes) != len(head.lengths):
        return None
    arrays: list[array[Any]] = [array(code) for code in head.codes]
    sizes = [values.itemsize * length for values, length in zip(arrays, head.lengths, strict=True)]
    if min(sizes, default=0) < 0 or file.tell() + sum(sizes) + WORD != os.fstat(file.fileno()).st_size:
        return None
    check = zlib.crc32(packed, zlib.crc32(front))
    for values, length in zip(arrays, head.lengths, strict=True):
        values.fromfile(file, length)
        check = zlib.crc32(values, check)
    if file.read() != check.to_bytes(WORD, "little"):
        return None
    return msgspec.msgpack.decode(head.mark, type=kind), arrays


def _proof(file: BinaryIO, offset: int) -> int:
    head = file.read(min(PROOF, offset))
    file.seek(max(0, offset - PROOF))
    return zlib.crc32(file.read(min(PROOF, offset)), zlib.crc32(head))

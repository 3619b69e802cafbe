"""How far a run's metrics were read and what was made of them, kept beside the run for the next reader.

A derived file: whoever reads a long run may replace it, anyone may delete it. It is used only for the very file it was
made of, and only whole: its checksum stands last.
"""

from __future__ import annotations

import os
import sys
import zlib
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from t5panel.contract.records import Checkpoint, Evaluation, Start, Step

MAGIC = b"t5panel bookmark 2 " + sys.byteorder.encode() + b"\n"
"""Another version, or another byte order, is another file."""
WORD = 4
LONGEST_HEAD = 1 << 24
PROOF = 4096
"""Bytes at the start of a file, and before the place, that have to be as they were."""


class Place(msgspec.Struct, frozen=True):
    """A byte in a file that grows, and what tells that file from any other."""

    inode: int
    offset: int
    size: int
    changed: int
    """In nanoseconds; while the file has this size it has this time."""
    proof: int


class Bookmark(msgspec.Struct, frozen=True):
    """What was made of all lines before a place, the arrays of the steps and pieces apart."""

    place: Place
    first_kept: int
    """The row that the arrays' first whole row is."""
    start: Start | None
    last: Step | None
    recent: tuple[Step, ...]
    evaluations: tuple[Evaluation, ...]
    checkpoint: Checkpoint | None
    rejected: int


class _Head(msgspec.Struct, frozen=True):
    bookmark: Bookmark
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


def write_bookmark(path: Path, bookmark: Bookmark, arrays: Sequence[array[Any]]) -> None:
    """Replace the file at `path`. Not durable: after a power cut the checksum tells.

    Raises: OSError.
    """
    codes, lengths = "".join(values.typecode for values in arrays), tuple(map(len, arrays))
    head = msgspec.msgpack.encode(_Head(bookmark, codes, lengths))
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("wb") as file:
            check = 0
            parts: list[bytes | memoryview] = [MAGIC, len(head).to_bytes(WORD, "little"), head]
            parts += [memoryview(values) for values in arrays]
            for part in parts:
                check = zlib.crc32(part, check)
                file.write(part)
            file.write(check.to_bytes(WORD, "little"))
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def read_bookmark(path: Path) -> tuple[Bookmark, list[array[Any]]] | None:
    """What `write_bookmark` wrote; None for a file that is missing, torn, broken or of another version."""
    try:
        with path.open("rb") as file:
            return _read(file)
    except (OSError, EOFError, msgspec.DecodeError):
        return None


def _read(file: BinaryIO) -> tuple[Bookmark, list[array[Any]]] | None:
    front = file.read(len(MAGIC) + WORD)
    length = int.from_bytes(front[len(MAGIC) :], "little")
    if not front.startswith(MAGIC) or length > LONGEST_HEAD:
        return None
    packed = file.read(length)
    head = msgspec.msgpack.decode(packed, type=_Head)
    if not set(head.codes) <= set("qf") or len(head.codes) != len(head.lengths):
        return None
    arrays: list[array[Any]] = [array(code) for code in head.codes]
    sizes = [values.itemsize * length for values, length in zip(arrays, head.lengths, strict=True)]
    if min(sizes, default=0) < 0 or file.tell() + sum(sizes) + WORD != os.fstat(file.fileno()).st_size:
        return None
    check = zlib.crc32(packed, zlib.crc32(front))
    for values, length in zip(arrays, head.lengths, strict=True):
        values.fromfile(file, length)
        check = zlib.crc32(values, check)
    return (head.bookmark, arrays) if file.read() == check.to_bytes(WORD, "little") else None


def _proof(file: BinaryIO, offset: int) -> int:
    head = file.read(min(PROOF, offset))
    file.seek(max(0, offset - PROOF))
    return zlib.crc32(file.read(min(PROOF, offset)), zlib.crc32(head))

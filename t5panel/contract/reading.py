"""Records from files of lines: whole blocks at a time; lines that are none, which a dying writer may leave, apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

R = TypeVar("R")
BLOCK = 1 << 20
"""Bytes decoded at once."""


def records_in(path: Path, decoder: msgspec.json.Decoder[R]) -> Iterator[R]:
    """The records of a file in constant memory; lines that are none and a torn last one are left out.

    Without the file there is none. Raises: OSError when it cannot be read.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        while lines := file.readlines(BLOCK):
            block = b"".join(lines)
            yield from decoded(block[: block.rfind(b"\n") + 1], decoder)[0]


def decoded(block: bytes, decoder: msgspec.json.Decoder[R]) -> tuple[list[R], int]:
    """The records of whole lines, and how many lines are none."""
    try:
        return decoder.decode_lines(block), 0
    except msgspec.DecodeError:
        return _decoded_singly(block.splitlines(), decoder)


def _decoded_singly(lines: Sequence[bytes], decoder: msgspec.json.Decoder[R]) -> tuple[list[R], int]:
    good = []
    for line in lines:
        try:
            good.append(decoder.decode(line))
        except msgspec.DecodeError:
            continue
    return good, len(lines) - len(good)
